// What the fused float16 kernels share: their arguments, the way from global into shared memory
// with the scale, and the way back.
//
// X (m x n, m <= n, transposed where the caller's matrix is tall) lies in shared memory in panels
// of 64 columns, padded by zeros to a multiple of 64 rows and 64 columns: they change no singular
// value that counts. Panels are swizzled as wgmma.cuh tells, so the same copy serves as operand
// with either index adjacent.
#pragma once

#include <cuda_bf16.h>

#include "gramian/matrix_view.hpp"
#include "gramian/newton_schulz.hpp"
#include "wgmma.cuh"

namespace gramian::cuda::small_half_detail {

inline constexpr int max_steps = 64;
// Batch dimensions left after neighbours are joined. More would need 2^32 matrices, as dimensions
// of one matrix drop out.
inline constexpr int max_dims = 32;

struct Layout {
  index_t row;
  index_t col;
  bool vector;      // rows of adjacent entries, all in whole and aligned groups of 16 bytes
  bool along_rows;  // neighbouring threads take neighbouring rows
};

struct Call {
  const std::uint16_t* x;
  std::uint16_t* out;
  float* residual;  // null: not wanted
  float* norm_bound;
  index_t first;  // matrix of block 0
  int m;
  int n;
  int panels;
  double root_m;
  Layout from;
  Layout to;
  Normalization normalization;
  double bound;
  int dims;
  index_t shape[max_dims];
  index_t x_stride[max_dims];
  index_t out_stride[max_dims];
  int steps;
  float rows[max_steps][3];
};

struct Float16 {
  static constexpr std::uint32_t infinity = 0x7c00;
  static constexpr std::uint32_t nan = 0x7e00;
  static __device__ __forceinline__ float2 unpack(std::uint32_t pair) {
    return __half22float2(*reinterpret_cast<const __half2*>(&pair));
  }
  static __device__ __forceinline__ std::uint32_t pack(float low, float high) {
    return hopper::pack_half(low, high);
  }
};

struct Bfloat16 {
  static constexpr std::uint32_t infinity = 0x7f80;
  static constexpr std::uint32_t nan = 0x7fc0;
  static __device__ __forceinline__ float2 unpack(std::uint32_t pair) {
    return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
  }
  static __device__ __forceinline__ std::uint32_t pack(float low, float high) {
    const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&v);
  }
};

/// One figure per warp of each sum that a block forms.
struct Slots {
  static constexpr int warps = 16;
  std::uint32_t top[warps];
  float squares[warps];
  float first[warps];
  float last[warps];
  double of_block[2];  // of a cluster
};

/// 2^k, -126 <= k <= 127.
__device__ __forceinline__ float power(int k) {
  return __uint_as_float(static_cast<std::uint32_t>(k + 127) << 23);
}

/// Multiplies by 2^k in two exact steps, |k| <= 250: 2^k itself may lie outside of float32. A step
/// is inexact only where the result underflows float16 by far.
struct PowerOfTwo {
  float half;
  float rest;
  __device__ __forceinline__ explicit PowerOfTwo(int k)
      : half(power(k / 2)), rest(power(k - k / 2)) {}
  __device__ __forceinline__ float operator()(float v) const { return v * half * rest; }
};

enum class Content { numbers, zero, not_finite };

/// y = x 2^-exponent, norm = ||y||_F.
struct Scale {
  Content content;
  int exponent;
  float norm;
};

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) v += __shfl_xor_sync(0xffffffffu, v, lanes);
  return v;
}

/// The sum over the block, the same in every thread. Has a barrier.
template <int threads>
__device__ __forceinline__ double block_sum(float v, float* slots) {
  v = warp_sum(v);
  if (threadIdx.x % 32 == 0) slots[threadIdx.x / 32] = v;
  __syncthreads();
  double sum = 0;
#pragma unroll
  for (int w = 0; w < threads / 32; ++w) sum += slots[w];
  return sum;
}

using hopper::load_shared;

__device__ __forceinline__ void store_shared(std::uint32_t address, uint4 v) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};\n" ::"r"(address), "r"(v.x), "r"(v.y),
               "r"(v.z), "r"(v.w)
               : "memory");
}

