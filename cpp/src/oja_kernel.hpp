// The products on the hot path of Oja's method: sixteen rows against each other, against the
// vectors of all rates and against the sketch, and back. One source (oja_kernel.inl) is compiled
// per instruction set; the best set of the running machine is chosen once.
#pragma once

#include <cstdint>

namespace gramian::detail {

/// Shapes that the kernels are written for: those of OjaLayout.
struct OjaShape {
  static constexpr int rows = 16;
  static constexpr int rates = 8;
  static constexpr int sketch = 4;
  static constexpr int stacked = sketch + rows;
  static constexpr int stride = 24;  // of matrices of order `stacked`: whole vectors
};

/// Sixteen rows, ld apart, of d adjacent entries.
template <class S>
struct OjaRows {
  const S* x;
  std::int64_t ld;
  std::int64_t d;
};

/// What a block does to all rates, by rate.
struct OjaSteps {
  double rate[OjaShape::rates];
  double norm[OjaShape::rates];    // of w before the block
  double energy[OjaShape::rates];  // sum of (x^T v)^2
  double moved[OjaShape::rates];   // rate * sum of |c| |x|
  double drawn[OjaShape::rates];   // sum of |c|
};

struct OjaCompression {
  double coefficients[OjaShape::sketch * OjaShape::stride];  // Q^T, orthonormal rows, or zeros
  double left = 0;   // at least the norm of what the new rows leave out, but for rounding
  double trace = 0;  // of what they leave out
  double skew = 0;   // |Q^T Q - I|_F; a row of zeros counts as none
};

// Sums of products of S pass through this many roundings in S at most, before they go on in double.
inline constexpr int oja_chunk = 64;

template <class S>
struct OjaKernels {
  // |x_i|^2 and x_i^T b_j (16 x 4), in double whatever S is.
  void (*sketch_products)(const OjaRows<S>& x, const double* b, double* xb, double* squares);
  // |x_i|^2 alone, the same bits.
  void (*squares)(const OjaRows<S>& x, double* squares);
  // x_i^T x_j for j < i at least (16 x 16).
  void (*gram)(const OjaRows<S>& x, double* gram);
  // x_i^T w_l (16 x 8) for l from `first` on, which is 0 or 4; zeros before.
  void (*along)(const OjaRows<S>& x, const S* w, int first, double* xw);
  // (I - eta L) c = X w for all rates: eta c (16 x 8).
  void (*solve)(const double* gram, const double* xw, const double* squares, OjaSteps& steps,
                S* moves);
  // w += X^T moves, a copy in S, and the squared norms, from `first` on.
  void (*move_rates)(const OjaRows<S>& x, const S* moves, int first, double* w, S* copy,
                     double* norms);
  // b <- p (b; x).
  void (*move_sketch)(const OjaRows<S>& x, const double* p, double* b);
  // b b^T (4 x 4).
  void (*sketch_gram)(const double* b, std::int64_t d, double* bb);
  // Four orthonormal combinations of 20 rows with this Gram matrix, and what they leave out.
  void (*compress)(const double* gram, OjaCompression& to);
};

/// For this machine; float and double.
template <class S>
const OjaKernels<S>& oja_kernels();

}  // namespace gramian::detail
