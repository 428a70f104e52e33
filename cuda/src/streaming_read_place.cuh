// What the two halves of a block's warps share in streaming_read_cluster.cuh: memory, barriers, and
// which rows and columns are whose.
#pragma once

#include <cstdint>

#include "element.cuh"
#include "streaming_read.hpp"
#include "wgmma.cuh"

namespace gramian::cuda {

namespace {

namespace cluster_read {

using namespace hopper;

constexpr int warps = 8;  // of either kind
constexpr int half_threads = 32 * warps;
constexpr int threads = 2 * half_threads;
constexpr int warp_columns = 64;
constexpr int block_columns = warps * warp_columns;
constexpr int most_blocks = 8;
constexpr int tile = static_cast<int>(stream_tile);
constexpr int width = 16;                     // vectors
constexpr int pitch = warp_columns + 8;       // keeps what half a warp reads at once in all banks
constexpr int y_pitch = width + 4;            // likewise
constexpr int entries = tile * width + tile;  // Y, then the squared norms of its rows
constexpr std::uint32_t exchange_bytes = entries * sizeof(double);

/// Tiles in the ring. Two are being worked on; the others are on their way.
template <class T>
constexpr int stages = 16 / static_cast<int>(sizeof(T));

/// Tiles whose Y is on its way from block to block. With three nothing is faster.
constexpr int depth = 2;

template <class T>
struct Shared {
  T ring[stages<T>][warps][tile][pitch];
  double of_warps[warps][entries];
  // Written by the whole cluster; this block's own part is sent from its place here.
  double of_blocks[depth][most_blocks][entries];
  double y[2][tile * y_pitch];
  std::uint64_t full[depth], empty[depth];
  std::uint64_t drained[stages<T>][warps];
};
static_assert(sizeof(Shared<float>) <= 227 * 1024 && sizeof(Shared<__half>) <= 227 * 1024);

// Barriers of one half of the block's threads, by name.
constexpr int forward_parts = 1, forward_sum = 2, backward_y = 3;

// And of both halves, one for each place of the exchange: the block's own part is there.
constexpr int own_part = 4;

/// Arrives at a barrier of the block's, by name, without waiting for the others.
[[maybe_unused]] __device__ __forceinline__ void named_barrier_arrive(int name, int threads) {
  asm volatile("bar.arrive %0, %1;\n" ::"r"(name), "r"(threads) : "memory");
}

/// `bytes` of this block's shared memory to the same place in block `rank`, another one, where they
/// count at the barrier.
[[maybe_unused]] __device__ __forceinline__ void send_to_block(std::uint32_t at,
                                                               std::uint32_t bytes,
                                                               std::uint32_t barrier,
                                                               std::uint32_t rank) {
  asm volatile(
      "{\n.reg .b32 there;\n.reg .b32 done;\n"
      "mapa.shared::cluster.u32 there, %0, %3;\n"
      "mapa.shared::cluster.u32 done, %2, %3;\n"
      "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [there], [%0], %1, "
      "[done];\n}\n" ::"r"(at),
      "r"(bytes), "r"(barrier), "r"(rank)
      : "memory");
}

template <class T>
struct Pair;  // two neighbours, read at once
template <>
struct Pair<float> {
  using type = float2;
};
template <>
struct Pair<__half> {
  using type = __half2;
};
template <>
struct Pair<__nv_bfloat16> {
  using type = __nv_bfloat162;
};

/// A warp's place: lane = 4 g + t.
template <class T>
class Place {
 public:
  __device__ Place(const StreamRead& a, int groups, unsigned blocks, unsigned char* memory)
      : a_(a),
        s_(*reinterpret_cast<Shared<T>*>(memory)),
        groups_(groups),
        blocks_(blocks),
        rank_(blockIdx.x % blocks),
        thread_(static_cast<int>(threadIdx.x) % half_threads) {
    const int cluster = static_cast<int>(blockIdx.x / blocks);
    lane_ = thread_ % 32;
    warp_ = thread_ / 32;
    g_ = lane_ / 4;
    t_ = lane_ % 4;
    group_ = cluster % groups;
    first_vector_ = cluster / groups * width;
    column_ = static_cast<int>(rank_) * block_columns + warp_ * warp_columns;
    rows_ = static_cast<int>(a.rows);
    features_ = static_cast<int>(a.features);
    const int tiles = (rows_ + tile - 1) / tile;
    count_ = tiles > group_ ? (tiles - group_ + groups - 1) / groups : 0;
  }

  __device__ void start_barriers() {
    if (threadIdx.x == 0) {
      for (int b = 0; b < depth; ++b) {
        barrier_init(shared_address(&s_.full[b]), 1);
        barrier_init(shared_address(&s_.empty[b]), static_cast<int>(blocks_));
      }
      for (int i = 0; i < stages<T>; ++i)
        for (int w = 0; w < warps; ++w) barrier_init(shared_address(&s_.drained[i][w]), 1);
      barrier_init_fence();
    }
  }

 protected:
  /// Waits for the end of the barrier's phase of that parity; of a fresh barrier, the phase before
  /// the first, which is odd, has ended.
  __device__ static void await(const std::uint64_t& barrier, int parity) {
    barrier_wait(shared_address(&barrier), static_cast<std::uint32_t>(parity & 1));
  }

  __device__ int first_row(int i) const { return (group_ + i * groups_) * tile; }

  const StreamRead& a_;
  Shared<T>& s_;
  int groups_;
  unsigned blocks_, rank_;
  int thread_, lane_, warp_, g_, t_, group_, first_vector_, column_, count_, rows_, features_;
};

}  // namespace cluster_read

}  // namespace

}  // namespace gramian::cuda
