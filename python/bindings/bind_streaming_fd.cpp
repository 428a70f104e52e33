#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "gramian/frequent_directions.hpp"
#include "gramian/random_order.hpp"
#include "released_gil.hpp"
#include "results.hpp"

namespace gramian::python {

namespace {

/// Doubles of an array of doubles or of pairs of them.
double* reals(const ArrayRef& a) { return static_cast<double*>(a.data); }

/// Rows as they come, of numbers as complex as those of the estimator, with their weights.
struct Rows {
  Rows(const Array& rows, const std::string& name, const std::optional<Array>& weights,
       bool is_complex, index_t features)
      : in(rows.ref("X", dtype_from_name(name), false)) {
    if (weights) w = weights->ref("sample_weight", DType::float64, false);
    if (in.shape.size() != 2 || in.shape[1] != features ||
        (weights && (w.shape.at(0) != in.shape[0] || w.strides[0] != 1)))
      throw py::value_error("X or sample_weight is of another shape");
    if (gramian::is_complex(in.dtype) != is_complex)
      throw py::value_error("X is complex where the rows before were not, or they were");
  }

  ArrayRef in, w;
};

/// A sketch whose memory is NumPy's: rows, stamps, figures and, if rows are centred, the mean;
/// `dtype` is that of rows and mean, float64 or complex128.
struct Sketch {
  Sketch(Array rows, Array stamps, Array figures, std::optional<Array> mean,
         const std::string& dtype)
      : numbers(dtype_from_name(dtype)),
        rows_(std::move(rows)),
        stamps_(std::move(stamps)),
        figures_(std::move(figures)),
        mean_(std::move(mean)) {
    rows_ref = rows_.ref("rows", numbers, true);
    stamps_ref = stamps_.ref("stamps", DType::float64, true);
    figures_ref = figures_.ref("figures", DType::float64, true);
    if (mean_) mean_ref = mean_->ref("mean", numbers, true);
    features = rows_ref.shape.at(1);
    if (figures_ref.shape.at(0) != sketch_figures || stamps_ref.shape.at(0) != rows_ref.shape[0] ||
        rows_ref.strides[0] != features || rows_ref.shape[0] != sketch_capacity(size()) ||
        (mean_ && mean_ref.shape.at(0) != features) || !is_double(numbers))
      throw py::value_error("the state of a sketch has arrays of other shapes");
  }

  FrequentDirections open(double decay) {
    return {features,
            size(),
            decay,
            reals(rows_ref),
            stamps_ref.vector<double>(),
            mean_ ? reals(mean_ref) : nullptr,
            reinterpret_cast<SketchFigures*>(figures_ref.data),
            is_complex(numbers)};
  }

  index_t size() const { return rows_ref.shape[0] / sketch_capacity(1); }

  /// A row of the caller's in which a result goes, or from which a vector comes.
  double* vector(const Array& from, bool writable) const {
    const ArrayRef v = from.ref("vector", numbers, writable);
    if (v.shape.at(0) != features || v.strides[0] != 1)
      throw py::value_error("the vector is of another shape");
    return reals(v);
  }

  DType numbers;
  index_t features = 0;
  ArrayRef rows_ref, stamps_ref, figures_ref, mean_ref;

 private:
  Array rows_, stamps_, figures_;
  std::optional<Array> mean_;
};

/// The state of RandomOrder, in NumPy's memory.
struct HeavyAndLight {
  HeavyAndLight(Array heavy, Array heavy_squares, Array vectors, Array figures,
                const std::string& dtype)
      : numbers(dtype_from_name(dtype)),
        heavy_(std::move(heavy)),
        heavy_squares_(std::move(heavy_squares)),
        vectors_(std::move(vectors)),
        figures_(std::move(figures)) {
    heavy_ref = heavy_.ref("heavy", numbers, true);
    squares_ref = heavy_squares_.ref("heavy_squares", DType::float64, true);
    vectors_ref = vectors_.ref("vectors", numbers, true);
    figures_ref = figures_.ref("figures", DType::float64, true);
    features = heavy_ref.shape.at(1);
    if (heavy_ref.strides[0] != features || squares_ref.shape.at(0) != heavy_ref.shape[0] ||
        vectors_ref.shape.at(0) != 3 || vectors_ref.shape.at(1) != features ||
        vectors_ref.strides[0] != features || figures_ref.shape.at(0) != random_order_figures ||
        !is_double(numbers))
      throw py::value_error("the state has arrays of other shapes");
  }

