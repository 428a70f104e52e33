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
  const S* next = nullptr;  // the sixteen rows after these, to be fetched in the meantime
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
  alignas(64) double coefficients[OjaShape::sketch * OjaShape::stride];  // (4, 24)
  double above = 0;  // at least the norm of what they leave out, but for rounding
  double taken = 0;  // its trace
  double skew = 0;   // how far from orthonormal the combinations are that this rests on
};

// Sums of products of S pass through this many roundings in S at most, and those of a tree over
// the lanes, before they go on in double.
inline constexpr int oja_chunk = 32;

template <class S>
struct OjaKernels {
  // x_i^T x_j for j <= i at least (16 x 16).
  void (*gram)(const OjaRows<S>& x, double* gram);
  // x_i^T w_l (16 x 8) for the first `count` rates; zeros after them.
  void (*along)(const OjaRows<S>& x, const S* w, int count, double* xw);
  // (I - eta L) c = X w for all rates: eta c (16 x 8).
  void (*solve)(const double* gram, const double* xw, const double* squares, OjaSteps& steps,
                S* moves);
  // w += X^T moves, a copy in S, and the squared norms, of as many.
  void (*move_rates)(const OjaRows<S>& x, const S* moves, int count, double* w, S* copy,
                     double* norms);
  // y <- p x: four combinations of the rows, ldy apart; p (4 x 16).
  void (*combine)(const OjaRows<S>& x, const S* p, S* y, std::int64_t ldy);
  // x_i^T b_j (16 x 4), in double whatever S is.
  void (*sketch_products)(const OjaRows<S>& x, const double* b, double* xb);
  // b <- p (b; x).
  void (*move_sketch)(const OjaRows<S>& x, const double* p, double* b);
  // b b^T (4 x 4).
  void (*sketch_gram)(const double* b, std::int64_t d, double* bb);
  // Four combinations of 16 or 20 rows with this Gram matrix, and what they leave out: true where
  // they take off five times as much as that and `room`, or leave nothing.
  bool (*compress_rows)(const double* gram, double room, OjaCompression& to);
  bool (*compress_stacked)(const double* gram, double room, OjaCompression& to);
};

/// For this machine; float and double.
template <class S>
const OjaKernels<S>& oja_kernels();

}  // namespace gramian::detail
