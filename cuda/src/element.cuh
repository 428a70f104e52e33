// Element types in device code: conversions, runs of neighbours, fixed-order sums over a block.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "gramian/cuda/queue.hpp"
#include "gramian/matrix_view.hpp"

namespace gramian::cuda {

template <class T>
inline constexpr bool is_complex_number = std::is_same_v<T, float2> || std::is_same_v<T, double2>;

/// What an element is handled as: 16-bit formats as the float that holds them exactly.
template <class T>
using wide_t = std::conditional_t<(sizeof(T) == 2), float, T>;

template <class T>
using real_of_t =
    std::conditional_t<std::is_same_v<T, double> || std::is_same_v<T, double2>, double, float>;

/// Rounds to nearest, ties to even, once.
template <class To, class From>
__device__ To convert(From v) {
  if constexpr (std::is_same_v<To, From>) {
    return v;
  } else if constexpr (is_complex_number<To>) {
    return To{static_cast<real_of_t<To>>(v.x), static_cast<real_of_t<To>>(v.y)};
  } else if constexpr (std::is_same_v<From, __half>) {
    return convert<To>(__half2float(v));
  } else if constexpr (std::is_same_v<From, __nv_bfloat16>) {
    return convert<To>(__bfloat162float(v));
  } else if constexpr (std::is_same_v<To, __half>) {
    if constexpr (std::is_same_v<From, double>)
      return __double2half(v);
    else
      return __float2half_rn(v);
  } else if constexpr (std::is_same_v<To, __nv_bfloat16>) {
    if constexpr (std::is_same_v<From, double>)
      return __double2bfloat16(v);
    else
      return __float2bfloat16_rn(v);
  } else {
    return static_cast<To>(v);
  }
}

/// Bytes that one instruction moves at most.
inline constexpr int vector_bytes = 16;

/// v <- `count` <= N elements from p on, `stride` apart; zeros for the rest. `vector`: neighbours,
/// aligned to vector_bytes, or to the run's own size where that is half of it.
template <int N, class T>
__device__ __forceinline__ void load_run(const T* p, index_t stride, int count, bool vector,
                                         T (&v)[N]) {
  using Bits = std::conditional_t<N * sizeof(T) == sizeof(uint2), uint2, uint4>;
  static_assert(N * sizeof(T) % sizeof(Bits) == 0);
  if (vector && count == N) {
    constexpr int each = static_cast<int>(sizeof(Bits) / sizeof(T));
#pragma unroll
    for (int i = 0; i < N / each; ++i) {
      const Bits bits = reinterpret_cast<const Bits*>(p)[i];
      memcpy(static_cast<void*>(v + i * each), &bits, sizeof bits);
    }
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k) {
      if (k < count)
        v[k] = p[k * stride];
      else
        memset(static_cast<void*>(v + k), 0, sizeof(T));
    }
  }
}

template <int N, class T>
__device__ __forceinline__ void store_run(T* p, index_t stride, int count, bool vector,
                                          const T (&v)[N]) {
  static_assert(N * sizeof(T) % vector_bytes == 0);
  if (vector && count == N) {
    constexpr int each = vector_bytes / static_cast<int>(sizeof(T));
#pragma unroll
    for (int i = 0; i < N / each; ++i) {
      uint4 bits;
      memcpy(&bits, static_cast<const void*>(v + i * each), vector_bytes);
      reinterpret_cast<uint4*>(p)[i] = bits;
    }
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k)
      if (k < count) p[k * stride] = v[k];
  }
}

/// How the lanes of a warp share a T x T tile in shared memory, rows T + 1 words apart. A step of a
/// warp covers N rows by 32 columns, N adjacent columns to a lane. So N lanes stand in one column
/// and the others a multiple of N columns further: the N-th parts of a step, whether they go along
/// a row or down a column, meet each bank once, T + 1 being odd.
template <int T, int N, int threads>
struct TileSteps {
  static constexpr int total = (T / 32) * (T / N);
  static constexpr int warps = threads / 32;
  static constexpr int each = (total + warps - 1) / warps;  // per warp
  static_assert(T % 32 == 0 && 32 % N == 0);

  int row, col;

  /// Step i of this thread's warp; false where it has no such step.
  __device__ bool go(int i) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int q = static_cast<int>(threadIdx.x) / 32 + i * warps;
    row = q / (T / 32) * N + lane % N;
    col = q % (T / 32) * 32 + lane / N * N;
    return q < total;
  }
};

/// Tiles take 8 to 17 KB of shared memory, so that it does not limit how many blocks an SM holds
/// by much.
template <class Word>
inline constexpr int tile_side = sizeof(Word) == 4 ? 64 : 32;

/// min(limit - first, most), at least 0: how much of a run lies inside the matrix.
__device__ inline int inside(index_t first, index_t limit, int most) {
  const index_t left = limit - first;
  return left <= 0 ? 0 : left < most ? static_cast<int>(left) : most;
}

/// a / b for numbers >= 0, mostly without the cost of a 64-bit division.
__device__ inline index_t divide(index_t a, index_t b) {
  if (((a | b) >> 32) == 0)
    return static_cast<index_t>(static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b));
  return a / b;
}

/// Sum over the warp, in an order that is the same in every lane and call.
__device__ inline double warp_sum(double v) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
  return v;
}

__device__ inline unsigned long long warp_max(unsigned long long v) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) {
    const unsigned long long other = __shfl_xor_sync(0xffffffffu, v, d);
    v = other > v ? other : v;
  }
  return v;
}

/// Sum over a block of `threads` threads, for every thread. `shared` (threads / 32 doubles) is free
/// again after the next barrier.
template <int threads>
__device__ double block_sum(double v, double* shared) {
  v = warp_sum(v);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = v;
  __syncthreads();
  double sum = 0;
#pragma unroll
  for (int w = 0; w < threads / 32; ++w) sum += shared[w];
  return sum;
}

template <int threads>
__device__ unsigned long long block_max(unsigned long long v, unsigned long long* shared) {
  v = warp_max(v);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = v;
  __syncthreads();
  unsigned long long top = 0;
#pragma unroll
  for (int w = 0; w < threads / 32; ++w) top = shared[w] > top ? shared[w] : top;
  return top;
}

/// The first dimension of a grid. Throws Error beyond the 2^31 - 1 blocks that CUDA allows.
inline unsigned grid_size(index_t blocks) {
  if (blocks > 0x7fffffff) throw Error("the batch is too large for one launch");
  return static_cast<unsigned>(blocks);
}

inline index_t ceil_div(index_t a, index_t b) { return (a + b - 1) / b; }

}  // namespace gramian::cuda
