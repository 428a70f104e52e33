// Products of float16 matrices on Hopper: C = alpha A B + beta D + gamma I, float32 sums.
//
// One block of three warpgroups per multiprocessor, working through a list of tiles of 128 rows and
// `tile` columns. One thread of the first keeps a ring of shared-memory stages filled by bulk
// tensor copies (another one brings D where that has a room of its own); the other two warpgroups
// multiply 64 rows each and write, or take whole tiles in turn. Two blocks may form a cluster and
// take tiles one above the other: they share the columns of B, of which each loads half into both.
//
// Hermitian results: only tiles that meet the lower triangle are computed. Every 64 x 64 chunk
// below the diagonal is stored twice, as it is and transposed; a chunk on the diagonal is made
// symmetric in registers and shared memory. So each entry is written once, and (i, j) and (j, i)
// are the same bits.
#pragma once

#include <cstdint>
#include <type_traits>

#include "hopper_epilogue.cuh"
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

/// Place in the ring of stages. A barrier is passed when its phase differs from `phase`.
struct Ring {
  int stages;
  std::uint32_t phase;
  int stage = 0;

  __device__ void advance() {
    if (++stage == stages) {
      stage = 0;
      phase ^= 1;
    }
  }
  __device__ int before() const { return (stage == 0 ? stages : stage) - 1; }
  __device__ void advance(int steps) {
    stage += steps;
    phase ^= static_cast<std::uint32_t>(stage / stages) & 1u;
    stage %= stages;
  }
};

/// Pieces of D (128 x 64) that one stage holds.
__host__ __device__ constexpr int pieces_per_stage(int tile) {
  return stage_bytes(tile) / (tile_rows * chunk * 2);
}

