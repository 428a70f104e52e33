// Products of float16 matrices on Hopper: C = alpha A B + beta D + gamma I, float32 sums.
//
// One block of three warpgroups per multiprocessor, working through a list of tiles of 128 rows and
// `tile` columns. One warp of the first keeps a ring of shared-memory stages filled by bulk tensor
// copies; the other two warpgroups multiply 64 rows each and write. Blocks come in clusters of two,
// which take tiles one above the other: they share the columns of B, each loads half of them into
// both (a 128-row tile on its own would ask the L2 cache for more than it delivers).
//
// Hermitian results: only tiles that meet the lower triangle are computed. Every 64 x 64 chunk
// below the diagonal is stored twice, as it is and transposed; a chunk on the diagonal is made
// symmetric in registers and shared memory. So each entry is written once, and (i, j) and (j, i)
// are the same bits.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <type_traits>

#include "hopper_tiling.hpp"
#include "wgmma.cuh"

namespace gramian::cuda::hopper {

/// Walks over the tiles of all matrices, `step` units at a time.
class Walk {
 public:
  __device__ Walk(const Tiling& tiling, int whole, int units, int batch, int first, int step)
      : tiling_(tiling), whole_(whole), units_(units), batch_(batch), step_(step), unit_(first) {
    settle();
  }
  __device__ bool done() const { return matrix_ >= batch_; }
  __device__ void next() {
    if (tile_ >= whole_ && !second_ && tile_ + 1 < whole_ + tiling_.half_tiles()) {
      second_ = true;
      ++tile_;
      row_ += 2;
      ++col_;
    } else {
      unit_ += step_;
      settle();
    }
  }
  __device__ int matrix() const { return matrix_; }
  __device__ int tile() const { return tile_; }  // counted within the matrix
  __device__ bool half() const { return tile_ >= whole_; }
  __device__ int row() const { return row_; }  // in rows of units
  __device__ int col() const { return col_; }  // in tiles

 private:
  __device__ void settle() {
    while (unit_ >= units_) {
      unit_ -= units_;
      ++matrix_;
      row_base_ = row_scan_ = 0;
      if (matrix_ >= batch_) return;
    }
    tile_ = unit_;
    if (tile_ >= whole_) {
      tile_ = whole_ + 2 * (unit_ - whole_);
      second_ = false;
      row_ = 2 * (tile_ - whole_);
      col_ = tile_ - whole_;
    } else if (tiling_.hermitian) {
      while (tile_ >= row_base_ + tiling_.cols_at(row_scan_)) {
        row_base_ += tiling_.cols_at(row_scan_);
        ++row_scan_;
      }
      row_ = row_scan_;
      col_ = tile_ - row_base_;
    } else {
      // Down a band of rows first: neighbours in time share both operands in the L2 cache.
      constexpr int band = 8;
      const int in_band = tile_ / (band * tiling_.col_tiles);
      const int rest = tile_ - in_band * band * tiling_.col_tiles;
      const int left = tiling_.row_units - in_band * band;
      const int height = left < band ? left : band;
      col_ = rest / height;
      row_ = in_band * band + rest - col_ * height;
    }
  }

  Tiling tiling_;
  int whole_, units_, batch_, step_;
  int unit_;
  int tile_ = 0;
  bool second_ = false;  // of two halves
  int matrix_ = 0;
  int row_scan_ = 0, row_base_ = 0;
  int row_ = 0, col_ = 0;
};

__device__ __forceinline__ std::uint32_t pack(float low, float high, bool bfloat16) {
  if (!bfloat16) return pack_half(low, high);
  const __nv_bfloat162 h = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&h);
}

/// v: this thread's 32 entries of a 64 x 64 chunk on the diagonal.
__device__ __forceinline__ void add_to_diagonal(float (&v)[32], float gamma) {
  const int row = threadIdx.x % warpgroup / 32 * 16 + threadIdx.x % 32 / 4;
  const int col = 2 * (threadIdx.x % 4);
#pragma unroll
  for (int e = 0; e < 32; ++e)
    if (row + 8 * (e / 2 % 2) == col + 8 * (e / 4) + e % 2) v[e] += gamma;
}

