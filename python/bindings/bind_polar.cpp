#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "dlpack.hpp"
#include "gramian/polar.hpp"
#include "released_gil.hpp"
#include "results.hpp"

namespace gramian::python {

namespace {

using PyReport = std::tuple<std::string, int, index_t, double, bool>;

const char* name(PolarMethod method) {
  switch (method) {
    case PolarMethod::zero:
      return "zero";
    case PolarMethod::gram:
      return "gram";
    case PolarMethod::polynomial:
      return "polynomial";
    case PolarMethod::newton:
      return "newton";
    case PolarMethod::qr:
      return "qr";
    case PolarMethod::svd:
      return "svd";
  }
  return "";
}

const char* name(ClipMethod method) {
  switch (method) {
    case ClipMethod::unchanged:
      return "unchanged";
    case ClipMethod::gram:
      return "gram";
    case ClipMethod::eigenvectors:
      return "eigenvectors";
    case ClipMethod::svd:
      return "svd";
  }
  return "";
}

std::vector<PyReport> to_python(const std::vector<PolarReport>& reports) {
  std::vector<PyReport> out;
  out.reserve(reports.size());
  for (const PolarReport& r : reports)
    out.emplace_back(name(r.method), r.steps, r.rank, r.residual, r.converged);
  return out;
}

ArrayRef matrices_like(const Array& from, const char* what, DType type, const ArrayRef& x,
                       index_t rows, index_t cols) {
  const ArrayRef out = from.ref(what, type, true);
  std::vector<index_t> wanted(x.shape.begin(), x.shape.end() - 2);
  wanted.push_back(rows);
  wanted.push_back(cols);
  if (out.shape != wanted) throw py::value_error(std::string(what) + " has the wrong shape");
  return out;
}

PolarOptions to_options(double tolerance, bool always_svd, bool check_finite) {
  PolarOptions options;
  options.tolerance = tolerance;
  options.always_svd = always_svd;
  options.check_finite = check_finite;
  return options;
}

ArrayRef input(const Array& x, const char* what, DType type) {
  const ArrayRef in = x.ref(what, type, false);
  if (in.shape.size() < 2) throw py::value_error(std::string(what) + " must be matrices");
  return in;
}

}  // namespace

void bind_polar(py::module_& m) {
  m.def(
      "polar_tolerance",
      [](const std::string& dtype, index_t rows, index_t cols) {
        return polar_tolerance(dtype_from_name(dtype), rows, cols);
      },
      py::arg("dtype"), py::arg("rows"), py::arg("cols"), "The default tolerance on the residual.");

  m.def(
      "polar",
      [](Array x, Array u, std::optional<Array> p, const std::string& dtype, bool right,
         double tolerance, bool always_svd, bool check_finite) {
        const DType type = dtype_from_name(dtype);
        const ArrayRef in = input(x, "x", type);
        const index_t rows = in.shape[in.shape.size() - 2];
        const index_t cols = in.shape.back();
        const ArrayRef unitary = matrices_like(u, "u", type, in, rows, cols);
        const index_t order = right ? cols : rows;
        const ArrayRef hermitian = p ? matrices_like(*p, "p", type, in, order, order) : ArrayRef{};
        std::vector<PolarReport> reports;
        Status status = Status::ok;
        {
          const ReleasedGil released;
          status = polar(in, unitary, hermitian, right ? Side::right : Side::left,
                         to_options(tolerance, always_svd, check_finite), reports);
        }
        raise_for(status, "x");
        return to_python(reports);
      },
      py::arg("x"), py::arg("u"), py::arg("p").none(true), py::arg("dtype"), py::arg("right"),
      py::arg("tolerance"), py::arg("always_svd"), py::arg("check_finite"),
      "Fills u and p; (method, steps, rank, residual, converged) of each matrix.");

  m.def(
      "matrix_sign",
      [](Array a, Array out, const std::string& dtype, double tolerance, bool check_finite) {
        const DType type = dtype_from_name(dtype);
        const ArrayRef in = input(a, "a", type);
        const index_t order = in.shape.back();
        const ArrayRef result = matrices_like(out, "out", type, in, order, order);
        std::vector<PolarReport> reports;
        Status status = Status::ok;
        {
          const ReleasedGil released;
          status = matrix_sign(in, result, to_options(tolerance, false, check_finite), reports);
        }
        raise_for(status, "a");
        return to_python(reports);
      },
      py::arg("a"), py::arg("out"), py::arg("dtype"), py::arg("tolerance"), py::arg("check_finite"),
      "Fills out with the sign of Hermitian matrices; reports as polar.");

  m.def(
      "spectral_clip",
      [](Array x, Array out, const std::string& dtype, double bound, bool hard, double tolerance,
         bool check_finite) {
        const DType type = dtype_from_name(dtype);
        const ArrayRef in = input(x, "x", type);
        const ArrayRef result =
            matrices_like(out, "out", type, in, in.shape[in.shape.size() - 2], in.shape.back());
        std::vector<ClipReport> reports;
        Status status = Status::ok;
        {
          const ReleasedGil released;
          status = spectral_clip(in, result, bound, hard ? ClipKind::hard : ClipKind::soft,
                                 to_options(tolerance, false, check_finite), reports);
        }
        raise_for(status, "x");
        std::vector<std::tuple<std::string, double, bool>> told;
        told.reserve(reports.size());
        for (const ClipReport& r : reports)
          told.emplace_back(name(r.method), r.residual, r.converged);
        return told;
      },
      py::arg("x"), py::arg("out"), py::arg("dtype"), py::arg("bound"), py::arg("hard"),
      py::arg("tolerance"), py::arg("check_finite"),
      "Fills out; (method, residual, converged) of each matrix.");
}

}  // namespace gramian::python
