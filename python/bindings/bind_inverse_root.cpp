#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "dlpack.hpp"
#include "gramian/inverse_root.hpp"
#include "released_gil.hpp"
#include "results.hpp"

namespace gramian::python {

namespace {

const char* name_of(RootFailure failure) {
  switch (failure) {
    case RootFailure::none:
      return "";
    case RootFailure::singular:
      return "singular";
    case RootFailure::negative:
      return "negative";
    case RootFailure::tolerance:
      return "tolerance";
    case RootFailure::eigenvalues:
      return "eigenvalues";
  }
  return "";
}

py::tuple to_tuple(const InverseRootOutcome& o) {
  return py::make_tuple(o.steps, o.iterated, o.widened, o.failures, o.first, name_of(o.failure),
                        o.eigenvalue, o.residual);
}

ArrayRef square_matrices(const Array& a, const std::string& dtype) {
  ArrayRef in = a.ref("a", dtype_from_name(dtype), false);
  if (in.shape.size() < 2 || in.shape.back() != in.shape[in.shape.size() - 2])
    throw py::value_error("a must hold square matrices");
  return in;
}

ArrayRef result(const Array& from, const char* name, const ArrayRef& like) {
  ArrayRef out = from.ref(name, like.dtype, true);
  if (out.shape != like.shape) throw py::value_error(std::string(name) + " must have a's shape");
  return out;
}

}  // namespace

void bind_inverse_root(py::module_& m) {
  m.def(
      "inverse_root",
      [](Array a, Array out, const std::string& dtype, int p, double ridge, double tol,
         bool check_finite, std::optional<Array> residual, std::optional<Array> condition,
         std::optional<Array> largest) {
        const ArrayRef in = square_matrices(a, dtype);
        const ArrayRef to = result(out, "out", in);
        const InverseRootInfo info{figures(residual, "residual", in),
                                   figures(condition, "condition", in),
                                   figures(largest, "largest", in)};
        InverseRootOutcome outcome;
        Status status = Status::ok;
        {
          const ReleasedGil released;
          status = inverse_root(in, to, {p, ridge, tol, check_finite}, info, outcome);
        }
        raise_for(status, "a");
        return to_tuple(outcome);
      },
      py::arg("a"), py::arg("out"), py::arg("dtype"), py::arg("p"), py::arg("ridge"),
      py::arg("tol"), py::arg("check_finite"), py::arg("residual").none(true) = py::none(),
      py::arg("condition").none(true) = py::none(), py::arg("largest").none(true) = py::none(),
      "Fills out; returns (steps, iterated, widened, failures, first, failure, eigenvalue, "
      "residual).");

  m.def(
      "sqrt_psd",
      [](Array a, Array root, Array inverse, const std::string& dtype, double tol,
         bool check_finite) {
        const ArrayRef in = square_matrices(a, dtype);
        const ArrayRef to_root = result(root, "out", in);
        const ArrayRef to_inverse = result(inverse, "out", in);
        const bool empty = batch_size(in) == 0 || in.shape.back() == 0;
        if (!empty && overlaps(to_root, to_inverse))
          throw py::value_error("out holds two arrays that may share memory; each must be its own");
        InverseRootOutcome outcome;
        Status status = Status::ok;
        {
          const ReleasedGil released;
          status = sqrt_psd(in, to_root, to_inverse, {2, 0, tol, check_finite}, outcome);
        }
        raise_for(status, "a");
        return to_tuple(outcome);
      },
      py::arg("a"), py::arg("root"), py::arg("inverse"), py::arg("dtype"), py::arg("tol"),
      py::arg("check_finite"), "Fills root and inverse; returns the same figures as inverse_root.");

  m.def(
      "inverse_root_rows",
      [](int p, double lower) {
        if (p < 1 || p > largest_iterated_root || !(lower > 0 && lower < 1))
          throw py::value_error("p must be from 1 to 8 and lower between 0 and 1");
        py::list rows;
        for (const Row& row : inverse_root_rows(p, lower))
          rows.append(py::make_tuple(row.a, row.b, row.c));
        return rows;
      },
      py::arg("p"), py::arg("lower"), "The iteration's rows (a, b, c) for [lower, 1].");
}

}  // namespace gramian::python