/// Sum of squares of this thread's entries, those off the diagonal counted for their mirror images
/// too. On the diagonal chunk entries above it are left out, not weighted by 0: they may be NaN
/// where padding was read.
__device__ __forceinline__ float sum_squares(const float (&v)[32], bool diagonal) {
  const int row = threadIdx.x % warpgroup / 32 * 16 + threadIdx.x % 32 / 4;
  const int col = 2 * (threadIdx.x % 4);
  float twice = 0;
  float once = 0;
  if (!diagonal) {
#pragma unroll
    for (int e = 0; e < 32; ++e) twice += v[e] * v[e];
  } else {
#pragma unroll
    for (int e = 0; e < 32; ++e) {
      const int r = row + 8 * (e / 2 % 2);
      const int c = col + 8 * (e / 4) + e % 2;
      if (r > c) twice += v[e] * v[e];
      if (r == c) once += v[e] * v[e];
    }
  }
  return 2 * twice + once;
}

/// Writes one warpgroup's 64 x 64 chunk into its staging memory: as it is at `plain`, transposed at
/// `mirrored`. h[2 j + i]: the pairs of entries that this thread holds.
__device__ __forceinline__ void stage_chunk(const std::uint32_t (&h)[16], std::uint32_t plain,
                                            std::uint32_t mirrored, bool store, bool mirror) {
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x % warpgroup / 32;
  const int i = lane / 8 % 2;
#pragma unroll
  for (int j = 0; j < 8; j += 2) {
    const int mine = j + lane / 16;
    if (store)
      stmatrix4(plain + swizzled(16 * warp + 8 * i + lane % 8, 16 * mine), h[2 * j], h[2 * j + 1],
                h[2 * j + 2], h[2 * j + 3]);
    if (mirror)
      stmatrix4_transposed(mirrored + swizzled(8 * mine + lane % 8, 32 * warp + 16 * i), h[2 * j],
                           h[2 * j + 1], h[2 * j + 2], h[2 * j + 3]);
  }
}

/// The same for a chunk on the diagonal: its lower triangle and the mirror image of that.
__device__ __forceinline__ void stage_diagonal_chunk(const std::uint32_t (&h)[16],
                                                     std::uint32_t plain) {
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x % warpgroup / 32;
  const int row = lane / 4;
  const int col = 2 * (lane % 4);
#pragma unroll
  for (int j = 0; j < 8; ++j) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int block = 2 * warp + i;  // of 8 rows; j: of 8 columns
      if (j > block) continue;
      std::uint32_t v = h[2 * j + i];
      const std::uint32_t t = movmatrix(v);
      if (j == block) {
        if (col > row) v = (v & 0xffff0000u) | (t & 0xffffu);
        if (col + 1 > row) v = (v & 0xffffu) | (t & 0xffff0000u);
      } else {
        stmatrix1_transposed(plain + swizzled(8 * j + lane % 8, 16 * block), v);
      }
      stmatrix1(plain + swizzled(8 * block + lane % 8, 16 * j), v);
    }
  }
}

