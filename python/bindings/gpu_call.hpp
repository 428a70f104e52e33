// What every CUDA binding does: where the work is queued, scratch memory of the caller's library,
// arrays of figures.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "dlpack.hpp"
#include "gramian/cuda/queue.hpp"
#include "gramian/workspace.hpp"
#include "results.hpp"

namespace gramian::python {

/// cudaStreamLegacy (1) and cudaStreamPerThread (2) are names for streams, not addresses: whatever
/// the library calls its current stream goes through as it is.
inline cuda::Queue queue_of(int device, std::uintptr_t stream) {
  return {device, reinterpret_cast<cudaStream_t>(stream)};
}

/// Released on destruction, while the work may still be queued. That is sound because the stream is
/// the caller's current one: the allocators of torch and CuPy hand freed memory out again in the
/// order of that stream, and drivers' own frees wait for the device.
class DeviceMemory {
 public:
  /// `allocate(bytes)` returns a DLPack capsule of so many bytes on the device.
  DeviceMemory(std::size_t bytes, const Place& place, const py::function& allocate) {
    if (bytes == 0) return;
    const py::object capsule = allocate(bytes);
    if (!memory_.consume(capsule.ptr()))
      throw py::type_error("allocate must return a DLPack capsule");
    workspace_ = {memory_.scratch("workspace", bytes, place), bytes};
  }

  Workspace workspace() const { return workspace_; }

 private:
  Array memory_;
  Workspace workspace_;
};

/// An array of one figure for each matrix of the batch, adjacent in memory.
inline ArrayRef gapless_figures(const Array& from, const char* name, const ArrayRef& of,
                                const Place& place) {
  ArrayRef into = from.ref(name, figures_of(of.dtype), true, place);
  index_t gapless = 1;
  bool adjacent = true;
  for (std::size_t d = into.shape.size(); d-- > 0;) {
    adjacent = adjacent && (into.shape[d] == 1 || into.strides[d] == gapless);
    gapless *= into.shape[d];
  }
  if (into.shape.size() + 2 != of.shape.size() ||
      !std::equal(into.shape.begin(), into.shape.end(), of.shape.begin()) ||
      (gapless > 0 && !adjacent))
    throw py::value_error(std::string(name) +
                          " must hold one figure for each matrix, without gaps");
  return into;
}

}  // namespace gramian::python
