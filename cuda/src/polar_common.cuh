// What kernels of functions of singular values have in common.
#pragma once

#include <algorithm>

#include "element.cuh"
#include "entrance.hpp"
#include "products.hpp"
#include "vector_arithmetic.cuh"

namespace gramian::cuda {

template <class T>
__device__ T not_a_number() {
  if constexpr (is_complex_number<T>)
    return {NAN, NAN};
  else
    return NAN;
}

/// The sum of a matrix's parts, for every thread of a block of so many.
template <int threads>
__device__ double sum_of_parts(const NormParts& parts, index_t b) {
  __shared__ double sums[threads / 32];
  const double* const from = parts.data + b * parts.count;
  double four[4] = {};  // loads on the way at once
  for (index_t first = threadIdx.x; first < parts.count; first += 4 * threads) {
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (first + k * threads < parts.count) four[k] += from[first + k * threads];
  }
  double sum = (four[0] + four[1]) + (four[2] + four[3]);
  sum = block_sum<threads>(sum, sums);
  __syncthreads();
  return sum;
}

/// So many blocks deal out a matrix' rows.
inline index_t blocks_for(index_t rows) { return std::min<index_t>(rows, 256); }

/// f with a number of the storage's type.
template <class F>
void with_float64(Storage storage, F&& f) {
  if (storage == Storage::float64) return f(double{});
  if (storage == Storage::complex128) return f(double2{});
  throw Error("functions of singular values are computed in float64");
}

}  // namespace gramian::cuda