/// B is K-major (rows of a matrix whose columns are summed over: boxes of 64 x tile / cluster) for
/// Hermitian results, else MN-major (boxes of 64 x 64 / cluster).
template <int tile, int cluster, bool hermitian>
__global__ void __launch_bounds__(block_threads, 1)
    product_kernel(const __grid_constant__ ProductArguments p) {
#ifdef GRAMIAN_HOPPER
  constexpr int stages = stage_count(tile);
  constexpr int major_b = hermitian ? k_major : mn_major;
  constexpr bool halves = Tiling::has_halves(tile, cluster, hermitian);
  constexpr int a_bytes = tile_rows * block_depth * 2;
  constexpr int panel_bytes = block_depth * chunk * 2;

  extern __shared__ char dynamic[];
  const std::uint32_t base = (shared_address(dynamic) + 1023u) & ~1023u;
  const std::uint32_t staging = base + stages * stage_bytes(tile);
  const std::uint32_t full = staging + staging_bytes;
  const std::uint32_t empty = full + 8 * stages;

  const int group = threadIdx.x / warpgroup;
  const std::uint32_t rank = cluster > 1 ? cluster_rank() : 0;

  if (threadIdx.x == 0) {
    prefetch_map(&p.a);
    prefetch_map(&p.b);
    if (p.store) prefetch_map(&p.c);
    if (p.store_mirror) prefetch_map(&p.mirror);
    for (int s = 0; s < stages; ++s) {
      barrier_init(full + 8 * s, 1);
      barrier_init(empty + 8 * s, 2 * cluster);
    }
    barrier_init_fence();
  }
  __syncwarp();
  if (cluster > 1) {
    cluster_arrive();
    cluster_wait();
  } else {
    __syncthreads();
  }
  launch_dependents();

  const Tiling tiling(p.rows, p.cols, tile, cluster, hermitian);
  Walk walk(tiling, p.whole, p.units, p.batch, static_cast<int>(blockIdx.x) / cluster,
            static_cast<int>(gridDim.x) / cluster);
  const int blocks_deep = (p.depth + block_depth - 1) / block_depth;

  if (group == 0) {
    give_registers<40>();
    if (threadIdx.x == 0) {
      wait_for_dependency();
      int stage = 0;
      std::uint32_t phase = 1;  // a fresh barrier counts as one phase behind: the ring is empty
      for (; !walk.done(); walk.next()) {
        const int row0 = walk.row() * tiling.unit_rows + static_cast<int>(rank) * tile_rows;
        const int col0 = walk.col() * tile;
        for (int k = 0; k < blocks_deep; ++k) {
          barrier_wait(empty + 8 * stage, phase);
          const std::uint32_t to_a = base + stage * stage_bytes(tile);
          const std::uint32_t to_b = to_a + a_bytes;
          const std::uint32_t arrived = full + 8 * stage;
          const bool half_tile = halves && walk.half();
          barrier_expect(arrived, stage_bytes(half_tile ? tile / 2 : tile));
          tma_load(to_a, &p.a, arrived, k * block_depth, row0, walk.matrix());
          if constexpr (major_b == k_major) {
            constexpr int share = tile / cluster;
            const int mine = static_cast<int>(rank) * share;
            const std::uint32_t to = to_b + mine * block_depth * 2;
            if constexpr (cluster > 1)
              tma_load_multicast(to, &p.b, arrived, (1 << cluster) - 1, k * block_depth,
                                 col0 + mine, walk.matrix());
            else
              tma_load(to, &p.b, arrived, k * block_depth, col0, walk.matrix());
            if (halves && !half_tile)
              tma_load(to_b + tile / 2 * block_depth * 2, &p.b, arrived, k * block_depth,
                       col0 + tile / 2, walk.matrix());
          } else {
            constexpr int share = block_depth / cluster;
            const int mine = static_cast<int>(rank) * share;
#pragma unroll
            for (int panel = 0; panel < tile / chunk; ++panel) {
              const std::uint32_t to = to_b + panel * panel_bytes + mine * chunk * 2;
              if constexpr (cluster > 1)
                tma_load_multicast(to, &p.b, arrived, (1 << cluster) - 1, col0 + panel * chunk,
                                   k * block_depth + mine, walk.matrix());
              else
                tma_load(to, &p.b, arrived, col0 + panel * chunk, k * block_depth, walk.matrix());
            }
          }
          if (++stage == stages) {
            stage = 0;
            phase ^= 1;
          }
        }
      }
    }
  } else {
    take_registers<232>();
    wait_for_dependency();
    const int half = group - 1;
    const int thread = threadIdx.x % warpgroup;
    const int lane = thread % 32;
    const int warp = thread / 32;
    const std::uint32_t plain = staging + half * (staging_bytes / 2);
    const std::uint32_t mirrored = plain + chunk * chunk * 2;
    int stage = 0;
    std::uint32_t phase = 0;

    const auto release = [&](int s) {
      if constexpr (cluster > 1) {
        if (thread < cluster) barrier_arrive_at(empty + 8 * s, thread);
      } else {
        if (thread == 0) barrier_arrive(empty + 8 * s);
      }
    };

    for (; !walk.done(); walk.next()) {
      const int row0 = walk.row() * tiling.unit_rows + static_cast<int>(rank) * tile_rows +
                       half * (tile_rows / 2);
      const int col0 = walk.col() * tile;
      const int my_row = row0 + 16 * warp + lane / 4;
      const int my_col = col0 + 2 * (lane % 4);

      float alpha = p.alpha, beta = p.beta, gamma = p.gamma;
      if (p.device_scalars) {
        const double* s = p.device_scalars + 3 * walk.matrix();
        alpha = static_cast<float>(s[0]);
        beta = static_cast<float>(s[1]);
        gamma = static_cast<float>(s[2]);
      }
      // Asked for before the products and used after them.
      std::uint32_t d[hermitian ? tile / 4 : 1];
      if (hermitian && p.d) {
        const __half* from = p.d + walk.matrix() * p.d_stride + my_col;
        const int columns = p.cols - my_col;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          // Rows are padded to an even number of entries.
          const bool inside = my_row + 8 * i < p.rows;
          const auto* row = reinterpret_cast<const std::uint32_t*>(
              from + static_cast<long long>(min(my_row + 8 * i, p.rows - 1)) * p.d_ld);
#pragma unroll
          for (int j = 0; j < tile / 8; ++j)
            d[2 * j + i] = inside && 8 * j < columns ? row[4 * j] : 0;
        }
      }

      float sum[tile / 2];
      const auto multiply = [&]<bool half_tile>(std::bool_constant<half_tile>) {
        for (int k = 0; k < blocks_deep; ++k) {
          barrier_wait(full + 8 * stage, phase);
          const std::uint32_t at_a = base + stage * stage_bytes(tile) + half * (a_bytes / 2);
          const std::uint32_t at_b = base + stage * stage_bytes(tile) + a_bytes;
          wgmma_touch(sum);
          wgmma_fence();
#pragma unroll
          for (int q = 0; q < block_depth / 16; ++q) {
            const std::uint64_t a = k_major_operand(at_a + 32 * q);
            const std::uint64_t b = major_b == k_major
                                        ? k_major_operand(at_b + 32 * q)
                                        : mn_major_operand(at_b + 2048 * q, panel_bytes);
            if constexpr (half_tile)
              wgmma_first_half(sum, a, b, k + q > 0);
            else
              wgmma<k_major, major_b>(sum, a, b, k + q > 0);
          }
          wgmma_commit();
          if (k > 0) {
            wgmma_wait<1>();
            release(stage == 0 ? stages - 1 : stage - 1);
          }
          if (++stage == stages) {
            stage = 0;
            phase ^= 1;
          }
        }
        wgmma_wait<0>();
        wgmma_touch(sum);
        release(stage == 0 ? stages - 1 : stage - 1);
      };
      if constexpr (halves) {
        if (walk.half())
          multiply(std::true_type{});
        else
          multiply(std::false_type{});
      } else {
        multiply(std::false_type{});
      }

      double squares = 0;
#pragma unroll
      for (int c = 0; c < tile / chunk; ++c) {
        const int chunk_col = col0 + c * chunk;
        if (row0 >= p.rows || chunk_col >= p.cols || (hermitian && row0 < chunk_col)) continue;
        const bool diagonal = hermitian && row0 == chunk_col;
        float v[32];
#pragma unroll
        for (int e = 0; e < 32; ++e) v[e] = alpha * sum[32 * c + e];
        if constexpr (hermitian) {
          if (p.d) {
#pragma unroll
            for (int e = 0; e < 16; ++e) {
              const float2 from_d =
                  __half22float2(*reinterpret_cast<const __half2*>(&d[16 * c + e]));
              v[2 * e] += beta * from_d.x;
              v[2 * e + 1] += beta * from_d.y;
            }
          }
          if (diagonal) add_to_diagonal(v, gamma);
          if (p.norm) squares += static_cast<double>(sum_squares(v, diagonal));
        }
        if (!p.store && !p.store_mirror) continue;
        std::uint32_t h[16];
#pragma unroll
        for (int e = 0; e < 16; ++e) h[e] = pack(v[2 * e], v[2 * e + 1], p.bfloat16);

        // Hermitian chunks need both pieces of staging memory, others take turns with one each.
        const std::uint32_t turn = hermitian || c % 2 == 0 ? 0 : chunk * chunk * 2;
        if (thread == 0) tma_store_wait_read<hermitian ? 0 : 1>();
        named_barrier(1 + half, warpgroup);
        if (diagonal)
          stage_diagonal_chunk(h, plain);
        else if constexpr (hermitian)
          stage_chunk(h, plain, mirrored, true, true);
        else
          stage_chunk(h, plain + turn, plain + turn, p.store, p.store_mirror);
        fence_async_shared();
        named_barrier(1 + half, warpgroup);
        if (thread == 0) {
          if (p.store) tma_store(&p.c, plain + turn, chunk_col, row0, walk.matrix());
          if (p.store_mirror && !diagonal)
            tma_store(&p.mirror, hermitian ? mirrored : plain + turn, row0, chunk_col,
                      walk.matrix());
          tma_store_commit();
        }
      }
      if (hermitian && p.norm) {
        for (int lanes = 16; lanes > 0; lanes /= 2)
          squares += __shfl_xor_sync(0xffffffffu, squares, lanes);
        const int slot = ((walk.tile() * cluster + static_cast<int>(rank)) * 2 + half) * 4 + warp;
        if (lane == 0)
          p.norm[static_cast<long long>(walk.matrix()) * p.norm_count + slot] = squares;
      }
    }
    if (thread == 0) tma_store_wait();
  }
  __syncwarp();
  // A block that has ended can neither receive its share nor be told that a stage is free.
  if (cluster > 1) {
    cluster_arrive();
    cluster_wait();
  }
#endif
}

}  // namespace gramian::cuda::hopper
