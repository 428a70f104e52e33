// Which column of an iterate is best for a Rayleigh quotient.
#pragma once

#include "bounds_passes.hpp"
#include "element.cuh"
#include "vector_arithmetic.cuh"

namespace gramian::cuda {

/// Of two with the same ratio the one that comes first in the matrix.
__device__ inline Candidate better(Candidate a, Candidate b) {
  return b.ratio > a.ratio || (b.ratio == a.ratio && b.index < a.index) ? b : a;
}

/// For every lane.
__device__ inline Candidate best_of_warp(Candidate best) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2)
    best = better(best, {__shfl_xor_sync(0xffffffffu, best.ratio, d),
                         __shfl_xor_sync(0xffffffffu, best.index, d)});
  return best;
}

/// Of a row's entries, for every lane of a warp.
template <class T>
__device__ double sum_of_squares(const T* row, index_t m, int lane) {
  double sum = 0;
  for (index_t j = lane; j < m; j += 32) sum += squared(row[j]);
  return warp_sum(sum);
}

}  // namespace gramian::cuda
