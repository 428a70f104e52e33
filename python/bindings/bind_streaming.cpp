#include "gramian/streaming.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <limits>
#include <optional>
#include <string>

#include "released_gil.hpp"
#include "results.hpp"

namespace gramian::python {

namespace {

/// The first of exactly so many doubles without gaps.
double* doubles(const Array& a, const char* name, std::initializer_list<index_t> shape,
                bool writable) {
  const ArrayRef ref = a.ref(name, DType::float64, writable);
  index_t step = 1;
  bool fits = ref.shape.size() == shape.size();
  for (std::size_t k = shape.size(); fits && k-- > 0;) {
    const index_t size = shape.begin()[k];
    fits = ref.shape[k] == size && (size == 1 || ref.strides[k] == step);
    step *= size;
  }
  if (!fits) throw py::value_error(std::string(name) + " has the wrong shape or has gaps");
  return ref.vector<double>();
}

/// Complex entries come as two doubles.
OjaState oja_state(const Array& vectors, const Array& figures, const Array& totals,
                   index_t features, bool grid, bool is_complex) {
  const index_t reals = features * (is_complex ? 2 : 1);
  return {doubles(vectors, "vectors", {OjaLayout::rates + OjaLayout::sketch, reals}, true),
          doubles(figures, "figures", {OjaLayout::rates, OjaLayout::figure_count}, true),
          doubles(totals, "totals", {OjaLayout::total_count}, true),
          features,
          grid,
          is_complex};
}

BlockOjaState block_oja_state(const Array& vectors, const Array& figures, const Array& totals,
                              index_t features, index_t components, const std::string& step,
                              bool center, double decay, bool is_complex) {
  using Layout = BlockOjaLayout;
  const index_t reals = features * (is_complex ? 2 : 1);
  return {doubles(vectors, "vectors", {components + Layout::sketch + 1, reals}, true),
          doubles(figures, "figures", {Layout::figure_count, components}, true),
          doubles(totals, "totals", {Layout::total_count}, true),
          features,
          components,
          step == "history",
          center,
          decay,
          is_complex};
}

/// Rows as the kernels take them.
ArrayRef rows_of(const Array& rows, const std::string& dtype, index_t features) {
  const ArrayRef in = rows.ref("rows", dtype_from_name(dtype), false);
  if (in.shape.size() != 2 || in.shape[1] != features || (features > 1 && in.strides[1] != 1) ||
      in.dtype == DType::float16 || in.dtype == DType::bfloat16)
    throw py::value_error("rows must be of single or double precision, (n, features), row-major");
  return in;
}

}  // namespace

void bind_streaming(py::module_& m) {
  m.def(
      "oja_layout",
      [] {
        return py::make_tuple(index_t{OjaLayout::block}, index_t{OjaLayout::rates},
                              index_t{OjaLayout::sketch}, index_t{OjaLayout::figure_count},
                              index_t{OjaLayout::total_count});
      },
      "Rows in a block; rates; rows of the sketch; figures of a rate; totals.");

  m.def(
      "oja_update",
      [](Array vectors, Array figures, Array totals, index_t features, bool grid, Array rows,
         const std::string& dtype, std::optional<Array> weights, double limit) {
        const ArrayRef in = rows_of(rows, dtype, features);
        const OjaState state =
            oja_state(vectors, figures, totals, features, grid, is_complex(in.dtype));
        const double* factors =
            weights ? doubles(*weights, "weights", {in.shape[0]}, false) : nullptr;
        Status status = Status::ok;
        {
          const ReleasedGil released;
          status = oja_update(state, in, factors, limit);
        }
        if (status == Status::not_finite) return false;
        raise_for(status, "rows");
        return true;
      },
      py::arg("vectors"), py::arg("figures"), py::arg("totals"), py::arg("features"),
      py::arg("grid"), py::arg("rows"), py::arg("dtype"),
      py::arg("weights").none(true) = py::none(),
      py::arg("limit") = std::numeric_limits<double>::infinity());

  m.def(
      "oja_result",
      [](Array vectors, Array figures, Array totals, index_t features, bool grid, bool complex,
         Array vector) {
        const OjaState state = oja_state(vectors, figures, totals, features, grid, complex);
        const index_t reals = features * (complex ? 2 : 1);
        double* out = doubles(vector, "vector", {reals}, true);
        OjaResult result;
        Status status = Status::ok;
        {
          const ReleasedGil released;
          status = oja_result(state, out, result);
        }
        raise_for(status, "rows");
        return py::make_tuple(result.certificate, result.eigenvalue, result.grew, result.rate);
      },
      py::arg("vectors"), py::arg("figures"), py::arg("totals"), py::arg("features"),
      py::arg("grid"), py::arg("is_complex"), py::arg("vector"));

  m.def(
      "block_oja_layout",
      [] {
        return py::make_tuple(index_t{BlockOjaLayout::block}, index_t{BlockOjaLayout::sketch},
                              index_t{BlockOjaLayout::figure_count},
                              index_t{BlockOjaLayout::total_count});
      },
      "Rows in a block; rows of the sketch; figures of a vector; totals.");

  m.def(
      "block_oja_update",
      [](Array vectors, Array figures, Array totals, index_t features, index_t components,
         const std::string& step, bool center, double decay, Array rows, const std::string& dtype,
         std::optional<Array> weights) {
        const ArrayRef in = rows_of(rows, dtype, features);
        const BlockOjaState state = block_oja_state(vectors, figures, totals, features, components,
                                                    step, center, decay, is_complex(in.dtype));
        const double* factors =
            weights ? doubles(*weights, "weights", {in.shape[0]}, false) : nullptr;
        Status status = Status::ok;
        {
          const ReleasedGil released;
          status = block_oja_update(state, in, factors);
        }
        raise_for(status, "rows");
      },
      py::arg("vectors"), py::arg("figures"), py::arg("totals"), py::arg("features"),
      py::arg("components"), py::arg("step"), py::arg("center"), py::arg("decay"), py::arg("rows"),
      py::arg("dtype"), py::arg("weights").none(true) = py::none());

  m.def(
      "block_oja_result",
      [](Array vectors, Array figures, Array totals, index_t features, index_t components,
         const std::string& step, bool center, double decay, bool complex, Array out,
         Array values) {
        const BlockOjaState state = block_oja_state(vectors, figures, totals, features, components,
                                                    step, center, decay, complex);
        const index_t reals = features * (complex ? 2 : 1);
        double* to = doubles(out, "out", {components, reals}, true);
        double* sizes = doubles(values, "values", {components}, true);
        double certificate = 0;
        Status status = Status::ok;
        {
          const ReleasedGil released;
          status = block_oja_result(state, to, sizes, certificate);
        }
        raise_for(status, "rows");
        return certificate;
      },
      py::arg("vectors"), py::arg("figures"), py::arg("totals"), py::arg("features"),
      py::arg("components"), py::arg("step"), py::arg("center"), py::arg("decay"),
      py::arg("is_complex"), py::arg("out"), py::arg("values"));
}

}  // namespace gramian::python
