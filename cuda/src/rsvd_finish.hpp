// The kernels between the factors' products at the end of a randomized SVD: which rows of the half
// step are rounding alone, signs, results in the caller's type.
#pragma once

#include "gramian/cuda/queue.hpp"
#include "gramian/dtype.hpp"
#include "gramian/matrix_view.hpp"

namespace gramian::cuda {

/// `usable` <- the inverse of R, columns left out (zero) by which even Y's rounding would be blown
/// up beyond all bounds; `noise` <- what the columns of B's second term must stand above, negative
/// where they are left out (docs/rsvd.md, "Small singular values" and "On a GPU").
struct HalfStep {
  index_t size;
  index_t columns;  // of A
  double unit;      // of what A's products are computed in
  const double* inverse;
  const double* inner;  // Z^T W
  const double* whole;  // Y^T Y
  double* usable;
  double* noise;  // `size` numbers
};
void weigh_half_step(const Queue& queue, const HalfStep& half_step);

/// kept[j] <- whether column j, of which gram has the square, stands above its noise: 1 or 0.
void keep_columns(const Queue& queue, index_t size, const double* gram, const double* noise,
                  double* kept);

/// A factor in the caller's memory, strides in elements.
struct Factor {
  void* data = nullptr;
  index_t row_stride = 0;
  index_t col_stride = 0;
};

/// Blocks that look for the largest entries of a factor: so many keys for each column.
inline constexpr index_t largest_parts = 128;

/// signs[j] <- what makes the largest entry of column j, rounded to `dtype`, positive: the first
/// one of equal ones. `keys`: largest_parts x cols scratch. Entries lie row by row.
void find_signs(const Queue& queue, DType dtype, const double* factor, index_t rows, index_t cols,
                unsigned long long* keys, double* signs);

/// to <- factor diag(signs), rounded.
void write_factor(const Queue& queue, DType dtype, const double* factor, index_t rows, index_t cols,
                  const double* signs, const Factor& to);

/// to[j] <- the square root of squares[j], rounded to float32.
void write_values(const Queue& queue, const double* squares, index_t count, float* to);

}  // namespace gramian::cuda
