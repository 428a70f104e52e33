// The kernels of thin_products.hpp. S, stored row by row, is p x q; X and the result have `width`
// columns, a multiple of 16. `across`: the result is S X and sums run along rows of S; otherwise it
// is S^T X, and sums run down columns.
//
// One block of three warpgroups per multiprocessor computes `rows` rows of the result, or a part of
// their sums: one thread of the first keeps a ring of shared-memory stages filled, each with 32
// summed entries of S (bulk tensor copies) and of X (split beforehand, copied as it lies). The
// other two split S in registers and multiply, tiles of 64 rows, of which each thread adds up its
// sums.
//
// The order in which summed entries enter a product is free as long as S and X agree on it. It is
// such that a thread reads 16 (or 8) bytes of S at once, and eight (16) threads all 32 banks:
// of 8 entries in step s, slot t < 4 of the hardware and slot t + 4 hold
//   across: entries 8 t + 2 s and 8 t + 2 s + 1 of 32;   down: entries 8 s + 2 t and 8 s + 2 t + 1.
#pragma once

#include <cstdint>

#include "dependent_launch.cuh"
#include "gramian/array_ref.hpp"
#include "wgmma_tf32.cuh"

namespace gramian::cuda::thin {

using namespace hopper;

constexpr int depth = 32;  // summed entries of a stage: 128 bytes
constexpr int row_bytes = depth * 4;
constexpr int warpgroup = 128;
constexpr int multipliers = 2;  // warpgroups
constexpr int threads = warpgroup * (1 + multipliers);
constexpr int steps = depth / 8;
constexpr int box_bytes = depth * row_bytes;  // 32 x 32 entries, where sums run down columns
constexpr int widest = 160;

/// Tiles of 64 rows that a warpgroup works on: as many as its registers can hold sums for.
__host__ __device__ constexpr int tiles_of(int width) { return width <= 96 ? 2 : 1; }
/// Rows of the result that a block computes.
__host__ __device__ constexpr int rows_of(int width) { return 64 * multipliers * tiles_of(width); }
/// Bytes of `depth` rows of X, split.
__host__ __device__ constexpr int split_bytes(int width) { return 2 * width * row_bytes; }
__host__ __device__ constexpr int stage_bytes(int width) {
  return rows_of(width) * row_bytes + split_bytes(width);
}
__host__ __device__ constexpr int stages_of(int width) {
  constexpr int room = 227 * 1024 - 2048;
  return room / stage_bytes(width) < 8 ? room / stage_bytes(width) : 8;
}
__host__ __device__ constexpr int shared_bytes(int width) {
  return 1024 + stages_of(width) * (stage_bytes(width) + 16);
}

struct Arguments {
  CUtensorMap s;
  const std::byte* x;   // split by split_kernel
  float* out;           // the result, or parts of it, one behind the other
  std::int64_t ld;      // of `out`
  std::int64_t part;    // entries from one part to the next
  std::int64_t length;  // rows of the result
  int vectors;          // columns of it that are written
  int tiles;            // blocks for one part
  int least_stages;     // of `depth` summed entries, in a part
  int longer_parts;     // the first ones, which have one more
};

/// x = high + low, exactly; high is a tf32 number and |low| <= 2^-11 |x|. Low has at most 12
/// significant bits, of which the tensor cores read 11.
__device__ __forceinline__ void split(float x, std::uint32_t& high, std::uint32_t& low) {
  high = (__float_as_uint(x) + 0x1000u) & 0xffffe000u;
  // Of infinities and NaN, even one that wraps to zero above, this is NaN.
  low = __float_as_uint(x - __uint_as_float(high));
}

__device__ __forceinline__ float4 load4(std::uint32_t address) {
  float4 v;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];\n"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(address)
               : "memory");
  return v;
}
__device__ __forceinline__ float2 load2(std::uint32_t address) {
  float2 v;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];\n"
               : "=f"(v.x), "=f"(v.y)
               : "r"(address)
               : "memory");
  return v;
}

__device__ __forceinline__ void bulk_load(std::uint32_t to, const void* from, std::uint32_t bytes,
                                          std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::
          "r"(to),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier)
      : "memory");
}
/// Orders what other kernels stored before the bulk copies that follow.
__device__ __forceinline__ void fence_async() { asm volatile("fence.proxy.async;\n" ::: "memory"); }

