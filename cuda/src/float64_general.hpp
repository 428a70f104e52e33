// General products in float64 on the tensor cores: C <- alpha S Z + beta D, in the arithmetic of
// float64_product.hpp.
#pragma once

#include "entrance.hpp"
#include "gramian/cuda/queue.hpp"
#include "products.hpp"

namespace gramian::cuda {

/// S is m x depth, Z depth x n, C and D m x n; C is none of the others, D may be empty. Rows are
/// 16-byte aligned. Entries have the same bits whatever the batch. `done`: as in float64_product.
void float64_general(const Queue& queue, Storage storage, index_t batch, index_t m, index_t n,
                     index_t depth, double alpha, Matrices s, Matrices z, double beta, Matrices d,
                     Matrices c, const int* done = nullptr);

}  // namespace gramian::cuda
