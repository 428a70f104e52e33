// Squares of small Gram matrices: all of them in one launch, each matrix in a block of its own and
// only as often as its own numbers ask for.
#pragma once

#include "bounds_passes.hpp"
#include "entrance.hpp"
#include "gramian/cuda/queue.hpp"
#include "products.hpp"

namespace gramian::cuda {

/// Whether matrices of this order fit: H and its square, beside G, in a block's shared memory.
/// float64 and complex128 of up to 64 rows on data-center GPUs; half of that elsewhere.
bool fit_small_squares(int device, Storage storage, index_t m);

/// Squares each of the matrices g (m x m, float64 or complex128) until tr(H^2) / tr(H) and ||H||_F
/// leave no more than `slack` of lambda_1(G) open, or `most` times. figures[t * batch + b]: of the
/// iterates t = 0 .. squarings[b]; quotient: v^H G v and v^H v for each matrix, v the last
/// iterate's best column; neither they nor squarings are written where they are null. A matrix that
/// is zero or not finite is not squared, and has no later figures.
void small_squares(const Queue& queue, Storage storage, index_t batch, index_t m, Matrices g,
                   double slack, int most, SquareFigures* figures, int* squarings,
                   double* quotient);

}  // namespace gramian::cuda
