// Rows are read once. A cluster of up to 8 blocks owns every so many-th tile of 16 rows, each block
// 512 columns, which two of its warps share 64 at a time: the first keeps 16 vectors Z of them in
// registers and computes Y = X Z, the other keeps the sums X^T Y. So the products of one tile are
// computed while those of the next are, and the tensor cores wait for neither. The tiles pass
// through a ring in shared memory, a part of it for each pair of warps.
//
// Y needs all columns: the first warps add up their parts and send them to every block of the
// cluster, where the others find them, some tiles later at most. Nobody waits for what is far away
// but at barriers that count: `full` (Y's parts are here), `empty` (all blocks have read the last
// ones) and, for each pair of warps, `drained` (a tile is no longer needed).
//
// Everything is float64 on tensor cores: at most one rounding for each multiplication and addition.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <map>
#include <mutex>
#include <tuple>

#include "dependent_launch.cuh"
#include "float64_product.cuh"
#include "streaming_read_place.cuh"

namespace gramian::cuda {

namespace {

namespace cluster_read {

/// The first half of the warps: rows come, Y = X Z goes to all blocks.
template <class T>
class Forward : public Place<T> {
 public:
  using Place<T>::Place;

  __device__ void run() {
    // As many tiles are on their way, while others are multiplied here and there.
    constexpr int ahead = stages<T> - 2;
    load_vectors();
    for (int i = 0; i < ahead; ++i) fetch(i);
    for (int i = 0; i < count_; ++i) {
      // The groups of copies so far are those of tiles up to i + ahead - 1.
      asm volatile("cp.async.wait_group %0;" ::"n"(ahead - 1) : "memory");
      __syncwarp();
      double y[2][4] = {};
      double squares[2] = {};
      multiply(i, y, squares);
      hand_in(y, squares);
      named_barrier(forward_parts, half_threads);
      send(i);
      fetch(i + ahead);
    }
    asm volatile("cp.async.wait_group 0;" ::: "memory");
  }

 private:
  using P = Place<T>;
  using P::a_, P::s_, P::blocks_, P::rank_, P::thread_, P::lane_, P::warp_, P::g_, P::t_;
  using P::first_vector_, P::column_, P::count_, P::rows_, P::features_;

  __device__ void load_vectors() {
#pragma unroll
    for (int k = 0; k < warp_columns / 8; ++k)
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int j = column_ + 8 * k + 2 * t_ + e;
          z_[k][h][e] =
              j < features_ ? a_.vectors[(first_vector_ + 8 * h + g_) * features_ + j] : 0;
        }
  }

