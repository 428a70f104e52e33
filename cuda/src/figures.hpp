// Scalars of each matrix, made on the device from sums that other kernels left there.
#pragma once

#include "gramian/cuda/newton_schulz.hpp"
#include "products.hpp"

namespace gramian::cuda {

/// What the first step divides by, and its row folded with it.
struct FirstStep {
  Row row;
  Normalization normalization;
  double bound;         // for Normalization::bound
  const int* exponent;  // [batch] of the power of two that X was divided by
  const double* norm;   // [batch] ||X||_F; NaN if X is not finite
};

/// scalars[batch][3] <- {c / s^5, b / s^3, a / s}, the factors of G^2, G and I in the first
/// polynomial, whose result also does the division by s; zeros for a zero matrix. `squares`: sums
/// of squares of G^2 (for Normalization::schatten). norm_bound (if present) <- s on the input's
/// scale.
void fold_first_row(const Queue& queue, index_t batch, const FirstStep& step, NormParts squares,
                    double* scalars, const ArrayRef& norm_bound);

/// residual <- sqrt(sum of squares of (I - G) / m).
void finish_residual(const Queue& queue, index_t batch, index_t m, NormParts squares,
                     const ArrayRef& residual);

}  // namespace gramian::cuda
