// Products of a large float32 matrix with a few vectors, and of its transpose, on the tensor cores
// of Hopper GPUs with the accuracy of float32: Y = A Z and W = A^T Y, each at one read of A.
//
// Every factor is split in two tf32 numbers, three products of which are summed (the fourth is
// below float32's rounding); sums of 32 products leave the tensor cores, which truncate, and are
// added in float32. Bound and measurements: docs/notes/thin_products_gpu.md. Results have the same
// bits from call to call on one kind of device, whatever else runs there.
//
// Entries that are not finite make the rows (of Y) and columns (of W) they enter not finite: an
// infinity gives NaN. So does a finite entry that rounds to infinity in tf32, from
// 2^128 (1 - 2^-12) on.
#pragma once

#include <cstddef>

#include "gramian/array_ref.hpp"
#include "gramian/cuda/queue.hpp"
#include "gramian/workspace.hpp"

namespace gramian::cuda {

/// A float32 matrix in device memory, `ld` entries from one row to the next, or, where
/// `by_columns`, from one column to the next.
struct ThinFactor {
  const float* data = nullptr;
  index_t rows = 0;
  index_t cols = 0;
  index_t ld = 0;
  bool by_columns = false;
};

/// Whether the products below can be had: on compute capability 9.0, for A whose rows (columns)
/// start at multiples of 16 bytes, rows, cols >= 1 and any number of vectors >= 1. Whether they pay
/// is another question: the notes have measurements. 2048 x 2048 is too small.
bool takes_thin_products(const Queue& queue, const ThinFactor& a, index_t vectors);

/// Bytes that each of the two products may use for a while.
std::size_t thin_product_workspace(const Queue& queue, const ThinFactor& a, index_t vectors);
std::size_t thin_adjoint_product_workspace(const Queue& queue, const ThinFactor& a,
                                           index_t vectors);

/// Y (rows x vectors) <- A Z, Z (cols x vectors). Both lie row by row, `ld_*` >= vectors entries
/// from one to the next, anywhere (4-byte alignment will do). The workspace is 64-byte aligned at
/// least; it and Y overlap neither each other nor A nor Z. Throws Error if a launch fails.
void thin_product(const Queue& queue, const ThinFactor& a, index_t vectors, const float* z,
                  index_t ld_z, float* y, index_t ld_y, Workspace workspace);

/// W (cols x vectors) <- A^T Y, Y (rows x vectors).
void thin_adjoint_product(const Queue& queue, const ThinFactor& a, index_t vectors, const float* y,
                          index_t ld_y, float* w, index_t ld_w, Workspace workspace);

}  // namespace gramian::cuda
