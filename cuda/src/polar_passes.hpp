// Passes over float64 and complex128 matrices around the iteration of polar_steps.hpp.
#pragma once

#include "entrance.hpp"
#include "gramian/cuda/queue.hpp"
#include "polar_steps.hpp"
#include "products.hpp"

namespace gramian::cuda {

/// y <- the result, which lies in y or in other (rows x cols); NaN where x was not finite, and with
/// `strict` where there was no convergence.
void polar_settle(const Queue& queue, Storage storage, index_t batch, index_t rows, index_t cols,
                  const PolarState* states, Matrices y, Matrices other, bool strict);

/// a <- (a + a^H) / 2, m x m.
void make_hermitian(const Queue& queue, Storage storage, index_t batch, index_t m, Matrices a);

/// y (cols x rows) <- x^H, x rows x cols.
void adjoint(const Queue& queue, Storage storage, index_t batch, index_t rows, index_t cols,
             Matrices x, Matrices y);

/// a <- 2^(sign exponent[b]) a.
void scale_by_powers(const Queue& queue, Storage storage, index_t batch, index_t rows, index_t cols,
                     Matrices a, const int* exponent);

}  // namespace gramian::cuda
