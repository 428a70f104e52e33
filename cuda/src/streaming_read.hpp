// One read of rows X: X^T F X Z for the columns of Z, F the weights, in parts that remain to be
// added.
#pragma once

#include "gramian/cuda/queue.hpp"
#include "gramian/dtype.hpp"
#include "gramian/matrix_view.hpp"

namespace gramian::cuda {

struct StreamRead {
  const void* x;
  DType dtype;
  index_t rows, features, row_stride, col_stride;
  const double* weights;  // or null: 1
  const double* vectors;  // (columns, features)
  index_t columns;        // a multiple of 16
  double* parts;          // (stream_groups, columns, features)
  double* figures;   // (stream_groups, 3): sum of squares, largest square, rows of weight above 0
  double* products;  // rows * (columns + 1): room that the general road needs
};

/// Parts that a sum over rows comes in at most, by the width alone.
index_t stream_groups(index_t features);

/// Rows that are taken together.
inline constexpr index_t stream_tile = 16;

/// Whether rows go through clusters, which read them once; else `products` must be there.
bool reads_once(const Queue& queue, const StreamRead& read);

/// Gives the number of parts: fewer than stream_groups where the device has no room for as many
/// clusters at a time.
index_t read_rows(const Queue& queue, const StreamRead& read);

}  // namespace gramian::cuda