/// 16 bytes, or zeros.
__device__ __forceinline__ void copy_async(std::uint32_t to, const void* from, bool any) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to),
               "l"(__cvta_generic_to_global(from)), "r"(any ? 16 : 0)
               : "memory");
}

/// The block's way between global memory and the panels, 8 entries of a row at a time. A thread
/// meets the same pieces in every pass with the same layout, so passes need no barrier in between.
template <class Type, int padded, int threads>
class Passage {
 public:
  static constexpr std::uint32_t panel_bytes = padded * 128;

  /// Of the launch's matrix b; rows first_row .. end_row - 1 are this block's to write.
  __device__ Passage(const Call& call, std::uint32_t panels, unsigned matrix, int first_row,
                     int end_row)
      : call_(call), panels_(panels), first_row_(first_row), end_row_(min(end_row, call.m)) {
    index_t b = call.first + matrix;
    for (int d = call.dims - 1; d > 0; --d) {
      const index_t q = b / call.shape[d];
      const index_t r = b - q * call.shape[d];
      x_ += r * call.x_stride[d];
      out_ += r * call.out_stride[d];
      b = q;
    }
    if (call.dims > 0) {
      x_ += b * call.x_stride[0];
      out_ += b * call.out_stride[0];
    }
  }

  /// Into the panels as they are.
  __device__ __forceinline__ void load() const {
    const Layout from = call_.from;
    const std::uint16_t* x = call_.x + x_;
    each(from, [&](std::uint32_t at, int row, int col) {
      if (from.vector) {
        const bool inside = row < call_.m && col < call_.n;
        copy_async(at, inside ? x + row * from.row + col : x, inside);
        return;
      }
      std::uint32_t v[8];
#pragma unroll
      for (int i = 0; i < 8; ++i)
        v[i] = row < call_.m && col + i < call_.n ? x[row * from.row + (col + i) * from.col] : 0u;
      store_shared(at,
                   {v[0] | v[1] << 16, v[2] | v[3] << 16, v[4] | v[5] << 16, v[6] | v[7] << 16});
    });
    asm volatile("cp.async.wait_all;\n" ::: "memory");
  }

  /// Scales what load() brought and rounds it to float16. Every power of two is chosen from the
  /// entries' exponents and from a sum of squares relative to the largest entry: scaling x by a
  /// power of two changes nothing but the exponent.
  __device__ __forceinline__ Scale scale(Slots& slots) const {
    std::uint32_t pairs = 0;
    each(call_.from, [&](std::uint32_t at, int, int) {
      const uint4 v = load_shared(at);
      constexpr std::uint32_t magnitudes = 0x7fff7fffu;
      pairs = __vmaxu2(pairs, v.x & magnitudes);
      pairs = __vmaxu2(pairs, v.y & magnitudes);
      pairs = __vmaxu2(pairs, v.z & magnitudes);
      pairs = __vmaxu2(pairs, v.w & magnitudes);
    });
    std::uint32_t top = __reduce_max_sync(0xffffffffu, max(pairs & 0xffffu, pairs >> 16));
    if (threadIdx.x % 32 == 0) slots.top[threadIdx.x / 32] = top;
    __syncthreads();
#pragma unroll
    for (int w = 0; w < threads / 32; ++w) top = max(top, slots.top[w]);
    if (top == 0) return {Content::zero, 0, 0.0f};
    if (top >= Type::infinity) return {Content::not_finite, 0, 0.0f};

    int largest;
    frexpf(Type::unpack(top).x, &largest);
    const PowerOfTwo to_one(-largest);
    float part = 0;
    each(call_.from, [&](std::uint32_t at, int, int) {
      const uint4 v = load_shared(at);
      for_pairs(v, [&](std::uint32_t pair) {
        const float2 f = Type::unpack(pair);
        const float low = to_one(f.x);
        const float high = to_one(f.y);
        part = fmaf(low, low, part);
        part = fmaf(high, high, part);
        return pair;
      });
    });
    const double squares = block_sum<threads>(part, slots.squares);

    // ||x 2^-largest||_F^2 / sqrt(m) = f 2^q with f in [1/2, 1), q even or odd.
    const int q = ((__double2hiint(squares / call_.root_m) >> 20) & 0x7ff) - 1022;
    const int more = (q + 1) >> 1;  // rounds down below zero too
    const PowerOfTwo to_half(-largest - more);
    each(call_.from, [&](std::uint32_t at, int, int) {
      store_shared(at, for_pairs(load_shared(at), [&](std::uint32_t pair) {
                     const float2 f = Type::unpack(pair);
                     return hopper::pack_half(to_half(f.x), to_half(f.y));
                   }));
    });
    return {Content::numbers, largest + more,
            __fsqrt_rn(static_cast<float>(squares)) * power(-more)};
  }

