#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <vector>

#include "dlpack.hpp"
#include "gramian/newton_schulz.hpp"
#include "table.hpp"

namespace gramian::python {

namespace {

void raise_for(Status status, const char* name) {
  switch (status) {
    case Status::ok:
      return;
    case Status::not_finite:
      throw py::value_error(std::string(name) +
                            " contains NaN or infinity; pass check_finite=False to let it through");
    case Status::out_of_memory:
      PyErr_NoMemory();
      throw py::error_already_set();
  }
}

}  // namespace

void bind_newton_schulz(py::module_& m) {
  m.def(
      "newton_schulz_plan",
      [](index_t rows, index_t cols, const PyTable& table, bool double_precision,
         const std::string& method) {
        std::optional<NewtonSchulzMethod> wanted;
        if (method == "standard") wanted = NewtonSchulzMethod::standard;
        if (method == "gram") wanted = NewtonSchulzMethod::gram;
        const std::vector<Row> steps = to_rows(table);
        NewtonSchulzPlan plan;
        {
          py::gil_scoped_release release;
          plan = plan_newton_schulz(rows, cols, steps,
                                    double_precision ? unit_roundoff<double> : unit_roundoff<float>,
                                    wanted);
        }
        return py::make_tuple(plan.method == NewtonSchulzMethod::gram ? "gram" : "standard",
                              py::tuple(py::cast(plan.restarts)));
      },
      py::arg("rows"), py::arg("cols"), py::arg("table"), py::arg("double_precision"),
      py::arg("method"), "Method and restarts for a shape: ('standard' | 'gram', restarts).");

  m.def(
      "newton_schulz",
      [](Array x, Array out, const std::string& dtype, const PyTable& table,
         const std::string& normalization, double bound, const std::string& method,
         const std::vector<int>& restarts, bool double_precision, bool check_finite,
         std::optional<Array> residual, std::optional<Array> norm_bound) {
        const DType type = dtype_from_name(dtype);
        const ArrayRef in = x.ref("x", type, false);
        const ArrayRef result = out.ref("out", type, true);
        if (in.shape.size() < 2 || in.shape != result.shape)
          throw py::value_error("x and out must be matrices of one shape");
        NewtonSchulzOptions options;
        options.table = to_rows(table);
        options.normalization = normalization == "schatten"    ? Normalization::schatten
                                : normalization == "frobenius" ? Normalization::frobenius
                                                               : Normalization::bound;
        options.bound = bound;
        options.plan = {method == "gram" ? NewtonSchulzMethod::gram : NewtonSchulzMethod::standard,
                        restarts};
        options.double_precision = double_precision;
        options.check_finite = check_finite;
        const DType figures =
            type == DType::float64 || type == DType::complex128 ? DType::float64 : DType::float32;
        const std::vector<index_t> batch(in.shape.begin(), in.shape.end() - 2);
        NewtonSchulzInfo info;
        const auto take_figures = [&](const std::optional<Array>& from, ArrayRef& into,
                                      const char* name) {
          if (!from) return;
          into = from->ref(name, figures, true);
          if (into.shape != batch) throw py::value_error("wrong shape of the info arrays");
        };
        take_figures(residual, info.residual, "residual");
        take_figures(norm_bound, info.norm_bound, "norm_bound");
        Status status = Status::ok;
        {
          py::gil_scoped_release release;
          status = newton_schulz(in, result, options, info);
        }
        raise_for(status, "x");
      },
      py::arg("x"), py::arg("out"), py::arg("dtype"), py::arg("table"), py::arg("normalization"),
      py::arg("bound"), py::arg("method"), py::arg("restarts"), py::arg("double_precision"),
      py::arg("check_finite"), py::arg("residual").none(true) = py::none(),
      py::arg("norm_bound").none(true) = py::none(),
      "Fills out with the result for x; both are DLPack capsules of one shape and dtype.");
}

}  // namespace gramian::python