  /// This warp's columns of tile i; zeros outside of the matrix.
  __device__ void fetch(int i) {
    if (i < count_) {
      constexpr int each = 16 / static_cast<int>(sizeof(T));
      constexpr int pieces = warp_columns / each;
      constexpr int rows_at_once = 32 / pieces;
      const int r = lane_ / pieces;
      const int c = lane_ % pieces * each;
      const T* x = static_cast<const T*>(a_.x);
      const T* from = x + (P::first_row(i) + r) * a_.row_stride + column_ + c;
      // Rows of this thread that are within the matrix.
      const int left = column_ + c < features_ ? rows_ - P::first_row(i) - r : 0;
      std::uint32_t to = shared_address(&s_.ring[i % stages<T>][warp_][r][c]);
      P::await(s_.drained[i % stages<T>][warp_], i / stages<T> + 1);
#pragma unroll
      for (int n = 0; n < tile; n += rows_at_once) {
        float64::copy_async(to, n < left ? from : x, n < left ? 16 : 0);
        from += rows_at_once * a_.row_stride;
        to += rows_at_once * pitch * static_cast<unsigned>(sizeof(T));
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

  /// This warp's part of Y. Columns enter the instruction in the order of their pairs, those of X
  /// as those of Z.
  __device__ void multiply(int i, double (&y)[2][4], double (&squares)[2]) {
    using Two = typename Pair<T>::type;
    const T(*x)[pitch] = s_.ring[i % stages<T>][warp_];
#pragma unroll
    for (int k = 0; k < warp_columns / 8; ++k) {
      const Two upper = *reinterpret_cast<const Two*>(&x[g_][8 * k + 2 * t_]);
      const Two lower = *reinterpret_cast<const Two*>(&x[g_ + 8][8 * k + 2 * t_]);
      const double f[4] = {convert<double>(upper.x), convert<double>(lower.x),
                           convert<double>(upper.y), convert<double>(lower.y)};
#pragma unroll
      for (int h = 0; h < 2; ++h) float64::multiply_add(y[h], f, z_[k][h]);
      squares[0] = fma(f[0], f[0], fma(f[2], f[2], squares[0]));
      squares[1] = fma(f[1], f[1], fma(f[3], f[3], squares[1]));
    }
#pragma unroll
    for (int d = 1; d < 4; d *= 2)
#pragma unroll
      for (int e = 0; e < 2; ++e) squares[e] += __shfl_xor_sync(0xffffffffu, squares[e], d);
  }

  __device__ void hand_in(const double (&y)[2][4], const double (&squares)[2]) {
    double* to = s_.of_warps[warp_];
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        *reinterpret_cast<double2*>(to + (g_ + 8 * e) * width + 8 * h + 2 * t_) = {y[h][2 * e],
                                                                                   y[h][2 * e + 1]};
    if (t_ == 0) {
      to[tile * width + g_] = squares[0];
      to[tile * width + g_ + 8] = squares[1];
    }
  }

  /// The block's part of Y to all blocks of the cluster.
  __device__ void send(int i) {
    const int b = i % depth;
    // All blocks have read what they were sent `depth` tiles ago, so it is no longer needed here.
    P::await(s_.empty[b], i / depth + 1);
    if (2 * thread_ < entries) {
      double2 sum = {};
#pragma unroll
      for (int w = 0; w < warps; ++w) {
        const double2 part = *reinterpret_cast<const double2*>(&s_.of_warps[w][2 * thread_]);
        sum.x += part.x;
        sum.y += part.y;
      }
      *reinterpret_cast<double2*>(&s_.of_blocks[b][rank_][2 * thread_]) = sum;
    }
    fence_async_shared();
    __syncwarp();
    named_barrier(forward_sum, half_threads);
    static_assert(most_blocks <= warps);
    named_barrier_arrive(own_part + b, threads);
    const auto to = static_cast<unsigned>(warp_);
    if (lane_ == 0 && to != rank_ && to < blocks_)
      send_to_block(shared_address(s_.of_blocks[b][rank_]), exchange_bytes,
                    shared_address(&s_.full[b]), to);
    __syncwarp();
  }

  double z_[warp_columns / 8][2][2];
};

/// The other half: X^T Y.
template <class T>
class Backward : public Place<T> {
 public:
  using Place<T>::Place;

  __device__ void run() {
    for (int i = 0; i < count_; ++i) {
      gather(i);
      __syncwarp();
      named_barrier(backward_y, half_threads);
      if (warp_ == 0 && static_cast<unsigned>(lane_) < blocks_)
        barrier_arrive_at(shared_address(&s_.empty[i % depth]), static_cast<unsigned>(lane_));
      __syncwarp();
      multiply(i);
      __syncwarp();
      if (lane_ == 0) barrier_arrive(shared_address(&s_.drained[i % stages<T>][warp_]));
    }
    write();
  }

 private:
  using P = Place<T>;
  using P::a_, P::s_, P::blocks_, P::rank_, P::thread_, P::lane_, P::warp_, P::g_, P::t_;
  using P::first_vector_, P::column_, P::count_, P::group_, P::rows_, P::features_;

  __device__ double weight_of(int row) const {
    return row >= rows_ ? 0 : a_.weights ? a_.weights[row] : 1;
  }

  /// Y of tile i, from all blocks of the cluster, times the weights.
  __device__ void gather(int i) {
    const int b = i % depth;
    const int row0 = P::first_row(i);
    // Asked for before the wait, which is longer.
    const double weight = weight_of(row0 + thread_ / width);
    const double own_weight = thread_ < tile ? weight_of(row0 + thread_) : 0;
    // Parts that came before this are counted all the same.
    if (thread_ == 0) barrier_expect(shared_address(&s_.full[b]), (blocks_ - 1) * exchange_bytes);
    __syncwarp();
    named_barrier(own_part + b, threads);
    P::await(s_.full[b], i / depth);
    const auto from_blocks = [&](int e) {
      double sum = 0;
#pragma unroll
      for (unsigned r = 0; r < most_blocks; ++r)
        if (r < blocks_) sum += s_.of_blocks[b][r][e];
      return sum;
    };
    // Beyond the last row there are zeros, whatever their weight.
    static_assert(tile * width == half_threads);
    s_.y[i % 2][thread_ / width * y_pitch + thread_ % width] = from_blocks(thread_) * weight;
    if (thread_ < tile && row0 + thread_ < rows_) {
      const double square = from_blocks(tile * width + thread_) * own_weight;
      squares_ += square;
      if (!(square <= largest_)) largest_ = square;  // also NaN
      present_ += own_weight > 0 ? 1 : 0;
    }
  }

  __device__ void multiply(int i) {
    const T(*x)[pitch] = s_.ring[i % stages<T>][warp_];
    const double* from = s_.y[i % 2];
#pragma unroll
    for (int q = 0; q < tile / 8; ++q) {
      double y[2][2];
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int e = 0; e < 2; ++e) y[h][e] = from[(8 * q + t_ + 4 * e) * y_pitch + 8 * h + g_];
#pragma unroll
      for (int m = 0; m < warp_columns / 16; ++m) {
        const double f[4] = {convert<double>(x[8 * q + t_][16 * m + g_]),
                             convert<double>(x[8 * q + t_][16 * m + g_ + 8]),
                             convert<double>(x[8 * q + t_ + 4][16 * m + g_]),
                             convert<double>(x[8 * q + t_ + 4][16 * m + g_ + 8])};
#pragma unroll
        for (int h = 0; h < 2; ++h) float64::multiply_add(sums_[m][h], f, y[h]);
      }
    }
  }

  __device__ void write() {
    double* to = a_.parts + (group_ * a_.columns + first_vector_) * a_.features;
#pragma unroll
    for (int m = 0; m < warp_columns / 16; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int j = column_ + 16 * m + g_ + e / 2 * 8;
          if (j < features_) to[(8 * h + 2 * t_ + e % 2) * features_ + j] = sums_[m][h][e];
        }
    // The squared norms of rows went through the first 16 threads of each block.
    if (rank_ != 0 || first_vector_ != 0 || warp_ != 0) return;
    static_assert(tile == 16);
#pragma unroll
    for (int d = 8; d > 0; d /= 2) {
      squares_ += __shfl_xor_sync(0xffffffffu, squares_, d);
      present_ += __shfl_xor_sync(0xffffffffu, present_, d);
      const double other = __shfl_xor_sync(0xffffffffu, largest_, d);
      if (!(other <= largest_)) largest_ = other;
    }
    if (lane_ == 0) {
      a_.figures[3 * group_] = squares_;
      a_.figures[3 * group_ + 1] = largest_;
      a_.figures[3 * group_ + 2] = present_;
    }
  }

  double sums_[warp_columns / 16][2][4] = {};
  double squares_ = 0, largest_ = 0, present_ = 0;
};

template <class T>
__global__ void __launch_bounds__(threads, 1)
    kernel([[maybe_unused]] const __grid_constant__ StreamRead a, [[maybe_unused]] int groups,
           [[maybe_unused]] unsigned blocks) {
#ifdef GRAMIAN_HOPPER
  extern __shared__ __align__(16) unsigned char memory[];
  Place<T>(a, groups, blocks, memory).start_barriers();
  cluster_arrive();
  cluster_wait();
  await_earlier_kernels();
  if (threadIdx.x < half_threads)
    Forward<T>(a, groups, blocks, memory).run();
  else
    Backward<T>(a, groups, blocks, memory).run();
  // No block ends while another may write to its memory.
  __syncwarp();
  cluster_arrive();
  cluster_wait();
#endif
}

unsigned blocks_of(index_t features) {
  const auto needed = static_cast<std::uint64_t>(ceil_div(features, block_columns));
  return static_cast<unsigned>(std::bit_ceil(needed));
}

/// Clusters of that many blocks that run at the same time on an idle device. Asked for once.
inline int clusters_at_once(const void* kernel, cudaLaunchConfig_t config, unsigned blocks,
                            int device) {
  static std::mutex mutex;
  static std::map<std::tuple<const void*, unsigned, int>, int> known;
  const std::lock_guard lock(mutex);
  const auto key = std::tuple(kernel, blocks, device);
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  int count = 0;
  config.gridDim = dim3(blocks);
  config.numAttrs = 1;
  check(cudaOccupancyMaxActiveClusters(&count, kernel, &config), "asking for clusters");
  count = std::max(count, 1);
  known[key] = count;
  return count;
}

/// Gives the number of parts. More clusters than run at once would make a second round, which
/// takes as long as the first.
template <class T>
index_t launch(const Queue& queue, const StreamRead& read) {
  const auto function = kernel<T>;
  const void* address = reinterpret_cast<const void*>(function);
  allow_shared_memory(address, queue.device, sizeof(Shared<T>));
  const unsigned blocks = blocks_of(read.features);
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = blocks;
  attributes[0].val.clusterDim.y = 1;
  attributes[0].val.clusterDim.z = 1;
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = sizeof(Shared<T>);
  config.stream = queue.stream;
  config.attrs = attributes;
  const index_t panels = read.columns / width;
  const index_t at_once = clusters_at_once(address, config, blocks, queue.device);
  const index_t groups = std::clamp<index_t>(at_once / panels, 1, stream_groups(read.features));
  config.gridDim = dim3(grid_size(panels * groups * blocks));
  config.numAttrs = waits_for_earlier(address, queue.device) ? 2 : 1;
  check(cudaLaunchKernelEx(&config, function, read, static_cast<int>(groups), blocks),
        "launching a read of rows");
  return groups;
}

}  // namespace cluster_read

}  // namespace

}  // namespace gramian::cuda