/// B is K-major (rows of a matrix whose columns are summed over: boxes of 64 x tile / cluster) for
/// Hermitian results, else MN-major (boxes of 64 x 64 / cluster).
template <int tile, int cluster, bool hermitian>
__global__ void __launch_bounds__(block_threads, 1)
    product_kernel(const __grid_constant__ ProductArguments p) {
#ifdef GRAMIAN_HOPPER
  constexpr int major_b = hermitian ? k_major : mn_major;
  constexpr bool halves = Tiling::has_halves(tile, cluster, hermitian);
  constexpr int a_bytes = tile_rows * block_depth * 2;
  constexpr int panel_bytes = block_depth * chunk * 2;
  constexpr int piece_bytes = tile_rows * chunk * 2;
  constexpr int pieces = pieces_per_stage(tile);
  constexpr bool alternate = takes_turns(tile);
  const bool add_d = hermitian && p.add_d;
  // Tiles in turns have D in a room of its own, which is that of the last stage: in the ring it
  // would lie until its warpgroup comes to write, and the operands of the other behind it.
  const bool d_apart = alternate && add_d;
  const int stages = stage_count(tile) - (d_apart ? 1 : 0);
  constexpr int row_chunks = alternate ? 2 : 1;  // of a warpgroup's tile

  extern __shared__ char dynamic[];
  const std::uint32_t base = (shared_address(dynamic) + 1023u) & ~1023u;
  const std::uint32_t d_room = base + (stage_count(tile) - 1) * stage_bytes(tile);
  const std::uint32_t staging = base + stage_count(tile) * stage_bytes(tile);
  const std::uint32_t full = staging + staging_bytes;
  const std::uint32_t empty = full + 8 * stage_count(tile);
  const std::uint32_t turns =
      empty + 8 * stage_count(tile);           // one for each warpgroup that multiplies
  const std::uint32_t d_full = turns + 8 * 2;  // the same
  const std::uint32_t d_empty = d_full + 8 * 2;

  const int group = threadIdx.x / warpgroup;
  const std::uint32_t rank = cluster > 1 ? cluster_rank() : 0;

  if (threadIdx.x == 0) {
    prefetch_map(&p.a);
    prefetch_map(&p.b);
    for (int s = 0; s < stages; ++s) {
      barrier_init(full + 8 * s, 1);
      barrier_init(empty + 8 * s, (alternate ? 1 : 2) * cluster);
    }
    for (int half = 0; half < 2; ++half) {
      barrier_init(turns + 8 * half, 1);
      barrier_init(d_full + 8 * half, 1);
    }
    barrier_init(d_empty, 1);
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

  // Asks for pieces first .. of D, as far as they meet the lower triangle.
  const auto load_d = [&](std::uint32_t to, std::uint32_t arrived, int first, int most, int row0) {
    const int col0 = walk.col() * tile;
    int used = 0;
    for (int i = first; i < first + most && i < tile / chunk; ++i)
      used += col0 + i * chunk < row0 + tile_rows;
    barrier_expect(arrived, used * piece_bytes);
    for (int i = 0; i < used; ++i)
      tma_load(to + i * piece_bytes, &p.d, arrived, col0 + (first + i) * chunk, row0,
               walk.matrix());
  };

  if (group == 0) {
    give_registers<40>();
    if (threadIdx.x == 32 && d_apart) {
      wait_for_dependency();
      std::uint32_t emptied = 1;
      for (int turn = 0; !walk.done(); walk.next(), turn ^= 1, emptied ^= 1) {
        barrier_wait(d_empty, emptied);
        load_d(d_room, d_full + 8 * turn, 0, tile / chunk,
               walk.row() * tiling.unit_rows + static_cast<int>(rank) * tile_rows);
      }
    }
    if (threadIdx.x == 0) {
      wait_for_dependency();
      Ring ring{stages, 1};  // a fresh barrier counts as one phase behind: the ring is empty
      for (; !walk.done(); walk.next()) {
        const int row0 = walk.row() * tiling.unit_rows + static_cast<int>(rank) * tile_rows;
        const int col0 = walk.col() * tile;
        const bool half_tile = halves && walk.half();
        for (int k = 0; k < blocks_deep; ++k) {
          barrier_wait(empty + 8 * ring.stage, ring.phase);
          const std::uint32_t to_a = base + ring.stage * stage_bytes(tile);
          const std::uint32_t to_b = to_a + a_bytes;
          const std::uint32_t arrived = full + 8 * ring.stage;
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
          ring.advance();
        }
        if (add_d && !d_apart) {
          // D follows the operands through the ring, a few pieces of 128 x 64 to a stage.
          for (int c = 0; c < tile / chunk; c += pieces) {
            barrier_wait(empty + 8 * ring.stage, ring.phase);
            load_d(base + ring.stage * stage_bytes(tile), full + 8 * ring.stage, c, pieces, row0);
            ring.advance();
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
    const std::uint32_t mirrored = staging + half * (staging_bytes / 2);
    const std::uint32_t mine = mirrored + staging_bytes / 4 + warp * (staging_bytes / 16);
    Ring ring{stages, 0};

    const auto release = [&](int s) {
      if constexpr (cluster > 1) {
        if (thread < cluster) barrier_arrive_at(empty + 8 * s, thread);
      } else {
        if (thread == 0) barrier_arrive(empty + 8 * s);
      }
    };

    std::uint32_t my_d = 0;
    std::uint32_t my_turn = half == 0;  // the first has its turn at once
    for (int turn = 0; !walk.done(); walk.next(), turn ^= 1) {
      if (alternate) {
        if (turn != half) {
          ring.advance(blocks_deep);
          continue;
        }
        // Phases tell a stage's fillings apart only from the next but one, so wait for none before
        // the other warpgroup has seen those that come before mine.
        barrier_wait(turns + 8 * half, my_turn);
        my_turn ^= 1;
      }
      const int first_row = walk.row() * tiling.unit_rows + static_cast<int>(rank) * tile_rows +
                            (alternate ? 0 : half * chunk);
      const int col0 = walk.col() * tile;
      float alpha = p.alpha, beta = p.beta, gamma = p.gamma;
      if (p.device_scalars) {
        const double* s = p.device_scalars + 3 * walk.matrix();
        alpha = static_cast<float>(s[0]);
        beta = static_cast<float>(s[1]);
        gamma = static_cast<float>(s[2]);
      }
      const auto store = [&](const float (&v)[32], int row0, int chunk_col, bool diagonal) {
        std::uint32_t h[16];
#pragma unroll
        for (int e = 0; e < 16; ++e) h[e] = pack(v[2 * e], v[2 * e + 1], p.bfloat16);
        const int row = row0 + 16 * warp;
        const int cols = p.cols - chunk_col;
        std::uint16_t* const to = p.c + walk.matrix() * p.c_stride;
        std::uint16_t* const plain = to + row * p.c_ld + chunk_col;
        if (diagonal) {
          // What lies above the diagonal comes from the warps below.
          mirror_diagonal_block(h);
          store_rows(h, mine, plain, p.c_ld, p.rows - row, min(cols, 16 * warp + 16));
          store_columns(h, mine, to + chunk_col * p.c_ld + row, p.c_ld, p.rows - row,
                        min(cols, 16 * warp));
          return;
        }
        if (p.store_mirror) {
          named_barrier(1 + half, warpgroup);  // the chunk before has been read
          stage_transposed(h, mirrored);
        }
        if (p.store) store_rows(h, mine, plain, p.c_ld, p.rows - row, cols);
        if (p.store_mirror) {
          named_barrier(1 + half, warpgroup);
          store_transposed(mirrored, to + chunk_col * p.c_ld + row0, p.c_ld, p.rows - row0, cols);
        }
      };

      float sum[row_chunks][tile / 2];
      const auto multiply = [&]<int width>(std::integral_constant<int, width>) {
        for (int k = 0; k < blocks_deep; ++k) {
          barrier_wait(full + 8 * ring.stage, ring.phase);
          const std::uint32_t at_a =
              base + ring.stage * stage_bytes(tile) + (alternate ? 0 : half * (a_bytes / 2));
          const std::uint32_t at_b = base + ring.stage * stage_bytes(tile) + a_bytes;
#pragma unroll
          for (int r = 0; r < row_chunks; ++r) wgmma_touch(sum[r]);
          wgmma_fence();
#pragma unroll
          for (int q = 0; q < block_depth / 16; ++q) {
            const std::uint64_t b = major_b == k_major
                                        ? k_major_operand(at_b + 32 * q)
                                        : mn_major_operand(at_b + 2048 * q, panel_bytes);
#pragma unroll
            for (int r = 0; r < row_chunks; ++r) {
              const std::uint64_t a = k_major_operand(at_a + r * (a_bytes / 2) + 32 * q);
              if constexpr (width == tile)
                wgmma<k_major, major_b>(sum[r], a, b, k + q > 0);
              else
                wgmma_part<width>(sum[r], a, b, k + q > 0);
            }
          }
          wgmma_commit();
          if (k > 0) {
            wgmma_wait<1>();
            release(ring.before());
          }
          ring.advance();
        }
        wgmma_wait<0>();
#pragma unroll
        for (int r = 0; r < row_chunks; ++r) wgmma_touch(sum[r]);
        release(ring.before());
      };
      if constexpr (halves) {
        // Of half a tile the upper warpgroup needs only what is left of the diagonal.
        if (!walk.half())
          multiply(std::integral_constant<int, tile>{});
        else if (half == 1)
          multiply(std::integral_constant<int, tile / 2>{});
        else
          multiply(std::integral_constant<int, tile / 4>{});
      } else {
        multiply(std::integral_constant<int, tile>{});
      }

      if (alternate && thread == 0) barrier_arrive(turns + 8 * (1 - half));
      __syncwarp();
      if (d_apart) {
        barrier_wait(d_full + 8 * half, my_d);
        my_d ^= 1;
      }

      double squares[row_chunks] = {};
#pragma unroll
      for (int c = 0; c < tile / chunk; ++c) {
        const int chunk_col = col0 + c * chunk;
        if (add_d && !d_apart && c % pieces == 0) barrier_wait(full + 8 * ring.stage, ring.phase);
        const std::uint32_t d_at =
            d_apart ? d_room + c * piece_bytes
                    : base + ring.stage * stage_bytes(tile) + c % pieces * piece_bytes;
#pragma unroll
        for (int r = 0; r < row_chunks; ++r) {
          const int row0 = first_row + r * chunk;
          if (row0 >= p.rows || chunk_col >= p.cols || (hermitian && row0 < chunk_col)) continue;
          const bool diagonal = hermitian && row0 == chunk_col;
          float v[32];
#pragma unroll
          for (int e = 0; e < 32; ++e) v[e] = alpha * sum[r][32 * c + e];
          if constexpr (hermitian) {
            if (add_d) {
              std::uint32_t d[16];
              read_chunk(d, d_at + (alternate ? r : half) * (piece_bytes / 2));
#pragma unroll
              for (int e = 0; e < 16; ++e) {
                const float2 from_d = __half22float2(*reinterpret_cast<const __half2*>(&d[e]));
                v[2 * e] += beta * from_d.x;
                v[2 * e + 1] += beta * from_d.y;
              }
            }
            if (diagonal) add_to_diagonal(v, gamma, p.rows - row0);
            if (p.norm) squares[r] += static_cast<double>(sum_squares(v, diagonal));
          }
          if (p.store || p.store_mirror) store(v, row0, chunk_col, diagonal);
        }
        if (add_d && (c % pieces == pieces - 1 || c == tile / chunk - 1)) {
          named_barrier(1 + half, warpgroup);  // every warp has read its part
          if (d_apart) {
            if (thread == 0) barrier_arrive(d_empty);
          } else {
            release(ring.stage);
            ring.advance();
          }
        }
      }
      if (hermitian && p.norm) {
        const int first = (walk.tile() * cluster + static_cast<int>(rank)) * 2;
#pragma unroll
        for (int r = 0; r < row_chunks; ++r) {
          double part = squares[r];
          for (int lanes = 16; lanes > 0; lanes /= 2)
            part += __shfl_xor_sync(0xffffffffu, part, lanes);
          const int slot = (first + (alternate ? r : half)) * 4 + warp;
          if (lane == 0) p.norm[static_cast<long long>(walk.matrix()) * p.norm_count + slot] = part;
        }
      }
    }
  }
  __syncwarp();
  // A block that has ended can neither receive its share nor be told that a stage is free.
  if (cluster > 1) {
    cluster_arrive();
    cluster_wait();
  }
#else
  __trap();  // not compiled for the device: better no result than a wrong one
#endif
}

}  // namespace gramian::cuda::hopper
