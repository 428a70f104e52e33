// Tables of the converged iteration.
#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>

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

}  // namespace polar_plan

double polar_tolerance(DType dtype, index_t rows, index_t cols) {
  if (rows == 0 || cols == 0) return 0.0;
  const double u = is_double(dtype) ? unit_roundoff<double> : unit_roundoff<float>;
  const double r = static_cast<double>(std::min(rows, cols));
  const double sums = static_cast<double>(product_roundings(std::max(rows, cols)));
  return (8.0 * std::sqrt(r) + 2.0 * std::sqrt(sums)) * u;
}

}  // namespace gramian