  /// From the panels, entries in the result's type.
  __device__ __forceinline__ void store() const {
    each(call_.to, [&](std::uint32_t at, int row, int col) {
      if (writes(row, col)) put(row, col, load_shared(at));
    });
  }

  __device__ __forceinline__ void fill(std::uint32_t bits) const {
    const std::uint32_t pair = bits | bits << 16;
    each(call_.to, [&](std::uint32_t, int row, int col) {
      if (writes(row, col)) put(row, col, {pair, pair, pair, pair});
    });
  }

  /// After store(): what was stored as float16, exact but for results under 2^-14.
  __device__ __forceinline__ void to_half() const {
    each(call_.to, [&](std::uint32_t at, int row, int col) {
      if (!writes(row, col)) return;
      store_shared(at, for_pairs(load_shared(at), [](std::uint32_t pair) {
                     const float2 f = Type::unpack(pair);
                     return hopper::pack_half(f.x, f.y);
                   }));
    });
  }

 private:
  /// visit(address, row, first column) for each of this thread's pieces.
  template <class Visit>
  __device__ __forceinline__ void each(const Layout& layout, Visit visit) const {
    constexpr int pieces = padded * 8 / threads;
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll 1
    for (int panel = 0; panel < call_.panels; ++panel) {
      const std::uint32_t base = panels_ + panel * panel_bytes;
#pragma unroll
      for (int i = 0; i < pieces; ++i) {
        const int q = i * threads + thread;
        const int row = layout.along_rows ? q % padded : q / 8;
        const int piece = layout.along_rows ? q / padded : q % 8;
        visit(base + hopper::swizzled(row, piece * 16), row, panel * 64 + piece * 8);
      }
    }
  }

  __device__ __forceinline__ bool writes(int row, int col) const {
    return row >= first_row_ && row < end_row_ && col < call_.n;
  }

  template <class Map>
  static __device__ __forceinline__ uint4 for_pairs(uint4 v, Map map) {
    return {map(v.x), map(v.y), map(v.z), map(v.w)};
  }

  __device__ __forceinline__ void put(int row, int col, uint4 v) const {
    const Layout to = call_.to;
    std::uint16_t* out = call_.out + out_ + row * to.row;
    if (to.vector) {
      *reinterpret_cast<uint4*>(out + col) = v;
      return;
    }
    const std::uint32_t pairs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (col + i < call_.n)
        out[(col + i) * to.col] = static_cast<std::uint16_t>(pairs[i / 2] >> (i % 2 * 16));
  }

  const Call& call_;
  std::uint32_t panels_;
  int first_row_;
  int end_row_;
  index_t x_ = 0;
  index_t out_ = 0;
};

/// The row of step t; that of step 0 takes the division by s: (a/s, b/s^3, c/s^5).
struct Coefficients {
  float a;
  float b;
  float c;
  __device__ __forceinline__ Coefficients(const Call& call, int step)
      : a(call.rows[step][0]), b(call.rows[step][1]), c(call.rows[step][2]) {}
  __device__ __forceinline__ void divide(float s) {
    const float r = __frcp_rn(s);
    a *= r;
    b *= r * r * r;
    c *= r * r * r * r * r;
  }
};

/// s on the scale of the input.
__device__ __forceinline__ float norm_bound(const Call& call, float s, int exponent) {
  if (call.normalization == Normalization::bound) return static_cast<float>(call.bound);
  return static_cast<float>(ldexp(static_cast<double>(s), exponent));
}

__device__ __forceinline__ void put_figures(const Call& call, unsigned matrix, float norm_bound,
                                            float residual) {
  const index_t b = call.first + matrix;
  if (call.norm_bound) call.norm_bound[b] = norm_bound;
  if (call.residual) call.residual[b] = residual;
}

}  // namespace gramian::cuda::small_half_detail
