// Tables of the converged iteration.
#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>
#include <numbers>

#include "gramian/dtype.hpp"
#include "gramian/polar.hpp"

namespace gramian {

namespace polar_plan {

namespace {

// Lower ends 2^(-k/4) down to 2^-52: a step of the grid costs at most a tenth of a polynomial step.
// Down to 1/2, where Halley's step leaves them, 2^(-k/16).
constexpr int grid_per_octave = 4;
constexpr int grid_of_first = 16;
constexpr int tables = grid_of_first + 51 * grid_per_octave + 1;

double lower_end(std::size_t k) {
  const double at = static_cast<double>(k);
  return std::exp2(k <= grid_of_first ? -at / grid_of_first
                                      : -1 - (at - grid_of_first) / grid_per_octave);
}

// Rows stay far from zero in between (coefficients.hpp), which keeps the iteration backward stable.
constexpr double cushion = 0.02407;

// Samples of [lower, 1] that a table's steps are tried on, and what may lie between them.
constexpr int samples = 128;
constexpr double between = 1.5;

std::vector<Step> make_table(double lower) {
  std::vector<Step> table;
  for (int count = 8; count <= most_steps; count += 8) {
    table.clear();
    std::array<double, samples + 1> sigma;
    for (std::size_t i = 0; i <= samples; ++i)
      sigma[i] = std::pow(lower, static_cast<double>(i) / samples);
    for (const Row& row : polar_express(lower, count, cushion, 1.0)) {
      double defect = 0;
      for (double& v : sigma) {
        v = evaluate(row, v);
        defect = std::max(defect, between * std::abs(1.0 - v * v));
      }
      table.push_back({row, defect});
      if (defect <= 0x1p-50) return table;
    }
  }
  return table;
}

}  // namespace

std::span<const Step> steps(double lower) {
  // Each is made when it is first wanted, once for the process; none is destroyed, as at exit
  // threads may still be reading.
  static std::array<std::once_flag, tables> made;
  static auto& table = *new std::array<std::vector<Step>, tables>;
  const double octaves = -std::log2(std::min(lower, 1.0 - 1e-6));
  const double at =
      octaves <= 1 ? octaves * grid_of_first : grid_of_first + (octaves - 1) * grid_per_octave;
  const auto k =
      static_cast<std::size_t>(std::clamp(static_cast<int>(std::ceil(at)), 1, tables - 1));
  std::call_once(made[k], [&] { table[k] = make_table(lower_end(k)); });
  return table[k];
}

Halley halley(double lower) {
  const double l2 = lower * lower;
  const double d = std::cbrt(4 * (1 - l2) / (l2 * l2));
  const double root = std::sqrt(1 + d);
  const double a = root + std::sqrt(8 - 4 * d + 8 * (2 - l2) / (l2 * root)) / 2;
  const double b = (a - 1) * (a - 1) / 4;
  const double c = a + b - 1;
  return {a, b, c, lower * (a + b * l2) / (1 + c * l2)};
}

InverseSquareRoot inverse_square_root(double r) {
  constexpr int degree = 8;
  constexpr int points = 48;
  std::array<double, 2 * degree + 1> chebyshev{};
  for (int i = 0; i < points; ++i) {
    const double angle = std::numbers::pi * (i + 0.5) / points;
    const double value = 1 / std::sqrt(1 - r * std::cos(angle));
    for (std::size_t k = 0; k < chebyshev.size(); ++k)
      chebyshev[k] +=
          (k == 0 ? 1.0 : 2.0) / points * value * std::cos(static_cast<double>(k) * angle);
  }
  // To powers of t, T_(k+1) = 2 t T_k - T_(k-1).
  std::array<double, degree + 1> c{};
  std::array<double, degree + 1> before{};
  std::array<double, degree + 1> now{1.0};
  for (std::size_t k = 0; k <= degree; ++k) {
    for (std::size_t i = 0; i <= k; ++i) c[i] += chebyshev[k] * now[i];
    std::array<double, degree + 1> next{};
    for (std::size_t i = 0; i <= degree; ++i)
      next[i] = (i > 0 ? (k == 0 ? 1.0 : 2.0) * now[i - 1] : 0.0) - before[i];
    before = now;
    now = next;
  }
  double cut = 0;
  for (std::size_t k = degree + 1; k < chebyshev.size(); ++k) cut += std::abs(chebyshev[k]);

  // Comparing coefficients leaves a quadratic for b3, whose discriminant is positive: checked for
  // r in [0.02, 0.6]. Its other root has larger b, which would round more.
  InverseSquareRoot p{};
  p.scale = c[8];
  p.a = c[7] / (2 * c[8]);
  const double sum = c[6] / c[8] - p.a * p.a;  // b1 + b3
  p.b2 = c[5] / c[8] - p.a * sum;
  const double linear = p.scale * (sum - p.b2 / p.a);
  const double constant = p.scale * p.a * p.b2 + c[3] / p.a - c[4];
  const double root = std::sqrt(std::max(0.0, linear * linear + 4 * p.scale * constant));
  p.b3 = (linear + root) / (2 * p.scale);
  p.b1 = sum - p.b3;
  p.d2 = (c[3] - p.scale * p.b2 * p.b3) / p.a;
  p.d1 = c[2];
  p.d0 = c[1];
  p.c = c[0];
  p.defect = 3 * cut + 0x1p-50;  // (1 - r t) (2 f + cut) <= 2 (1 + r)^(1/2) + ...
  return p;
}

}  // namespace polar_plan

double polar_tolerance(DType dtype, index_t rows, index_t cols) {
  if (rows == 0 || cols == 0) return 0.0;
  const double u = is_double(dtype) ? unit_roundoff<double> : unit_roundoff<float>;
  const double r = static_cast<double>(std::min(rows, cols));
  const double sums = static_cast<double>(product_roundings(std::max(rows, cols)));
  return (8.0 * std::sqrt(r) + 2.0 * std::sqrt(sums)) * u;
}

}  // namespace gramian
