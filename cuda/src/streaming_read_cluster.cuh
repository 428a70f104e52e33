// Rows are read once. A cluster of up to 8 blocks owns every so many-th tile of 16 rows, each block
// 512 columns and each of its 8 warps 64. Of those columns a warp keeps 16 vectors Z and the sums
// X^T Y in registers; the tiles pass through a ring in shared memory, a part of it for each warp. Y
// = X Z needs all columns: warps and then blocks exchange their parts of it. A tile's Y is waited
// for only after the next tile's has been computed, so that the cluster's barrier costs little.
//
// Everything is float64 on tensor cores: at most one rounding for each multiplication and addition.
#pragma once

#include <bit>

#include "dependent_launch.cuh"
#include "element.cuh"
#include "float64_product.cuh"
#include "streaming_read.hpp"

namespace gramian::cuda {

namespace {

namespace cluster_read {

constexpr int warps = 8;
constexpr int threads = 32 * warps;
constexpr int warp_columns = 64;
constexpr int block_columns = warps * warp_columns;
constexpr int most_blocks = 8;
constexpr int tile = static_cast<int>(stream_tile);
constexpr int width = 16;                // vectors
constexpr int pitch = warp_columns + 8;  // keeps what half a warp reads at once in all banks
constexpr int stages = 4;
constexpr int entries = tile * width + tile;  // Y, then the squared norms of its rows

template <class T>
struct Shared {
  T ring[stages][warps][tile][pitch];
  double of_warps[warps][entries];
  double of_block[2][entries];  // read by the whole cluster
  double y[entries];
};

[[maybe_unused]] __device__ __forceinline__ void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;\n" ::: "memory");
#endif
}
[[maybe_unused]] __device__ __forceinline__ void cluster_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;\n" ::: "memory");
#endif
}
[[maybe_unused]] __device__ __forceinline__ double load_from_block(const double* at,
                                                                   unsigned rank) {
  double v = 0;
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n.reg .b32 from;\n"
      "mapa.shared::cluster.u32 from, %1, %2;\n"
      "ld.shared::cluster.f64 %0, [from];\n}\n"
      : "=d"(v)
      : "r"(static_cast<unsigned>(__cvta_generic_to_shared(at))), "r"(rank)
      : "memory");
#endif
  return v;
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

template <class T>
class Reader {
 public:
  __device__ Reader(const StreamRead& a, index_t groups, unsigned blocks, unsigned char* memory)
      : a_(a), s_(*reinterpret_cast<Shared<T>*>(memory)), groups_(groups), blocks_(blocks) {
    lane_ = static_cast<int>(threadIdx.x) % 32;
    warp_ = static_cast<int>(threadIdx.x) / 32;
    g_ = lane_ / 4;
    t_ = lane_ % 4;
    rank_ = blockIdx.x % blocks;
    const index_t cluster = blockIdx.x / blocks;
    group_ = cluster % groups;
    first_vector_ = cluster / groups * width;
    column_ = static_cast<index_t>(rank_) * block_columns + warp_ * warp_columns;
    const index_t tiles = (a.rows + tile - 1) / tile;
    count_ = tiles > group_ ? (tiles - group_ + groups - 1) / groups : 0;
  }

  __device__ void run() {
    load_vectors();
    for (int i = 0; i < stages - 1; ++i) fetch(i);
    for (index_t i = 0; i <= count_; ++i) {
      double y[2][4] = {};
      double squares[2] = {};
      if (i < count_) {
        // The groups of copies so far are those of tiles up to i + 2.
        asm volatile("cp.async.wait_group %0;" ::"n"(stages - 2) : "memory");
        __syncwarp();
        forward(i, y, squares);
      }
      if (i > 0) {
        cluster_wait();
        gather(i - 1);
      }
      if (i < count_) hand_in(y, squares);
      __syncthreads();
      if (i < count_) {
        sum_warps(i);
        cluster_arrive();
      }
      if (i > 0) backward(i - 1);
      __syncwarp();
      fetch(i + stages - 1);  // where tile i - 1 was
      __syncthreads();
    }
    // No block ends while another may read its memory.
    cluster_arrive();
    cluster_wait();
    write();
  }

 private:
  __device__ void load_vectors() {
#pragma unroll
    for (int k = 0; k < warp_columns / 8; ++k)
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const index_t j = column_ + 8 * k + 2 * t_ + e;
          z_[k][h][e] =
              j < a_.features ? a_.vectors[(first_vector_ + 8 * h + g_) * a_.features + j] : 0;
        }
  }

  __device__ index_t first_row(index_t i) const { return (group_ + i * groups_) * tile; }

