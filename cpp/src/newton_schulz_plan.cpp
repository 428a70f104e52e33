// Which form of the iteration, decided from shape, table and precision.
#include <algorithm>

#include "gramian/newton_schulz.hpp"

namespace gramian {

namespace {

// A fresh Gram matrix carries eigenvalue errors of a few u times its norm (the worst case grows
// with the sum's length, but blocked summation of signed terms stays far below it: 1 to 6 u was
// measured from 64 to 4096).
constexpr double gram_rounding = 8.0;

// The Gram form is taken while its modelled worst error stays under this many u. Measured errors
// are 5 to 50 times smaller than the model's, and where it reads 1e4 u for one restart (5 steps)
// a second restart no longer changes the measured error, 7e-5 rms in float32 on spectra down to
// 1e-6, while it costs a quarter of the time at aspect 4.
constexpr double accepted_error = 16384.0;

// Own tiles leave out the upper triangle.
constexpr double hermitian_cost = 0.5;

// Tables up to this long, and this many restarts less one, are searched for the best places.
constexpr int longest_searched = 32;
constexpr int most_searched = 8;

/// Cost in units of m^2 x m multiply-adds; a product with a Hermitian result counts `hermitian`.
double standard_cost(double aspect, double steps, double hermitian) {
  return steps * (aspect + hermitian * (aspect + 1));
}

double gram_cost(double aspect, double steps, double restarts, double hermitian) {
  const double segments = restarts + 1;
  // Per segment one Gram product and one application; per step R^2, Q M, R M and (R M) M, less the
  // first step of a segment (no Q M) and the last (no new R).
  return segments * (1 + hermitian) * aspect + hermitian * (4 * steps - 3 * segments);
}

}  // namespace

NewtonSchulzPlan plan_newton_schulz(index_t rows, index_t cols, std::span<const Row> table,
                                    const NewtonSchulzModel& model,
                                    std::optional<NewtonSchulzMethod> wanted) {
  const auto steps = static_cast<int>(table.size());
  const double m = static_cast<double>(std::max<index_t>(1, std::min(rows, cols)));
  const double aspect = static_cast<double>(std::max(rows, cols)) / m;
  NewtonSchulzPlan standard{};
  if (wanted == NewtonSchulzMethod::standard) return standard;

  if (steps > longest_searched) {  // nobody's table; the search grows with its square
    if (!wanted) return standard;
    NewtonSchulzPlan plan{NewtonSchulzMethod::gram, {}};
    for (int t = 2; t < steps; t += 2) plan.restarts.push_back(t);
    return plan;
  }

  // Both cost the same where the matrix is square, and the standard form is the more accurate.
  const double budget = 0.95 * standard_cost(aspect, steps, model.hermitian_cost);
  const int counts = std::min(steps, most_searched);
  for (int count = 0; count < counts; ++count) {
    if (!wanted && gram_cost(aspect, steps, count, model.hermitian_cost) > budget) return standard;
    NewtonSchulzPlan plan{NewtonSchulzMethod::gram, best_restarts(table, -model.delta, count)};
    const bool last = count + 1 == counts;
    const double error = gram_error(table, plan.restarts, model.delta);
    if (error <= model.accepted_error || (wanted && last)) return plan;
  }
  return standard;
}

NewtonSchulzPlan plan_newton_schulz(index_t rows, index_t cols, std::span<const Row> table,
                                    double unit_roundoff,
                                    std::optional<NewtonSchulzMethod> wanted) {
  const NewtonSchulzModel model{gram_rounding * unit_roundoff, accepted_error * unit_roundoff,
                                hermitian_cost};
  return plan_newton_schulz(rows, cols, table, model, wanted);
}

}  // namespace gramian
