// gramian._cuda: bounds on the spectral norm.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "bounds_methods.hpp"
#include "dlpack.hpp"
#include "gpu_call.hpp"
#include "gramian/cuda/bounds.hpp"
#include "released_gil.hpp"
#include "results.hpp"

namespace gramian::python {

namespace {

ArrayRef matrices(const Array& a, const std::string& dtype, const Place& place) {
  ArrayRef in = a.ref("a", dtype_from_name(dtype), false, place);
  if (in.shape.size() < 2) throw py::value_error("a must have at least 2 dimensions");
  return in;
}

}  // namespace

void bind_cuda_bounds(py::module_& m) {
  m.def(
      "gram_bound",
      [](const Array& a, const Array& bound, const std::string& dtype, int steps, bool check_finite,
         int device, std::uintptr_t stream, const py::function& allocate) {
        const Place place = gpu(device);
        const ArrayRef in = matrices(a, dtype, place);
        const ArrayRef out = gapless_figures(bound, "out", in, place);
        const cuda::Queue queue = queue_of(device, stream);
        std::size_t bytes = 0;
        {
          const ReleasedGil released;
          bytes = cuda::gram_bound_workspace(queue, in, steps);
        }
        const DeviceMemory memory(bytes, place, allocate);
        Status status = Status::ok;
        {
          const ReleasedGil released;
          status = cuda::gram_bound(queue, in, steps, check_finite, out, memory.workspace());
        }
        raise_for(status, "a");
      },
      py::arg("a"), py::arg("out"), py::arg("dtype"), py::arg("n_iter"), py::arg("check_finite"),
      py::arg("device"), py::arg("stream"), py::arg("allocate"),
      "Queues the work that fills out (no gaps), one figure for each matrix of a.");

  m.def(
      "spectral_norm_bounds",
      [](const Array& a, const std::string& dtype, double rtol, const std::string& method,
         std::uint64_t seed, bool check_finite, const std::optional<Array>& lower,
         const std::optional<Array>& upper, const std::optional<Array>& converged,
         const std::optional<Array>& estimate, const std::optional<Array>& stable_rank, int device,
         std::uintptr_t stream, const py::function& allocate) {
        const Place place = gpu(device);
        const ArrayRef in = matrices(a, dtype, place);
        const auto take = [&](const std::optional<Array>& from, const char* name) {
          return from ? gapless_figures(*from, name, in, place) : ArrayRef{};
        };
        const BoundsOptions options{rtol, method_from(method), seed, check_finite};
        Bracket out{take(lower, "lower"), take(upper, "upper"), take(converged, "converged"),
                    take(estimate, "out"), take(stable_rank, "out")};
        const cuda::Queue queue = queue_of(device, stream);
        std::size_t bytes = 0;
        {
          const ReleasedGil released;
          bytes = cuda::spectral_norm_bounds_workspace(queue, in, options.method);
        }
        const DeviceMemory memory(bytes, place, allocate);
        Status status = Status::ok;
        {
          const ReleasedGil released;
          status = cuda::spectral_norm_bounds(queue, in, options, out, memory.workspace());
        }
        raise_for(status, "a");
        return py::make_tuple(out.iterations, name_of(out.method));
      },
      py::arg("a"), py::arg("dtype"), py::arg("rtol"), py::arg("method"), py::arg("seed"),
      py::arg("check_finite"), py::arg("lower").none(true), py::arg("upper").none(true),
      py::arg("converged").none(true), py::arg("estimate").none(true),
      py::arg("stable_rank").none(true), py::arg("device"), py::arg("stream"), py::arg("allocate"),
      "Fills the arrays given (no gaps), one figure for each matrix of a; returns (iterations, "
      "method). Waits for the stream.");
}

}  // namespace gramian::python
