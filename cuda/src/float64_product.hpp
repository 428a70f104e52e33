// Hermitian products in float64 on the tensor cores: C <- scalars(S Z^H, D), half of it computed,
// the other half its mirror image.
//
// The arithmetic is the hardware's own float64, rounded to nearest: entries are sums of products in
// some order, with at most one rounding for each multiplication and each addition, and complex
// products are formed by four real ones. Certificates rest on that (docs/bounds.md).
#pragma once

#include "entrance.hpp"
#include "gramian/cuda/queue.hpp"
#include "products.hpp"

namespace gramian::cuda {

/// Whether products of this storage type are computed here.
inline bool in_float64(Storage storage) {
  return storage == Storage::float64 || storage == Storage::complex128;
}

/// Parts of the sum of squares, for any batch and tile.
index_t float64_norm_count(index_t m);

/// Side of the tiles for such a batch: 32 or 64.
int float64_tile(const Queue& queue, Storage storage, index_t batch, index_t m);

/// S and Z are m x depth, and S Z^H is Hermitian; C is m x m, neither S nor Z, or empty where only
/// the norm is wanted. D may be empty. All have 16-byte aligned rows. Entries and sums
/// of squares have the same bits whatever the batch and the tile. `triangular`: S and Z are lower
/// triangular and zero above, and what is known to be zero is left out. `done`: one number for each
/// matrix, in device memory and read when the work runs, or null; where it is not 0 nothing is read
/// or written of that matrix.
void float64_product(const Queue& queue, Storage storage, index_t batch, index_t m, index_t depth,
                     Matrices s, Matrices z, Matrices d, Matrices c, const Scalars& scalars,
                     NormParts norm, int tile, bool triangular = false, const int* done = nullptr);

}  // namespace gramian::cuda
