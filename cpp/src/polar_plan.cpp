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
constexpr int grid_per_octave = 4;
constexpr int tables = 52 * grid_per_octave + 1;

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
  // Each is made when it is first wanted, once for the process.
  static std::array<std::once_flag, tables> made;
  static std::array<std::vector<Step>, tables> table;
  const double octaves = -std::log2(std::min(lower, 1.0 - 1e-6));
  const auto k = static_cast<std::size_t>(
      std::clamp(static_cast<int>(std::ceil(octaves * grid_per_octave)), 1, tables - 1));
  std::call_once(made[k], [&] {
    table[k] = make_table(std::exp2(-static_cast<double>(k) / grid_per_octave));
  });
  return table[k];
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
