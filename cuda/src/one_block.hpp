// Small dense problems in float64, each solved by one block in shared memory: a Cholesky factor
// with its inverse, eigenvectors by one-sided Jacobi rotations, eigenvalues by bisection. Nothing
// waits for the host: what went wrong is added to figures that are read when all is done.
// docs/notes/one_block.md.
#pragma once

#include "gramian/cuda/queue.hpp"
#include "gramian/matrix_view.hpp"

namespace gramian::cuda {

/// Sides up to this fit into a block of a Hopper GPU; into one of the device, sides up to that.
inline constexpr index_t one_block_limit = 144;
index_t one_block_side(int device);

/// What the kernels tell the host, counted over a call. Once `failed` is not 0 the kernels here
/// leave at once, and what they should have written is undefined.
struct SmallFigures {
  double failed;   // factorizations without the pivots asked for, or iterations that did not end
  double shifted;  // Gram matrices that had to be shifted
  double sweeps;   // of the last iteration
};

/// G = R^H R for a Gram matrix G (size x size, row by row), whose columns are scaled to length 1
/// meanwhile. Pivots of what is scaled are at most 1.
struct CholeskyRequest {
  index_t size;
  const double* gram;
  double least;                // pivots below it will not do
  double shift = 0;            // then added to the diagonal for a second try, unless 0
  double* triangle = nullptr;  // R, zero below its diagonal; or null
  double* inverse = nullptr;   // of R, zero below its diagonal; or null
};
void cholesky(const Queue& queue, const CholeskyRequest& request, SmallFigures* figures);

/// Eigenvalues, descending, of R^T R, and eigenvectors. R's rows are turned until they are
/// orthogonal: |<r_i, r_j>| <= tolerance |r_i| |r_j|.
struct JacobiRequest {
  index_t size;
  const double* triangle;  // R
  double tolerance;
  double* values;             // `size` of them
  double* vectors = nullptr;  // size x size, an eigenvector to a column; or null
  double* divided = nullptr;  // the same, each divided by the square root of its value; or null
};
void jacobi(const Queue& queue, const JacobiRequest& request, SmallFigures* figures);

/// Eigenvalues alone, descending, of several Gram matrices, a block each. They are off by some
/// 2^-32 of the largest one; where the trace is not positive and finite they are 0.
struct ValuesRequest {
  index_t size;
  index_t count;
  const double* grams;  // count x size x size
  double* values;       // count x size
};
void eigenvalues(const Queue& queue, const ValuesRequest& request, SmallFigures* figures);

}  // namespace gramian::cuda