  /// This warp's columns of tile i; zeros outside of the matrix.
  __device__ void fetch(index_t i) {
    if (i < count_) {
      constexpr int each = 16 / static_cast<int>(sizeof(T));
      constexpr int pieces = warp_columns / each;
      const T* x = static_cast<const T*>(a_.x);
      const index_t row0 = first_row(i);
      T(*to)[pitch] = s_.ring[i % stages][warp_];
#pragma unroll
      for (int p = lane_; p < tile * pieces; p += 32) {
        const int r = p / pieces;
        const int c = p % pieces * each;
        const bool within = row0 + r < a_.rows && column_ + c < a_.features;
        const T* from = within ? x + (row0 + r) * a_.row_stride + column_ + c : x;
        float64::copy_async(static_cast<unsigned>(__cvta_generic_to_shared(&to[r][c])), from,
                            within ? 16 : 0);
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

  /// This warp's part of Y. Columns enter the instruction in the order of their pairs, those of X
  /// as those of Z.
  __device__ void forward(index_t i, double (&y)[2][4], double (&squares)[2]) {
    using Two = typename Pair<T>::type;
    const T(*x)[pitch] = s_.ring[i % stages][warp_];
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
      for (int e = 0; e < 4; ++e) to[(g_ + e / 2 * 8) * width + 8 * h + 2 * t_ + e % 2] = y[h][e];
    if (t_ == 0) {
      to[tile * width + g_] = squares[0];
      to[tile * width + g_ + 8] = squares[1];
    }
  }

  __device__ void sum_warps(index_t i) {
    for (int e = static_cast<int>(threadIdx.x); e < entries; e += threads) {
      double sum = 0;
#pragma unroll
      for (int w = 0; w < warps; ++w) sum += s_.of_warps[w][e];
      s_.of_block[i % 2][e] = sum;
    }
  }

  /// Y of tile i, from all blocks of the cluster, times the weights.
  __device__ void gather(index_t i) {
    for (int e = static_cast<int>(threadIdx.x); e < entries; e += threads) {
      double sum = 0;
      for (unsigned r = 0; r < blocks_; ++r) sum += load_from_block(&s_.of_block[i % 2][e], r);
      const bool is_square = e >= tile * width;
      const index_t row = first_row(i) + (is_square ? e - tile * width : e / width);
      const double weight = row >= a_.rows ? 0 : a_.weights ? a_.weights[row] : 1;
      if (row < a_.rows) sum *= weight;
      s_.y[e] = sum;
      if (is_square && row < a_.rows) {
        squares_ += sum;
        if (!(sum <= largest_)) largest_ = sum;  // also NaN
        present_ += weight > 0 ? 1 : 0;
      }
    }
  }

  __device__ void backward(index_t i) {
    const T(*x)[pitch] = s_.ring[i % stages][warp_];
#pragma unroll
    for (int q = 0; q < tile / 8; ++q) {
      double y[2][2];
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int e = 0; e < 2; ++e) y[h][e] = s_.y[(8 * q + t_ + 4 * e) * width + 8 * h + g_];
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
          const index_t j = column_ + 16 * m + g_ + e / 2 * 8;
          if (j < a_.features) to[(8 * h + 2 * t_ + e % 2) * a_.features + j] = sums_[m][h][e];
        }
    // The squared norms of rows went through the first 16 threads of each block.
    if (rank_ != 0 || first_vector_ != 0 || warp_ != 0) return;
    static_assert(tile == 16 && tile * width == threads);
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

  StreamRead a_;
  Shared<T>& s_;
  index_t groups_, group_, first_vector_, column_, count_;
  unsigned blocks_, rank_;
  int lane_, warp_, g_, t_;
  double z_[warp_columns / 8][2][2];
  double sums_[warp_columns / 16][2][4] = {};
  double squares_ = 0, largest_ = 0, present_ = 0;
};

template <class T>
__global__ void __launch_bounds__(threads, 1)
    kernel([[maybe_unused]] const __grid_constant__ StreamRead a, [[maybe_unused]] index_t groups,
           [[maybe_unused]] unsigned blocks) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(16) unsigned char memory[];
  await_earlier_kernels();
  Reader<T>(a, groups, blocks, memory).run();
#endif
}

unsigned blocks_of(index_t features) {
  const auto needed = static_cast<std::uint64_t>(ceil_div(features, block_columns));
  return static_cast<unsigned>(std::bit_ceil(needed));
}

template <class T>
void launch(const Queue& queue, const StreamRead& read) {
  const auto function = kernel<T>;
  const void* address = reinterpret_cast<const void*>(function);
  allow_shared_memory(address, queue.device, sizeof(Shared<T>));
  const index_t groups = stream_groups(read.features);
  const unsigned blocks = blocks_of(read.features);
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = blocks;
  attributes[0].val.clusterDim.y = 1;
  attributes[0].val.clusterDim.z = 1;
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(grid_size(read.columns / width * groups * blocks));
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = sizeof(Shared<T>);
  config.stream = queue.stream;
  config.attrs = attributes;
  config.numAttrs = waits_for_earlier(address, queue.device) ? 2 : 1;
  check(cudaLaunchKernelEx(&config, function, read, groups, blocks), "launching a read of rows");
}

}  // namespace cluster_read

}  // namespace

}  // namespace gramian::cuda
