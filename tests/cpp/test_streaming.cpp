#include "gramian/streaming.hpp"

#include <algorithm>
#include <complex>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "arrays.hpp"
#include "check.hpp"
#include "gramian/frequent_directions.hpp"
#include "gramian/threads.hpp"

using namespace gramian;
using namespace gramian::test;

namespace {

using Layout = OjaLayout;

/// Rows with one direction, the last axis, above the rest by a factor.
template <class S>
std::vector<S> spiked(index_t n, index_t d, double factor) {
  std::mt19937 generator(1);
  std::normal_distribution<double> normal;
  std::vector<S> x(static_cast<std::size_t>(n * d));
  for (index_t i = 0; i < n; ++i)
    for (index_t j = 0; j < d; ++j)
      x[static_cast<std::size_t>(i * d + j)] =
          static_cast<S>(normal(generator) * (j == d - 1 ? factor : 1));
  return x;
}

template <class S>
ArrayRef rows_of(std::vector<S>& x, index_t n, index_t d, index_t first = 0) {
  return {x.data() + first * d, dtype_of<S>(), {n, d}, {d, 1}};
}

struct Oja {
  explicit Oja(index_t features)
      : d(features),
        vectors(static_cast<std::size_t>((Layout::rates + Layout::sketch) * d)),
        figures(Layout::rates * Layout::figure_count),
        totals(Layout::total_count) {
    for (index_t l = 0; l < Layout::rates; ++l) {
      for (index_t j = 0; j < d; ++j)
        vectors[static_cast<std::size_t>(l * d + j)] = 1 / std::sqrt(static_cast<double>(d));
      figures[static_cast<std::size_t>(l * Layout::figure_count + Layout::norm)] = 1;
      figures[static_cast<std::size_t>(l * Layout::figure_count + Layout::start)] = 1;
    }
  }
  OjaState state() { return {vectors.data(), figures.data(), totals.data(), d, true}; }
  bool operator==(const Oja& o) const {
    return vectors == o.vectors && figures == o.figures && totals == o.totals;
  }

  index_t d;
  std::vector<double> vectors, figures, totals;
};

/// Over whole and odd vectors of every instruction set, and by one thread or two.
template <class S>
void oja_finds_the_direction_and_says_how_well() {
  for (const index_t d : {1, 3, 37, 64, 129, 1100}) {
    constexpr index_t n = 640;
    std::vector<S> x = spiked<S>(n, d, 3e3);
    Oja whole(d);
    CHECK(oja_update(whole.state(), rows_of(x, n, d), nullptr) == Status::ok);
    std::vector<double> vector(static_cast<std::size_t>(d));
    OjaResult result;
    CHECK(oja_result(whole.state(), vector.data(), result) == Status::ok);
    double across = 0;
    for (index_t j = 0; j + 1 < d; ++j) {
      const double v = vector[static_cast<std::size_t>(j)];
      across += v * v;
    }
    // The direction of all rows is within 1 / (factor sqrt(n)) of the axis, and a few times that.
    const double off = 5 * std::sqrt(static_cast<double>(d) / n) / 3e3;
    CHECK_AT_MOST(std::sqrt(across), result.certificate + off);
    CHECK_AT_MOST(result.certificate, 0.01);

    // Cut at the ends of blocks it is the same stream, and by two threads.
    Oja cut(d);
    for (index_t first = 0; first < n; first += 128)
      CHECK(oja_update(cut.state(), rows_of(x, 128, d, first), nullptr) == Status::ok);
    CHECK(cut == whole);
    const std::vector<double> ones(n, 1.0);
    Oja weighted(d);
    CHECK(oja_update(weighted.state(), rows_of(x, n, d), ones.data()) == Status::ok);
    CHECK(weighted == whole);
    const int before = num_threads();
    set_num_threads(before == 1 ? 2 : 1);
    Oja threads(d);
    CHECK(oja_update(threads.state(), rows_of(x, n, d), nullptr) == Status::ok);
    CHECK(threads == whole);
    set_num_threads(before);
  }
}

void rows_beyond_the_limit_are_told() {
  constexpr index_t n = 64;
  constexpr index_t d = 20;
  for (const double spoil : {std::numeric_limits<double>::quiet_NaN(),
                             std::numeric_limits<double>::infinity(), 0x1p60}) {
    std::vector<float> x = spiked<float>(n, d, 2);
    x[50 * d + 7] = static_cast<float>(spoil);
    Oja oja(d);
    CHECK(oja_update(oja.state(), rows_of(x, n, d), nullptr, 0x1p98) == Status::not_finite);
  }
}

void block_oja_finds_the_direction() {
  constexpr index_t n = 512;
  constexpr index_t d = 40;
  constexpr index_t k = 2;
  using Block = BlockOjaLayout;
  std::vector<float> x = spiked<float>(n, d, 1e3);
  for (const bool history : {false, true}) {
    std::vector<double> vectors(static_cast<std::size_t>((k + Block::sketch + 1) * d));
    vectors[0] = vectors[d + 1] = 1;
    std::vector<double> figures(Block::figure_count * k);
    std::vector<double> totals(Block::total_count);
    const BlockOjaState state{
        vectors.data(), figures.data(), totals.data(), d, k, history, false, 1.0};
    CHECK(block_oja_update(state, rows_of(x, n, d), nullptr) == Status::ok);
    std::vector<double> components(k * d);
    std::vector<double> values(k);
    double certificate = 0;
    CHECK(block_oja_result(state, components.data(), values.data(), certificate) == Status::ok);
    CHECK_AT_MOST(1 - std::abs(components[d - 1]), 1e-4);
    CHECK_AT_MOST(certificate, 0.05);
    CHECK_AT_MOST(values[1], values[0]);
  }
}

template <class T>
struct Sketch {
  Sketch(index_t features, index_t size)
      : rows(static_cast<std::size_t>(sketch_capacity(size) * features)),
        stamps(static_cast<std::size_t>(sketch_capacity(size))),
        sketch(features, size, 1.0, reinterpret_cast<double*>(rows.data()), stamps.data(), nullptr,
               &figures, is_complex_v<T>) {}

