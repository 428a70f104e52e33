#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "bounds_methods.hpp"
#include "dlpack.hpp"
#include "gramian/bounds.hpp"
#include "released_gil.hpp"
#include "results.hpp"

namespace gramian::python {

namespace {

ArrayRef matrices(const Array& a, const std::string& dtype) {
  ArrayRef in = a.ref("a", dtype_from_name(dtype), false);
  if (in.shape.size() < 2) throw py::value_error("a must have at least 2 dimensions");
  return in;
}

}  // namespace

void bind_bounds(py::module_& m) {
  m.def(
      "gram_bound",
      [](Array a, Array bound, const std::string& dtype, int steps, bool check_finite,
         std::optional<Array> gradient) {
        const ArrayRef in = matrices(a, dtype);
        ArrayRef derivative;
        if (gradient) derivative = gradient->ref("gradient", in.dtype, true);
        if (gradient && derivative.shape != in.shape)
          throw py::value_error("gradient must have the shape of a");
        std::optional<Array> result(std::move(bound));
        const ArrayRef out = figures(result, "out", in);
        Status status = Status::ok;
        {
          const ReleasedGil released;
          status = gram_bound(in, steps, check_finite, out, derivative);
        }
        raise_for(status, "a");
      },
      py::arg("a"), py::arg("out"), py::arg("dtype"), py::arg("n_iter"), py::arg("check_finite"),
      py::arg("gradient").none(true) = py::none(),
      "Fills out, one figure for each matrix of a, and gradient, where it is given, with its "
      "derivative.");

  m.def(
      "spectral_norm_bounds",
      [](Array a, const std::string& dtype, double rtol, const std::string& method,
         std::uint64_t seed, bool check_finite, std::optional<Array> lower,
         std::optional<Array> upper, std::optional<Array> converged, std::optional<Array> estimate,
         std::optional<Array> stable_rank) {
        const ArrayRef in = matrices(a, dtype);
        const BoundsOptions options{rtol, method_from(method), seed, check_finite};
        Bracket out{figures(lower, "lower", in), figures(upper, "upper", in),
                    figures(converged, "converged", in), figures(estimate, "out", in),
                    figures(stable_rank, "out", in)};
        Status status = Status::ok;
        {
          const ReleasedGil released;
          status = spectral_norm_bounds(in, options, out);
        }
        raise_for(status, "a");
        return py::make_tuple(out.iterations, name_of(out.method));
      },
      py::arg("a"), py::arg("dtype"), py::arg("rtol"), py::arg("method"), py::arg("seed"),
      py::arg("check_finite"), py::arg("lower").none(true) = py::none(),
      py::arg("upper").none(true) = py::none(), py::arg("converged").none(true) = py::none(),
      py::arg("estimate").none(true) = py::none(), py::arg("stable_rank").none(true) = py::none(),
      "Fills the arrays given, one figure for each matrix of a; returns (iterations, method).");
}

}  // namespace gramian::python
