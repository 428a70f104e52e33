// Functions of the singular values of small matrices in one launch: an SVD by Jacobi rotations of
// the rows, in float64, each matrix in the shared memory of a block.
#pragma once

#include "entrance.hpp"
#include "gramian/cuda/queue.hpp"
#include "polar_steps.hpp"
#include "products.hpp"

namespace gramian::cuda {

struct SmallFunction {
  enum Kind { polar, hard, soft } kind = polar;
  double cutoff = 0;              // polar: relative to sigma_1
  double bound = 0;               // hard, soft: on the input's scale
  double slack = 0;               // hard: what may lie above the bound, relative, and stays
  const int* exponent = nullptr;  // of each matrix
};

/// Whether such matrices, m <= n, fit into a block's shared memory, and are few enough rows.
bool fits_small_function(int device, Storage storage, index_t m, index_t n);

/// y (m x n) <- the function of it; fills status and rank of the states. room: m x m.
void small_function(const Queue& queue, Storage storage, index_t batch, index_t m, index_t n,
                    Matrices y, Matrices room, const SmallFunction& function, PolarState* states);

}  // namespace gramian::cuda
