// Descriptions of matrices for bulk tensor copies.
#pragma once

#include <cuda.h>

#include "products.hpp"

namespace gramian::cuda {

/// 16-bit matrices, rows x cols each, read in boxes of box_cols x box_rows (box_cols =
/// 64: the width of a swizzled row). Needs 16-byte aligned data, and ld and stride in multiples
/// of 8. Out-of-range entries read as zero. Throws Error.
CUtensorMap tensor_map(const Matrices& x, index_t batch, index_t rows, index_t cols, int box_cols,
                       int box_rows);

/// Whether tensor_map can describe them; where it can, they may also be written 16 bytes at a time.
bool tensor_map_fits(const Matrices& x, index_t batch, index_t rows, index_t cols);

/// A float32 matrix, rows x cols, read in boxes of box_cols (32: the width of a swizzled row) x
/// box_rows. Needs 16-byte aligned data and, of several rows, ld in multiples of 4. Throws Error.
CUtensorMap float_tensor_map(const float* data, index_t rows, index_t cols, index_t ld,
                             int box_cols, int box_rows);

}  // namespace gramian::cuda
