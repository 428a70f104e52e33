#include "gramian/polar.hpp"

#include <limits>

#include "arrays.hpp"
#include "check.hpp"
#include "reference.hpp"

using namespace gramian;
using namespace gramian::test;

namespace {

template <class T>
MatrixView<const T> view(const std::vector<T>& entries, index_t rows, index_t cols) {
  return row_major<const T>(entries.data(), rows, cols);
}

/// Largest entry of A - B, where B may be the identity (empty).
double distance(const std::vector<wide>& a, const std::vector<wide>& b, index_t order) {
  double far = 0;
  for (std::size_t e = 0; e < a.size(); ++e) {
    const bool diagonal = e % static_cast<std::size_t>(order + 1) == 0;
    far = std::max(far, std::abs(a[e] - (b.empty() ? wide(diagonal ? 1 : 0) : b[e])));
  }
  return far;
}

template <class T>
void factors_multiply_to_x(index_t rows, index_t cols) {
  const double eps = static_cast<double>(std::numeric_limits<real_t<T>>::epsilon());
  const double bound = 64 * eps * std::sqrt(static_cast<double>(rows + cols));
  auto x = random_entries<T>(rows * cols, 5);
  std::vector<wide> truth(x.size());
  for (std::size_t e = 0; e < x.size(); ++e) truth[e] = widen(x[e]);
  for (const Side side : {Side::right, Side::left}) {
    const index_t order = side == Side::right ? cols : rows;
    std::vector<T> u(x.size());
    std::vector<T> p(static_cast<std::size_t>(order * order));
    std::vector<PolarReport> reports;
    CHECK(polar(array(x, {rows, cols}), array(u, {rows, cols}), array(p, {order, order}), side, {},
                reports) == Status::ok);
    CHECK(reports.size() == 1);
    CHECK(reports[0].converged);
    CHECK(reports[0].rank == std::min(rows, cols));
    const auto gram = gram_reference(view(u, rows, cols), rows < cols);
    CHECK_AT_MOST(distance(gram, {}, std::min(rows, cols)), bound);
    const auto product = side == Side::right
                             ? product_reference<T, T>(view(u, rows, cols), view(p, order, order))
                             : product_reference<T, T>(view(p, order, order), view(u, rows, cols));
    CHECK_AT_MOST(distance(product, truth, cols), bound * 8);
    bool hermitian = true;
    for (index_t i = 0; i < order; ++i)
      for (index_t j = 0; j < order; ++j)
        hermitian = hermitian && widen(p[static_cast<std::size_t>(i * order + j)]) ==
                                     std::conj(widen(p[static_cast<std::size_t>(j * order + i)]));
    CHECK(hermitian);
  }
}

void tables_end_at_one() {
  for (const double lower : {0.9, 0.5, 0.1, 1e-3, 1e-8, 1e-15}) {
    const auto steps = polar_plan::steps(lower);
    CHECK(!steps.empty());
    CHECK(steps.size() <= static_cast<std::size_t>(polar_plan::most_steps));
    CHECK_AT_MOST(steps.back().defect, 1e-12);
    for (const double start : {1.0, lower, std::sqrt(lower)}) {
      double sigma = start;
      for (const auto& step : steps) {
        sigma = evaluate(step.row, sigma);
        CHECK_AT_MOST(std::abs(1 - sigma * sigma), step.defect + 1e-14);
      }
    }
  }
}

void sign_and_clip() {
  std::vector<double> a{2, 0, 0, -3};
  std::vector<double> out(4);
  std::vector<PolarReport> reports;
  CHECK(matrix_sign(array(a, {2, 2}), array(out, {2, 2}), {}, reports) == Status::ok);
  CHECK_AT_MOST(std::abs(out[0] - 1) + std::abs(out[3] + 1) + std::abs(out[1]), 1e-15);
  std::vector<ClipReport> clips;
  for (const ClipKind kind : {ClipKind::hard, ClipKind::soft}) {
    CHECK(spectral_clip(array(a, {2, 2}), array(out, {2, 2}), 2.5, kind, {}, clips) == Status::ok);
    const auto f = [&](double s) {
      return kind == ClipKind::hard ? std::min(s, 2.5) : s / std::hypot(1.0, s / 2.5);
    };
    CHECK_AT_MOST(std::abs(out[0] - f(2)) + std::abs(out[3] + f(3)), 1e-14);
    CHECK(clips[0].converged);
  }
}

void bad_and_empty_input_is_told() {
  std::vector<double> x{1, 2, 3, std::numeric_limits<double>::quiet_NaN()};
  std::vector<double> u(4, -7.0);
  std::vector<PolarReport> reports;
  CHECK(polar(array(x, {2, 2}), array(u, {2, 2}), {}, Side::right, {}, reports) ==
        Status::not_finite);
  CHECK(u == std::vector<double>(4, -7.0));
  CHECK(polar(array(x, {0, 2, 2}), array(u, {0, 2, 2}), {}, Side::right, {}, reports) ==
        Status::ok);
  CHECK(reports.empty());
}

void halley_maps_an_interval_to_the_narrowest() {
  for (const double lower : {0.6, 1 / 16.0, 1 / 40.0, 1e-3}) {
    const auto h = polar_plan::halley(lower);
    const auto f = [&](double s) { return s * (h.a + h.b * s * s) / (1 + h.c * s * s); };
    CHECK_AT_MOST(std::abs(f(1) - 1), 1e-12);
    CHECK_AT_MOST(std::abs(f(lower) - h.mapped), 1e-12);
    double least = 2;
    double most = 0;
    for (int i = 0; i <= 4000; ++i) {
      least = std::min(least, f(std::pow(lower, i / 4000.0)));
      most = std::max(most, f(std::pow(lower, i / 4000.0)));
    }
    // It touches both ends once more in between.
    CHECK_AT_MOST(std::abs(most - 1), 1e-6);
    CHECK_AT_MOST(std::abs(least - h.mapped), 1e-6);
    CHECK_AT_MOST(f(1.1), 1.1);
  }
  CHECK_AT_MOST(0.79, polar_plan::halley(1 / 16.0).mapped);
}

void the_octic_is_as_near_as_it_says() {
  for (const double r : {0.05, 0.06, 0.1, 0.2, 0.285, 0.35, 0.41, 0.6}) {
    const auto f = polar_plan::inverse_square_root(r);
    double worst = 0;
    for (int i = 0; i <= 2000; ++i) {
      const double t = i / 1000.0 - 1;
      const double y1 = t * t;
      const double y2 = y1 * (y1 + f.a * t);
      const double value = f.scale * (y2 + f.b1 * y1 + f.b2 * t) * (y2 + f.b3 * y1) + f.d2 * y2 +
                           f.d1 * y1 + f.d0 * t + f.c;
      worst = std::max(worst, std::abs(1 - (1 - r * t) * value * value));
    }
    CHECK_AT_MOST(worst, f.defect + 1e-15);
    CHECK_AT_MOST(f.defect, 8 * worst + 4e-15);
    // What rounding is multiplied by.
    CHECK_AT_MOST(std::abs(f.scale) * (1 + std::abs(f.a) + std::abs(f.b1) + std::abs(f.b2)) *
                      (1 + std::abs(f.a) + std::abs(f.b3)),
                  0.25);
  }
}

}  // namespace

int main() {
  the_octic_is_as_near_as_it_says();
  halley_maps_an_interval_to_the_narrowest();
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{1, 1},
                                   {1, 12},
                                   {12, 1},
                                   {20, 20},
                                   {33, 70},
                                   {70, 33},
                                   {128, 128},
                                   {150, 160}}) {
    factors_multiply_to_x<float>(rows, cols);
    factors_multiply_to_x<double>(rows, cols);
    factors_multiply_to_x<std::complex<float>>(rows, cols);
    factors_multiply_to_x<std::complex<double>>(rows, cols);
  }
  tables_end_at_one();
  sign_and_clip();
  bad_and_empty_input_is_told();
  return finish();
}