  RandomOrder open(Sketch& sketch) {
    if (sketch.features != features || sketch.numbers != numbers)
      throw py::value_error("the sketch is of rows of another width or type");
    double* v = reals(vectors_ref);
    const index_t row = is_complex(numbers) ? 2 * features : features;
    return {sketch.open(1),
            features,
            reals(heavy_ref),
            squares_ref.vector<double>(),
            v,
            v + row,
            v + 2 * row,
            reinterpret_cast<RandomOrderFigures*>(figures_ref.data)};
  }

  DType numbers;
  index_t features = 0;
  ArrayRef heavy_ref, squares_ref, vectors_ref, figures_ref;

 private:
  Array heavy_, heavy_squares_, vectors_, figures_;
};

}  // namespace

void bind_streaming_fd(py::module_& m) {
  m.attr("SKETCH_FIGURES") = sketch_figures;
  m.def("sketch_capacity", &sketch_capacity, py::arg("size"));

  py::class_<Sketch>(m, "Sketch", "The memory of a Frequent Directions sketch.")
      .def(py::init<Array, Array, Array, std::optional<Array>, const std::string&>(),
           py::arg("rows"), py::arg("stamps"), py::arg("figures"), py::arg("mean").none(true),
           py::arg("dtype"))
      .def(
          "update",
          [](Sketch& self, double decay, Array rows, const std::string& dtype,
             std::optional<Array> weights) {
            const Rows taken(rows, dtype, weights, is_complex(self.numbers), self.features);
            const ReleasedGil released;
            self.open(decay).update(taken.in, taken.w.vector<double>());
          },
          py::arg("decay"), py::arg("rows"), py::arg("dtype"), py::arg("weights").none(true))
      .def(
          "merge",
          [](Sketch& self, double decay, Sketch& other) {
            if (other.features != self.features || other.numbers != self.numbers)
              throw py::value_error("the sketches are of rows of other widths or types");
            const ReleasedGil released;
            FrequentDirections into = self.open(decay);
            FrequentDirections from = other.open(decay);
            into.merge(from);
          },
          py::arg("decay"), py::arg("other"))
      .def(
          "settle",
          [](Sketch& self, double decay) {
            const ReleasedGil released;
            self.open(decay).settle();
          },
          py::arg("decay"))
      .def(
          "shrink",
          [](Sketch& self, double decay) {
            const ReleasedGil released;
            self.open(decay).shrink();
          },
          py::arg("decay"))
      .def("error", [](Sketch& self) { return self.open(1).error(); })
      .def(
          "spectrum",
          [](Sketch& self, Array values, Array vectors) {
            const ArrayRef out = values.ref("values", DType::float64, true);
            const ArrayRef basis = vectors.ref("vectors", self.numbers, true);
            const ReleasedGil released;
            self.open(1).spectrum(out.shape.at(0), out.vector<double>(), reals(basis));
          },
          py::arg("values"), py::arg("vectors"))
      .def(
          "certificate",
          [](Sketch& self, Array vector) {
            const double* v = self.vector(vector, false);
            const ReleasedGil released;
            return self.open(1).certificate(v);
          },
          py::arg("vector"));

  m.attr("RANDOM_ORDER_FIGURES") = random_order_figures;
  py::class_<HeavyAndLight>(m, "HeavyAndLight", "The memory of RandomOrderTopEigenvector.")
      .def(py::init<Array, Array, Array, Array, const std::string&>(), py::arg("heavy"),
           py::arg("heavy_squares"), py::arg("vectors"), py::arg("figures"), py::arg("dtype"))
      .def(
          "start",
          [](HeavyAndLight& self, Sketch& sketch, std::uint64_t seed, index_t most) {
            if (most < 0 || most > self.heavy_ref.shape[0])
              throw py::value_error("there is no room for so many rows");
            self.open(sketch).start(seed, most);
          },
          py::arg("sketch"), py::arg("seed"), py::arg("most"))
      .def(
          "update",
          [](HeavyAndLight& self, Sketch& sketch, Array rows, const std::string& dtype,
             std::optional<Array> weights) {
            const Rows taken(rows, dtype, weights, is_complex(self.numbers), self.features);
            RandomOrder open = self.open(sketch);
            const ReleasedGil released;
            open.update(taken.in, taken.w.vector<double>());
          },
          py::arg("sketch"), py::arg("rows"), py::arg("dtype"), py::arg("weights").none(true))
      .def(
          "answer",
          [](HeavyAndLight& self, Sketch& sketch, Array vector) {
            double* v = sketch.vector(vector, true);
            const RandomOrder open = self.open(sketch);
            const ReleasedGil released;
            return open.answer(v);
          },
          py::arg("sketch"), py::arg("vector"));
}

}  // namespace gramian::python
