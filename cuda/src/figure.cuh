// Figures of matrices in device code: sums of their parts, and where the caller wants them.
#pragma once

#include "dependent_launch.cuh"
#include "gramian/array_ref.hpp"

namespace gramian::cuda {

/// The sum of a matrix's parts, in an order fixed by their number, for every thread of the block.
template <int threads>
__device__ double sum_parts(const double* parts, index_t count) {
  __shared__ double sums[threads];
  double sum = 0;
  for (index_t i = threadIdx.x; i < count; i += threads) sum += parts[i];
  sums[threadIdx.x] = sum;
  for (unsigned half = threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  __syncthreads();
  return sums[0];
}

/// An array of float32 or float64, one entry for each matrix, or none.
struct Figure {
  void* data;
  bool float64;

  __device__ void put(index_t i, double value) const {
    if (!data) return;
    if (float64)
      static_cast<double*>(data)[i] = value;
    else
      static_cast<float*>(data)[i] = static_cast<float>(value);
  }
};

inline Figure figure(const ArrayRef& a) { return {a.data, a.dtype == DType::float64}; }

}  // namespace gramian::cuda
