// Whole iterations in one launch: each matrix of the batch belongs to one block (or one cluster of
// blocks) and stays in its shared memory from the first step to the last.
#pragma once

#include "gramian/cuda/newton_schulz.hpp"

namespace gramian::cuda {

/// The longest long side that fits beside a short side m in float16: what the shared memory of a
/// block holds, or of two for m > 128. 0: none.
constexpr index_t longest_small_half(index_t m) {
  return m <= 64 ? 1024 : m <= 128 ? 512 : m <= 256 ? 256 : 0;
}

/// Tensor cores, float16 storage; Hopper only (compute capability 9.0). x and out hold float16 or
/// bfloat16 in any strides. `small_half_fits` also asks for a plan without surprises: it is true
/// where small_half takes these sides (in either order) and this device.
bool small_half_fits(const Queue& queue, index_t rows, index_t cols,
                     const NewtonSchulzOptions& options);
void small_half(const Queue& queue, const ArrayRef& x, const ArrayRef& out,
                const NewtonSchulzOptions& options, const NewtonSchulzInfo& info);

/// Ordinary arithmetic of any GPU: float32 (also for float16 and bfloat16 arrays), float64, and the
/// complex types of either width.
bool small_simt_fits(const Queue& queue, index_t rows, index_t cols, DType dtype,
                     const NewtonSchulzOptions& options);
void small_simt(const Queue& queue, const ArrayRef& x, const ArrayRef& out,
                const NewtonSchulzOptions& options, const NewtonSchulzInfo& info);

}  // namespace gramian::cuda