/// This thread's entries of a tile (64 x 32, transposed in shared memory unless `across`) for the
/// tensor cores: x[s] = {slot t of rows i = 0, 1, slot t + 4 of the same}. Row i of the lane's two
/// is 16 warp + (across ? g + 8 i : 2 g + i), g = lane / 4.
template <bool across>
__device__ __forceinline__ void load_tile(std::uint32_t stage, int first, int warp, int lane,
                                          float (&x)[steps][4]) {
  const int g = lane / 4;
  const int t = lane % 4;
  if constexpr (across) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const float4 v = load4(stage + swizzled(first + 16 * warp + 8 * i + g, 32 * t + 16 * j));
        x[2 * j][i] = v.x;
        x[2 * j][2 + i] = v.y;
        x[2 * j + 1][i] = v.z;
        x[2 * j + 1][2 + i] = v.w;
      }
    }
  } else {
    const int row = first + 16 * warp + 2 * g;  // a column of S
    const std::uint32_t box = stage + static_cast<std::uint32_t>(row / depth * box_bytes);
#pragma unroll
    for (int s = 0; s < steps; ++s) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const float2 v = load2(box + swizzled(8 * s + 2 * t + j, row % depth * 4));
        x[s][2 * j] = v.x;
        x[s][2 * j + 1] = v.y;
      }
    }
  }
}

/// What a thread holds of a tile: the tf32 operands of its steps.
struct Fragments {
  std::uint32_t high[steps][4], low[steps][4];

  template <bool across>
  __device__ __forceinline__ void load(std::uint32_t stage, int first, int warp, int lane) {
    float x[steps][4];
    load_tile<across>(stage, first, warp, lane, x);
#pragma unroll
    for (int s = 0; s < steps; ++s)
#pragma unroll
      for (int j = 0; j < 4; ++j) split(x[s][j], high[s][j], low[s][j]);
  }
};

/// d <- S X of one tile and one stage, X at `x` in shared memory. The small products come first:
/// what truncation takes off is in proportion to the sum so far.
template <int width>
__device__ __forceinline__ void start_products(float (&d)[width / 2], Fragments& f,
                                               std::uint32_t x) {
  const std::uint64_t x_high = k_major_operand(x);
  const std::uint64_t x_low = k_major_operand(x + width * row_bytes);
  constexpr std::uint64_t step = 8 * 4 >> 4;  // in the units of descriptors
#pragma unroll
  for (int s = 0; s < steps; ++s)
#pragma unroll
    for (int j = 0; j < 4; ++j) asm volatile("" : "+r"(f.high[s][j]), "+r"(f.low[s][j])::"memory");
  wgmma_fence();
  Tf32Product<width>::first(d, f.low[0], x_high);
#pragma unroll
  for (int s = 1; s < steps; ++s) Tf32Product<width>::add(d, f.low[s], x_high + s * step);
#pragma unroll
  for (int s = 0; s < steps; ++s) Tf32Product<width>::add(d, f.high[s], x_low + s * step);
#pragma unroll
  for (int s = 0; s < steps; ++s) Tf32Product<width>::add(d, f.high[s], x_high + s * step);
  wgmma_commit();
}

