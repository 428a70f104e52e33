// gramian._cuda: Newton-Schulz iteration.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "dlpack.hpp"
#include "gpu_call.hpp"
#include "gramian/cuda/newton_schulz.hpp"
#include "newton_schulz_arguments.hpp"
#include "released_gil.hpp"

namespace gramian::python {

namespace {

cuda::Arithmetic to_arithmetic(const std::string& name) {
  if (name == "half") return cuda::Arithmetic::half;
  if (name == "tf32") return cuda::Arithmetic::tf32;
  if (name == "float32") return cuda::Arithmetic::float32;
  if (name == "float64") return cuda::Arithmetic::float64;
  throw py::value_error("unknown arithmetic " + name);
}

py::tuple newton_schulz_plan(index_t rows, index_t cols, const PyTable& table,
                             const std::string& arithmetic, const std::string& method) {
  const std::vector<Row> steps = to_rows(table);
  const cuda::Arithmetic computed_in = to_arithmetic(arithmetic);
  NewtonSchulzPlan plan;
  {
    const ReleasedGil released;
    plan = cuda::plan_newton_schulz(rows, cols, steps, computed_in, to_method(method));
  }
  return to_tuple(plan);
}

void newton_schulz(const Array& x, const Array& out, const std::string& dtype, const PyTable& table,
                   const std::string& normalization, double bound, const std::string& method,
                   const std::vector<int>& restarts, const std::string& arithmetic,
                   bool check_finite, const std::optional<Array>& residual,
                   const std::optional<Array>& norm_bound, int device, std::uintptr_t stream,
                   const py::function& allocate) {
  const Place place = gpu(device);
  const DType type = dtype_from_name(dtype);
  const ArrayRef in = x.ref("x", type, false, place);
  const ArrayRef result = out.ref("out", type, true, place);
  if (in.shape.size() < 2 || in.shape != result.shape)
    throw py::value_error("x and out must be matrices of one shape");

  auto options = to_options<cuda::NewtonSchulzOptions>(table, normalization, bound, method,
                                                       restarts, check_finite);
  options.arithmetic = to_arithmetic(arithmetic);

  const auto take_figures = [&](const std::optional<Array>& from, const char* name) {
    return from ? gapless_figures(*from, name, in, place) : ArrayRef{};
  };
  const NewtonSchulzInfo info{take_figures(residual, "residual"),
                              take_figures(norm_bound, "norm_bound")};

  const cuda::Queue queue = queue_of(device, stream);
  std::size_t bytes = 0;
  {
    const ReleasedGil released;
    bytes = cuda::newton_schulz_workspace(queue, in, result, options, info);
  }
  const DeviceMemory memory(bytes, place, allocate);
  Status status = Status::ok;
  {
    const ReleasedGil released;
    status = cuda::newton_schulz(queue, in, result, options, info, memory.workspace());
  }
  raise_for(status, "x");
}

}  // namespace

void bind_cuda_newton_schulz(py::module_& m) {
  m.def("newton_schulz_plan", &newton_schulz_plan, py::arg("rows"), py::arg("cols"),
        py::arg("table"), py::arg("arithmetic"), py::arg("method"),
        "Method and restarts for a shape: ('standard' | 'gram', restarts).");
  m.def("newton_schulz", &newton_schulz, py::arg("x"), py::arg("out"), py::arg("dtype"),
        py::arg("table"), py::arg("normalization"), py::arg("bound"), py::arg("method"),
        py::arg("restarts"), py::arg("arithmetic"), py::arg("check_finite"),
        py::arg("residual").none(true), py::arg("norm_bound").none(true), py::arg("device"),
        py::arg("stream"), py::arg("allocate"),
        "Queues the work that fills out with the result for x. The arrays are DLPack capsules; "
        "allocate(bytes) returns one of so many bytes on the device.");
}

}  // namespace gramian::python
