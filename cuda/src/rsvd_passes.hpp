// The kernels of a randomized SVD's reads.
#pragma once

#include <cstdint>

#include "gramian/cuda/queue.hpp"
#include "gramian/dtype.hpp"
#include "gramian/matrix_view.hpp"

namespace gramian::cuda {

/// A matrix with any strides, which count elements.
struct Strided {
  const void* data;
  index_t rows, cols, row_stride, col_stride;
};

/// z (n x width, row by row) <- columns of the sketch from `first` on.
void fill_sketch(const Queue& queue, std::uint64_t seed, index_t first, DType dtype, index_t n,
                 index_t width, void* z);

/// to (row by row, in the type `computed`) <- a less a row of means (double precision; or null).
void copy_less_means(const Queue& queue, DType dtype, const Strided& a, DType computed,
                     const void* means, void* to);

/// sums (sum_parts x cols, double precision) += column sums of a (rows x cols, row by row), each
/// part over some of the rows; `begin`: = instead.
void add_column_sums(const Queue& queue, DType computed, index_t rows, index_t cols, const void* a,
                     void* sums, bool begin);

/// Sum of squares of a in square_parts parts. One of its strides is 1.
inline constexpr index_t square_parts = 512;
void sum_squares(const Queue& queue, DType computed, const Strided& a, double* parts);

/// *sum <- the sum of all parts.
void add_parts(const Queue& queue, const double* parts, index_t count, double* sum);

/// total += product, entry by entry, in double precision; `begin`: = instead.
void add_to(const Queue& queue, DType computed, index_t count, const void* product, void* total,
            bool begin);

}  // namespace gramian::cuda