template <int width, bool across>
__global__ void __launch_bounds__(threads, 1) product_kernel(const __grid_constant__ Arguments p) {
#ifdef GRAMIAN_HOPPER
  constexpr int tiles = tiles_of(width);
  constexpr int rows = rows_of(width);
  constexpr int stages = stages_of(width);
  constexpr std::uint32_t s_bytes = rows * row_bytes;
  constexpr int sums_count = width / 2;

  extern __shared__ char dynamic[];
  const std::uint32_t base = (shared_address(dynamic) + 1023u) & ~1023u;
  const std::uint32_t full = base + stages * stage_bytes(width);
  const std::uint32_t empty = full + 8 * stages;
  if (threadIdx.x == 0) {
    prefetch_map(&p.s);
    for (int s = 0; s < stages; ++s) {
      barrier_init(full + 8 * s, 1);
      barrier_init(empty + 8 * s, multipliers * warpgroup / 32);
    }
    barrier_init_fence();
  }
  __syncthreads();
  await_earlier_kernels();

  const int tile = static_cast<int>(blockIdx.x) % p.tiles;
  const int part = static_cast<int>(blockIdx.x) / p.tiles;
  const int begin = part * p.least_stages + min(part, p.longer_parts);
  const int end = begin + p.least_stages + (part < p.longer_parts ? 1 : 0);
  int at = 0;  // place in the ring
  std::uint32_t phase = 0;
  const auto advance = [&] {
    if (++at == stages) {
      at = 0;
      phase ^= 1;
    }
  };

  if (threadIdx.x < warpgroup) {
    give_registers<40>();
    if (threadIdx.x == 0) {
      fence_async();
      for (int k = begin; k < end; ++k, advance()) {
        barrier_wait(empty + 8 * at, phase ^ 1);
        const std::uint32_t arrived = full + 8 * at;
        const std::uint32_t stage = base + at * stage_bytes(width);
        barrier_expect(arrived, stage_bytes(width));
        if constexpr (across) {
          tma_load(stage, &p.s, arrived, k * depth, tile * rows, 0);
        } else {
          for (int i = 0; i < rows / depth; ++i)
            tma_load(stage + i * box_bytes, &p.s, arrived, tile * rows + i * depth, k * depth, 0);
        }
        bulk_load(stage + s_bytes, p.x + static_cast<std::int64_t>(k) * split_bytes(width),
                  split_bytes(width), arrived);
      }
    }
  } else {
    take_registers<232>();
    const int group = static_cast<int>(threadIdx.x) / warpgroup - 1;
    const int warp = static_cast<int>(threadIdx.x) % warpgroup / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int first = group * tiles * 64;
    float sums[tiles][sums_count];
#pragma unroll
    for (int i = 0; i < tiles; ++i)
#pragma unroll
      for (int j = 0; j < sums_count; ++j) sums[i][j] = 0;

    float d[sums_count];
    Fragments now, next;
    const auto prepare = [&](int place, int i, Fragments& to) {
      to.load<across>(base + place * stage_bytes(width), first + 64 * i, warp, lane);
    };
    const auto add_up = [&](float (&to)[sums_count]) {
      wgmma_touch(d);
#pragma unroll
      for (int j = 0; j < sums_count; ++j) to[j] += d[j];
    };
    // The tensor cores have work while the next entries of S are read and split.
    barrier_wait(full + 8 * at, phase);
    prepare(at, 0, now);
    for (int k = begin; k < end; ++k) {
      const std::uint32_t x = base + at * stage_bytes(width) + s_bytes;
      const int place = at;
      start_products<width>(d, now, x);
      if constexpr (tiles == 2) {
        prepare(at, 1, next);
        wgmma_wait<0>();
        add_up(sums[0]);
        start_products<width>(d, next, x);
      }
      advance();
      if (k + 1 < end) {
        barrier_wait(full + 8 * at, phase);
        prepare(at, 0, tiles == 2 ? now : next);
      }
      wgmma_wait<0>();
      if (lane == 0) barrier_arrive(empty + 8 * place);
      add_up(sums[tiles - 1]);
      if constexpr (tiles == 1) now = next;
    }

    float* const out = p.out + part * p.part;
    const bool pairs = p.ld % 2 == 0 && reinterpret_cast<std::uintptr_t>(out) % 8 == 0;
#pragma unroll
    for (int i = 0; i < tiles; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int in_warp = across ? lane / 4 + 8 * half : lane / 4 * 2 + half;
        const std::int64_t row =
            static_cast<std::int64_t>(tile) * rows + first + 64 * i + 16 * warp + in_warp;
        if (row >= p.length) continue;
        float* const to = out + row * p.ld;
#pragma unroll
        for (int j = 0; j < width / 8; ++j) {
          const int col = 8 * j + 2 * (lane % 4);
          const float a = sums[i][4 * j + 2 * half];
          const float b = sums[i][4 * j + 2 * half + 1];
          if (pairs && col + 1 < p.vectors) {
            *reinterpret_cast<float2*>(to + col) = {a, b};
          } else {
            if (col < p.vectors) to[col] = a;
            if (col + 1 < p.vectors) to[col + 1] = b;
          }
        }
      }
    }
  }
#endif
}

}  // namespace gramian::cuda::thin
