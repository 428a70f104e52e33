#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <vector>

#include "dlpack.hpp"
#include "gramian/newton_schulz.hpp"
#include "newton_schulz_arguments.hpp"
#include "released_gil.hpp"

namespace gramian::python {

void bind_newton_schulz(py::module_& m) {
  m.def(
      "newton_schulz_plan",
      [](index_t rows, index_t cols, const PyTable& table, bool double_precision,
         const std::string& method) {
        const std::vector<Row> steps = to_rows(table);
        NewtonSchulzPlan plan;
        {
          const ReleasedGil released;
          plan = plan_newton_schulz(rows, cols, steps,
                                    double_precision ? unit_roundoff<double> : unit_roundoff<float>,
                                    to_method(method));
        }
        return to_tuple(plan);
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
        auto options = to_options<NewtonSchulzOptions>(table, normalization, bound, method,
                                                       restarts, check_finite);
        options.double_precision = double_precision;
        const NewtonSchulzInfo info{figures(residual, "residual", in),
                                    figures(norm_bound, "norm_bound", in)};
        Status status = Status::ok;
        {
          const ReleasedGil released;
          status = newton_schulz(in, result, options, info);
        }
        raise_for(status, "x");
      },
      py::arg("x"), py::arg("out"), py::arg("dtype"), py::arg("table"), py::arg("normalization"),
      py::arg("bound"), py::arg("method"), py::arg("restarts"), py::arg("double_precision"),
      py::arg("check_finite"), py::arg("residual").none(true) = py::none(),
      py::arg("norm_bound").none(true) = py::none(),
      "Fills out with the result for x; both are DLPack capsules of one shape and dtype.");

  m.def(
      "newton_schulz_derivative",
      [](Array x, Array direction, Array out, const std::string& dtype, const PyTable& table,
         const std::string& normalization, double bound, const std::string& method,
         const std::vector<int>& restarts, bool double_precision, bool adjoint) {
        const DType type = dtype_from_name(dtype);
        const ArrayRef in = x.ref("x", type, false);
        const ArrayRef along = direction.ref("direction", type, false);
        const ArrayRef result = out.ref("out", type, true);
        if (in.shape.size() < 2 || in.shape != result.shape || in.shape != along.shape)
          throw py::value_error("x, direction and out must be matrices of one shape");
        auto options =
            to_options<NewtonSchulzOptions>(table, normalization, bound, method, restarts, false);
        options.double_precision = double_precision;
        Status status = Status::ok;
        {
          const ReleasedGil released;
          status = newton_schulz_derivative(in, along, result, options, adjoint);
        }
        raise_for(status, "x");
      },
      py::arg("x"), py::arg("direction"), py::arg("out"), py::arg("dtype"), py::arg("table"),
      py::arg("normalization"), py::arg("bound"), py::arg("method"), py::arg("restarts"),
      py::arg("double_precision"), py::arg("adjoint"),
      "Fills out with the derivative of newton_schulz in a direction, or its adjoint.");
}

}  // namespace gramian::python