  std::vector<T> rows;
  std::vector<double> stamps;
  SketchFigures figures;
  FrequentDirections sketch;
};

/// |A x|^2 - |B x|^2 is between 0 and the bound for every unit x, here along the axes.
template <class T>
void frequent_directions_bound_holds_after_a_merge() {
  constexpr index_t n = 300;
  constexpr index_t d = 25;
  constexpr index_t size = 6;
  std::vector<T> x = spiked<T>(n, d, 8);
  if constexpr (is_complex_v<T>)
    for (std::size_t i = 0; i < x.size(); ++i) x[i] *= std::polar(1.0, static_cast<double>(i));
  Sketch<T> a(d, size);
  Sketch<T> b(d, size);
  a.sketch.update(rows_of(x, 200, d), nullptr);
  b.sketch.update(rows_of(x, 100, d, 200), nullptr);
  a.sketch.merge(b.sketch);
  a.sketch.shrink();
  CHECK_AT_MOST(a.figures.filled, static_cast<double>(size));
  const double unit = std::ldexp(1.0, 2 * static_cast<int>(a.figures.exponent));
  const double bound = a.sketch.error() * unit;
  CHECK(bound > 0);
  for (index_t j = 0; j < d; ++j) {
    double all = 0;
    double kept = 0;
    for (index_t i = 0; i < n; ++i) {
      all += std::norm(x[static_cast<std::size_t>(i * d + j)]);
    }
    for (index_t i = 0; i < static_cast<index_t>(a.figures.filled); ++i) {
      kept += std::norm(a.rows[static_cast<std::size_t>(i * d + j)]) * unit;
    }
    CHECK_AT_MOST(kept - all, 1e-9 * all);
    CHECK_AT_MOST(all - kept, bound);
  }
  a.sketch.settle();
  double value = 0;
  std::vector<T> v(d);
  a.sketch.spectrum(1, &value, reinterpret_cast<double*>(v.data()));
  CHECK_AT_MOST(1 - std::real(v[d - 1]), 0.05);
  CHECK(std::imag(v[d - 1]) == 0);
  CHECK_AT_MOST(a.sketch.certificate(reinterpret_cast<const double*>(v.data())), 0.5);
}

}  // namespace

int main() {
  oja_finds_the_direction_and_says_how_well<float>();
  oja_finds_the_direction_and_says_how_well<double>();
  rows_beyond_the_limit_are_told();
  block_oja_finds_the_direction();
  frequent_directions_bound_holds_after_a_merge<double>();
  frequent_directions_bound_holds_after_a_merge<std::complex<double>>();
  return finish();
}
