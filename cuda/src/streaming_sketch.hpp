// The kernels of Frequent Directions on a GPU, in the order in which they are launched; products
// and eigenvectors come from tall_float64.hpp and one_block.hpp.
#pragma once

#include "gramian/cuda/streaming.hpp"
#include "one_block.hpp"

namespace gramian::cuda {

/// Rows that are taken at once: no more than there is room for.
struct SketchRows {
  const void* x;
  DType dtype;
  index_t rows, features, row_stride, col_stride;
  const double* weights;  // or null
  double decay;
  index_t filled, held;  // rows in the state before, and its room
  double* coefficients;  // scratch: by which the rows are multiplied
};
void append_rows(const Queue& queue, const SketchRows& rows, const SketchState& state);

/// What a shrinking needs beside the state; m rows are held.
struct ShrinkRoom {
  double* gram = nullptr;    // m x m: of the rows as they are stored
  double* scaled = nullptr;  // m x m: K, of the rows that those stand for, in a unit near its trace
  double* shifted = nullptr;   // m x m: K + shift I
  double* triangle = nullptr;  // m x m: its factor
  double* values = nullptr;    // m: eigenvalues of K + shift I
  double* vectors = nullptr;   // m x m: U
  double* inner = nullptr;     // m x m: U^T U
  double* image = nullptr;     // m x m: K U
  double* weights = nullptr;   // m x size: rows of the new sketch from those held
  double* made = nullptr;      // features x size: they
  double* notes = nullptr;     // trace of K, shift, their unit
  double* scratch = nullptr;   // of the products
  SmallFigures* small = nullptr;
};

/// K and K + shift I from the Gram matrix.
void scale_gram(const Queue& queue, const SketchLayout& layout, const SketchState& state,
                const ShrinkRoom& room);

/// The weights of the new rows, and the figures with what the shrinking costs.
void plan_shrink(const Queue& queue, const SketchLayout& layout, const SketchState& state,
                 const ShrinkRoom& room);

/// Puts the new rows into the state.
void keep_made(const Queue& queue, const SketchLayout& layout, const SketchState& state,
               const ShrinkRoom& room);

}  // namespace gramian::cuda
