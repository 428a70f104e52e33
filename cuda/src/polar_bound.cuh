// The bound of a clipping beside a matrix whose largest entry lies in [1/2, 1).
#pragma once

#include "element.cuh"

namespace gramian::cuda {

/// Below 2^-56 the bound is far under all that is known of the matrix: the result is then that of a
/// bound 2^shift times as large, divided by 2^shift.
struct ScaledBound {
  double c;
  int shift;

  __device__ ScaledBound(double bound, int exponent) {
    int of_bound;
    frexp(bound, &of_bound);
    const int relative = of_bound - exponent;
    shift = relative < -56 ? -56 - relative : 0;
    // A power of two at a time: either may have no number of its own.
    const int by = shift - exponent;
    c = scalbn(scalbn(bound, by / 2), by - by / 2);
  }

  /// Whether clipping is not felt, or all singular values are surely below. Entries are below 1,
  /// their parts if they are complex.
  __device__ bool unfelt(double entries, bool hard) const {
    return sqrt(2 * entries) <= c * (hard ? 1.0 : 0x1p-28);
  }
};

}  // namespace gramian::cuda
