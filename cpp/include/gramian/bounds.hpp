// Bounds on the spectral norm sigma_1 of dense matrices. Definitions, proofs and constants:
// docs/bounds.md.
//
//   gram_bound            ||A||_{2^(t+1)} >= sigma_1, the Schatten norm, by Gram iteration
//                         (Delattre et al., ICML 2023), in the precision of the input
//   spectral_norm_bounds  lower <= sigma_1 <= upper with no rounding error left out, computed in
//                         float64 whatever the input
//
// Each matrix is first multiplied by the power of two that brings its largest entry into [1/2, 1):
// exact, so nothing overflows, and scaling by a power of two scales the results exactly.
#pragma once

#include <cstdint>

#include "gramian/array_ref.hpp"
#include "gramian/status.hpp"

namespace gramian {

/// bound[b] <- ||a_b||_{2^(steps + 1)}, for each matrix of the batch; steps >= 0. The bound has
/// the real type of a's precision, float32 for half precision. A zero matrix gives 0; without
/// check_finite NaN or infinity gives NaN.
///
/// gradient (absent, or of a's shape and type, apart from it) <- the derivative of each bound with
/// respect to the entries of its matrix, dbound = Re sum conj(gradient) da: the product of all
/// iterates with a, normalized. Zero for a zero matrix, NaN where the bound is NaN. Keeps steps + 1
/// square matrices.
Status gram_bound(const ArrayRef& a, int steps, bool check_finite, const ArrayRef& bound,
                  const ArrayRef& gradient = {});

/// How an upper bound on the largest eigenvalue of the Gram matrix is found and proved.
enum class BoundsMethod {
  automatic,  // the fastest
  gram,       // repeated squaring, rounding errors substituted back
  cholesky,   // Lanczos, then one verified Cholesky factorization (Rump, BIT 46, 2006)
  eigh,       // LAPACK's eigenvalue, then the same factorization
};

struct BoundsOptions {
  double rtol = 1e-6;
  BoundsMethod method = BoundsMethod::automatic;
  std::uint64_t seed = 0;  // of the start vector of Lanczos
  bool check_finite = true;
};

/// Per-matrix results, each an array of the batch's size or absent (null data): float64 for
/// float64 and complex128 input, else float32.
struct Bracket {
  ArrayRef lower;
  ArrayRef upper;
  ArrayRef converged;    // 1 where upper / lower - 1 <= rtol for the numbers returned, else 0
  ArrayRef estimate;     // of sigma_1, between the two
  ArrayRef stable_rank;  // estimate of ||A||_F^2 / sigma_1^2; 0 for a zero matrix
  int iterations = 0;    // the most squarings or Lanczos steps that a matrix took
  BoundsMethod method = BoundsMethod::automatic;  // the one used
};

/// Zero matrices give 0 throughout; without check_finite NaN or infinity gives NaN.
Status spectral_norm_bounds(const ArrayRef& a, const BoundsOptions& options, Bracket& out);

}  // namespace gramian
