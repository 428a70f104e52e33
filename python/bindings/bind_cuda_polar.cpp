// gramian._cuda: functions of singular values.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "dlpack.hpp"
#include "gpu_call.hpp"
#include "gramian/cuda/polar.hpp"
#include "released_gil.hpp"

namespace gramian::python {

namespace {

cuda::PolarCall::Kind to_kind(const std::string& name) {
  if (name == "polar") return cuda::PolarCall::polar;
  if (name == "sign") return cuda::PolarCall::sign;
  if (name == "hard") return cuda::PolarCall::hard;
  if (name == "soft") return cuda::PolarCall::soft;
  throw py::value_error("unknown function " + name);
}

void polar(const std::string& kind, const Array& x, const Array& out,
           const std::optional<Array>& hermitian, const std::string& dtype, bool right,
           double tolerance, double bound, bool lose_unconverged, bool check_finite,
           const std::optional<Array>& figures, int device, std::uintptr_t stream,
           const py::function& allocate) {
  const Place place = gpu(device);
  const DType type = dtype_from_name(dtype);
  cuda::PolarCall call;
  call.kind = to_kind(kind);
  call.x = x.ref("x", type, false, place);
  call.out = out.ref("out", type, true, place);
  if (call.x.shape.size() < 2 || call.x.shape != call.out.shape)
    throw py::value_error("x and out must be matrices of one shape");
  if (hermitian) {
    call.p = hermitian->ref("hermitian", type, true, place);
    auto shape = call.x.shape;
    const auto last = shape.size() - 1;
    shape[last] = shape[last - 1] = right ? shape[last] : shape[last - 1];
    if (call.p.shape != shape) throw py::value_error("hermitian has another shape");
    const auto has_entries = [](const ArrayRef& a) {
      return std::find(a.shape.begin(), a.shape.end(), index_t{0}) == a.shape.end();
    };
    if (has_entries(call.out) && has_entries(call.p) && overlaps(call.out, call.p))
      throw py::value_error("out[0] and out[1] may share memory; each needs its own");
  }
  if (figures) {
    call.figures = figures->ref("figures", DType::float64, true, place);
    if (call.figures.shape != std::vector<index_t>{batch_size(call.x), cuda::polar_figure_count} ||
        (call.figures.shape[0] > 1 && call.figures.strides[0] != cuda::polar_figure_count) ||
        call.figures.strides[1] != 1)
      throw py::value_error("figures must be five numbers for each matrix, without gaps");
  }
  call.side = right ? Side::right : Side::left;
  call.tolerance = tolerance;
  call.bound = bound;
  call.lose_unconverged = lose_unconverged;
  call.check_finite = check_finite;

  const cuda::Queue queue = queue_of(device, stream);
  std::size_t bytes = 0;
  {
    const ReleasedGil released;
    bytes = cuda::polar_workspace(queue, call);
  }
  const DeviceMemory memory(bytes, place, allocate);
  Status status = Status::ok;
  {
    const ReleasedGil released;
    status = cuda::polar(queue, call, memory.workspace());
  }
  raise_for(status, call.kind == cuda::PolarCall::sign ? "a" : "x");
}

bool polar_by_svd(const Array& x, const std::string& dtype, int device) {
  const ArrayRef in = x.ref("x", dtype_from_name(dtype), false, gpu(device));
  return cuda::polar_by_svd(device, in);
}

}  // namespace

void bind_cuda_polar(py::module_& m) {
  m.def("polar_by_svd", &polar_by_svd, py::arg("x"), py::arg("dtype"), py::arg("device"),
        "Whether matrices of this shape are decomposed, whatever they hold.");
  m.def("polar", &polar, py::arg("kind"), py::arg("x"), py::arg("out"),
        py::arg("hermitian").none(true), py::arg("dtype"), py::arg("right"), py::arg("tolerance"),
        py::arg("bound"), py::arg("lose_unconverged"), py::arg("check_finite"),
        py::arg("figures").none(true), py::arg("device"), py::arg("stream"), py::arg("allocate"),
        "Queues the work that fills out with a function of x: 'polar', 'sign', 'hard' or 'soft'. "
        "figures (batch, 5): method, steps, rank, residual, and that before rounding. The arrays "
        "are DLPack capsules; "
        "allocate(bytes) returns one of so many bytes on the device.");
}

}  // namespace gramian::python
