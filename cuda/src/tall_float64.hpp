// Products in float64 of tall thin matrices, on tensor cores: Gram matrices, and products with
// small matrices. Factors may be float32, of which every product is exact in float64.
#pragma once

#include "gramian/cuda/queue.hpp"
#include "gramian/matrix_view.hpp"

namespace gramian::cuda {

/// Row by row without gaps, float32 or float64.
struct TallMatrix {
  const void* data = nullptr;
  index_t rows = 0;
  index_t cols = 0;
  bool single = false;
};

/// Doubles of scratch memory that a Gram matrix of such thin matrices needs at most.
index_t tall_gram_scratch(const Queue& queue, index_t rows, index_t x_cols, index_t y_cols);

/// gram (x.cols x y.cols, row by row) <- X^T Y. Sums run in an order that shapes and the device
/// decide. Where Y is X it is symmetric, bit for bit.
void tall_gram(const Queue& queue, const TallMatrix& x, const TallMatrix& y, double* gram,
               double* scratch);

/// C <- D diag(kept) + sign X E.
struct TallProduct {
  TallMatrix x;
  const double* e = nullptr;  // x.cols x cols, entries (i, j) at i e_row + j e_col
  index_t e_row = 0;
  index_t e_col = 0;
  index_t cols = 0;
  double sign = 1;
  const double* d = nullptr;     // x.rows x cols, or null: zero
  const double* kept = nullptr;  // cols numbers, or null: ones
  void* c = nullptr;             // row by row without gaps; neither X nor D
  bool single = false;           // C is float32, else float64
};
void tall_product(const Queue& queue, const TallProduct& product);

}  // namespace gramian::cuda
