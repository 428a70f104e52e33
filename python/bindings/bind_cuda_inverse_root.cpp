// gramian._cuda: inverse roots and square roots.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "dlpack.hpp"
#include "gpu_call.hpp"
#include "gramian/cuda/inverse_root.hpp"
#include "released_gil.hpp"

namespace gramian::python {

namespace {

py::tuple inverse_root(const Array& a, const std::optional<Array>& root, const Array& inverse,
                       const std::string& dtype, int p, double ridge, double tol, bool check_finite,
                       bool wait, const std::optional<Array>& residual,
                       const std::optional<Array>& condition, const std::optional<Array>& largest,
                       int device, std::uintptr_t stream, const py::function& allocate) {
  const Place place = gpu(device);
  const DType type = dtype_from_name(dtype);
  const ArrayRef in = a.ref("a", type, false, place);
  if (in.shape.size() < 2 || in.shape.back() != in.shape[in.shape.size() - 2])
    throw py::value_error("a must hold square matrices");
  if (p < 1 || p > largest_iterated_root)
    throw py::value_error("p is " + std::to_string(p) + "; it must be from 1 to 8");
  const auto result = [&](const Array& from) {
    ArrayRef out = from.ref("out", type, true, place);
    if (out.shape != in.shape) throw py::value_error("out must have a's shape");
    return out;
  };
  const ArrayRef to = result(inverse);
  ArrayRef to_root;
  if (root) {
    to_root = result(*root);
    if (p != 2 || ridge != 0) throw py::value_error("square roots are for p = 2 and no ridge");
    const bool empty = batch_size(in) == 0 || in.shape.back() == 0;
    if (!empty && overlaps(to_root, to))
      throw py::value_error("out holds two arrays that may share memory; each must be its own");
  }
  const auto take_figures = [&](const std::optional<Array>& from, const char* name) {
    return from ? gapless_figures(*from, name, in, place) : ArrayRef{};
  };
  const InverseRootInfo info{take_figures(residual, "residual"),
                             take_figures(condition, "condition"),
                             take_figures(largest, "largest")};
  const cuda::RootOptions options{p, ridge, tol, check_finite, wait};
  const ArrayRef* const second = root ? &to_root : nullptr;
  const cuda::Queue queue = queue_of(device, stream);
  std::size_t bytes = 0;
  {
    const ReleasedGil released;
    bytes = cuda::inverse_root_workspace(queue, in, second, to, options, info);
  }
  const DeviceMemory memory(bytes, place, allocate);
  cuda::RootOutcome outcome;
  Status status = Status::ok;
  {
    const ReleasedGil released;
    status = cuda::inverse_root(queue, in, second, to, options, info, memory.workspace(), outcome);
  }
  raise_for(status, "a");
  return py::make_tuple(outcome.steps, outcome.missed);
}

}  // namespace

void bind_cuda_inverse_root(py::module_& m) {
  m.def("inverse_root", &inverse_root, py::arg("a"), py::arg("root").none(true), py::arg("inverse"),
        py::arg("dtype"), py::arg("p"), py::arg("ridge"), py::arg("tol"), py::arg("check_finite"),
        py::arg("wait"), py::arg("residual").none(true), py::arg("condition").none(true),
        py::arg("largest").none(true), py::arg("device"), py::arg("stream"), py::arg("allocate"),
        "Queues the work that fills the results, and the square root where that is asked for; the "
        "most steps of a matrix and which of the matrices have no answer and became NaN, if it "
        "was to wait for them. allocate(bytes) returns a capsule of so many bytes on the device.");
}

}  // namespace gramian::python
