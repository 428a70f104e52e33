// Which method, how many vectors and how many reads: decided by shape and options alone, and shared
// by everything that computes a randomized SVD. The costs are explained in docs/rsvd.md.
#pragma once

#include <algorithm>
#include <limits>

#include "gramian/rsvd.hpp"

namespace gramian::detail {

/// Ritz values of A^H A have stagnated when what they may still grow by is less than this part of
/// what is left: one by one of the next Ritz value, which the square of the error's spectral norm
/// is at least, and in all of the square of its Frobenius norm.
inline constexpr double stagnation = 0.08;

/// What Ritz values may still grow by after read t, over what they grew by in it. Without gaps in
/// the spectrum the missing part falls like 1/t^2 (Krylov) or 1/t (subspace); with gaps, faster.
inline double remaining_growth(RsvdMethod method, int reads) {
  const double t = reads;
  return method == RsvdMethod::krylov ? (t - 1) * (t - 1) / (2 * t - 1) : t - 1;
}

struct RsvdPlan {
  RsvdMethod method;
  index_t block;  // vectors that a read multiplies by
  int passes;     // most reads
};

/// Costs in multiply-adds of the products of a read in single precision. What else there is counts
/// by its rate as measured: products in double 2, an eigenproblem of order l 20 l^3. Complex
/// numbers make everything four times as dear. Where subspace iteration needs 6 reads, Krylov
/// needs 4.
struct RsvdCosts {
  double rows;
  double cols;
  double size;  // vectors that a read multiplies by
  double rate;  // 1; in double 2

  double read() const { return 2 * rows * cols * size * rate; }
  double krylov(double reads) const {
    const double orders = reads * (reads + 1) / 2;  // bases of size, 2 size, ...: 1 + 2 + ...
    return reads * read() + 20 * orders * orders * size * size * size +
           (2 * orders * rows + 3.5 * reads * (reads - 1) * cols) * size * size;
  }
  double subspace(double reads) const {
    return reads * (read() + 20 * size * size * size + (2 * rows + 6 * cols) * size * size);
  }
  double gram() const { return rows * cols * cols + 20 * cols * cols * cols; }
};

inline RsvdPlan plan_rsvd(index_t m, index_t n, const RsvdOptions& o, bool single_precision,
                          bool has_start) {
  const index_t short_side = std::min(m, n);
  index_t block = std::min(short_side, o.rank + o.oversample);
  // As many powers as the usual rule (7 iterations for small ranks, else 4), at most.
  const int most = o.rank * 10 < short_side ? 8 : 5;
  RsvdPlan plan{o.method, block, o.passes > 0 ? o.passes : most};
  if (plan.method == RsvdMethod::single_pass) plan.passes = 1;
  // A sketch as wide as A holds all of it.
  if (o.passes == 0 && block == n && plan.method != RsvdMethod::gram) plan.passes = 1;
  if (plan.method != RsvdMethod::automatic) return plan;
  if (plan.passes == 1) {
    plan.method = block == n ? RsvdMethod::subspace : RsvdMethod::single_pass;
    return plan;
  }
  const RsvdCosts costs{static_cast<double>(m), static_cast<double>(n), static_cast<double>(block),
                        single_precision ? 1.0 : 2.0};
  const double expected = o.passes > 0 ? o.passes : 4;
  const double longer = o.passes > 0 ? 1.5 * expected : std::min(1.5 * expected, 1.0 * most);
  const bool room = std::min(static_cast<double>(plan.passes), 4.0) * costs.size <= costs.cols / 2;
  const double krylov = room ? costs.krylov(expected) : std::numeric_limits<double>::infinity();
  const double subspace = costs.subspace(longer);
  plan.method = krylov < subspace ? RsvdMethod::krylov : RsvdMethod::subspace;
  // A number of reads, or start vectors, are for the iterations. And A^H A in double shows what is
  // above 1e-8 sigma_1: all that single precision has, but not double.
  if (single_precision && o.passes == 0 && !has_start && costs.gram() < std::min(krylov, subspace))
    plan.method = RsvdMethod::gram;
  return plan;
}

}  // namespace gramian::detail
