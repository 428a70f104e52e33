#include "gramian/cuda/newton_schulz.hpp"

#include <algorithm>

#include "small_matrices.hpp"

namespace gramian::cuda {

namespace {

// Eigenvalue error of a fresh Gram matrix in 16-bit storage (or of tf32 products), relative to its
// norm. Entries are rounded to 2^-12 each, at random: what was measured for restarts is better than
// this, and a table of gramian's own is used with as many restarts as leave its result unchanged to
// three digits (docs/notes/newton_schulz_gpu.md).
constexpr double half_delta = 0x1p-13;

// Modelled worst error up to which the Gram form is taken. Measured errors are 20 times smaller and
// more, and the peer methods' own error on such spectra is 0.1 to 0.9.
constexpr double half_accepted = 0.16;

constexpr int longest_searched = 32;
constexpr int most_restarts = 7;

// In units of a full m x m x m product. Hermitian ones take 0.55 to 0.65 of one at large m.
constexpr double hermitian_cost = 0.6;

double standard_cost(double aspect, double steps) {
  return steps * (aspect + hermitian_cost * (aspect + 1));
}

double gram_cost(double aspect, double steps, double restarts) {
  const double segments = restarts + 1;
  return segments * (1 + hermitian_cost) * aspect + hermitian_cost * (4 * steps - 3 * segments);
}

}  // namespace

NewtonSchulzPlan plan_newton_schulz(index_t rows, index_t cols, std::span<const Row> table,
                                    Arithmetic arithmetic,
                                    std::optional<NewtonSchulzMethod> wanted) {
  if (arithmetic == Arithmetic::float32 || arithmetic == Arithmetic::float64)
    return gramian::plan_newton_schulz(
        rows, cols, table,
        arithmetic == Arithmetic::float64 ? unit_roundoff<double> : unit_roundoff<float>, wanted);

  const auto steps = static_cast<int>(table.size());
  const NewtonSchulzPlan standard{};
  if (wanted == NewtonSchulzMethod::standard || (steps > longest_searched && !wanted))
    return standard;
  if (steps > longest_searched) {  // nobody's table; the search grows with its square
    NewtonSchulzPlan plan{NewtonSchulzMethod::gram, {}};
    for (int t = 2; t < steps; t += 2) plan.restarts.push_back(t);
    return plan;
  }

  // Matrices that stay in shared memory take the standard form, which needs less of it.
  const index_t shorter = std::min(rows, cols);
  if (!wanted && arithmetic == Arithmetic::half &&
      std::max(rows, cols) <= longest_small_half(shorter))
    return standard;

  const double m = static_cast<double>(std::max<index_t>(1, shorter));
  const double aspect = static_cast<double>(std::max(rows, cols)) / m;
  const double budget = 0.95 * standard_cost(aspect, steps);
  const int most = std::min(steps - 1, most_restarts);
  for (int count = 0; count <= most; ++count) {
    if (!wanted && gram_cost(aspect, steps, count) > budget) return standard;
    NewtonSchulzPlan plan{NewtonSchulzMethod::gram, best_restarts(table, -half_delta, count)};
    if (gram_error(table, plan.restarts, half_delta) <= half_accepted || (wanted && count == most))
      return plan;
  }
  return standard;
}

}  // namespace gramian::cuda
