#include "streaming_read.hpp"

#include <algorithm>
#include <bit>

#include "dependent_launch.cuh"
#include "device_properties.hpp"
#include "element.cuh"
#include "streaming_read_cluster.cuh"

namespace gramian::cuda {

namespace {

// Rows of any strides, widths and types, and other GPUs: first Y = F X Z, then X^T Y, rows read for
// each, float64 on tensor cores for both.
namespace general_read {

constexpr int threads = 256;
constexpr int warps = threads / 32;
constexpr int width = 16;
constexpr int tile = static_cast<int>(stream_tile);
constexpr int warp_columns = 32;  // of X^T Y
constexpr int block_columns = warps * warp_columns;

template <class T>
__device__ double entry(const StreamRead& a, index_t row, index_t column) {
  if (row >= a.rows || column >= a.features) return 0;
  return convert<double>(static_cast<const T*>(a.x)[row * a.row_stride + column * a.col_stride]);
}

/// Squared norms of rows, weighted, behind the products.
__device__ double* squares_of(const StreamRead& a) { return a.products + a.rows * a.columns; }

/// A block computes `tiles` times 16 rows of Y and the rows' squares. Its warps take 8 columns in
/// turn; they enter the instruction in the order of their pairs, those of X as those of Z.
template <class T, int tiles>
__global__ void __launch_bounds__(threads) forward_kernel(StreamRead a) {
  await_earlier_kernels();
  __shared__ double shared[warps][tile][width + 1];
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / 32;
  const int g = thread % 32 / 4;
  const int t = thread % 4;
  const index_t row0 = static_cast<index_t>(blockIdx.x) * (tile * tiles);
  for (index_t v0 = 0; v0 < a.columns; v0 += width) {
    double y[tiles][2][4] = {};
    double squares[tiles][2] = {};
    for (index_t k = 8 * warp; k < a.features; k += 8 * warps) {
      const index_t j = k + 2 * t;
      double z[2][2];
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int e = 0; e < 2; ++e)
          z[h][e] = j + e < a.features ? a.vectors[(v0 + 8 * h + g) * a.features + j + e] : 0;
#pragma unroll
      for (int m = 0; m < tiles; ++m) {
        double f[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) f[e] = entry<T>(a, row0 + tile * m + g + e % 2 * 8, j + e / 2);
#pragma unroll
        for (int h = 0; h < 2; ++h) float64::multiply_add(y[m][h], f, z[h]);
#pragma unroll
        for (int e = 0; e < 2; ++e)
          squares[m][e] = fma(f[e], f[e], fma(f[e + 2], f[e + 2], squares[m][e]));
      }
    }
#pragma unroll
    for (int m = 0; m < tiles; ++m) {
      __syncthreads();
#pragma unroll
      for (int e = 0; e < 2; ++e) {
#pragma unroll
        for (int d = 1; d < 4; d *= 2)
          squares[m][e] += __shfl_xor_sync(0xffffffffu, squares[m][e], d);
        if (t == 0) shared[warp][g + 8 * e][width] = squares[m][e];
      }
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int e = 0; e < 4; ++e) shared[warp][g + e / 2 * 8][8 * h + 2 * t + e % 2] = y[m][h][e];
      __syncthreads();
      static_assert(tile * width == threads);
      const auto whole = [&](int r, int v) {
        double sum = 0;
#pragma unroll
        for (int w = 0; w < warps; ++w) sum += shared[w][r][v];
        return row0 + tile * m + r < a.rows && a.weights ? sum * a.weights[row0 + tile * m + r]
                                                         : sum;
      };
      const index_t row = row0 + tile * m + thread / width;
      if (row < a.rows)
        a.products[row * a.columns + v0 + thread % width] = whole(thread / width, thread % width);
      if (v0 == 0 && thread < tile && row0 + tile * m + thread < a.rows)
        squares_of(a)[row0 + tile * m + thread] = whole(thread, width);
    }
  }
}

/// Figures of one group's rows, by one block.
__global__ void __launch_bounds__(threads) figures_kernel(StreamRead a, index_t groups) {
  await_earlier_kernels();
  __shared__ double shared[warps][3];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const index_t group = blockIdx.x;
  double squares = 0;
  double largest = 0;
  double present = 0;
  const index_t step = groups * tile;
  for (index_t first = group * tile + threadIdx.x / tile * step; first < a.rows;
       first += threads / tile * step) {
    const index_t row = first + threadIdx.x % tile;
    if (row >= a.rows) break;
    const double square = squares_of(a)[row];
    squares += square;
    if (!(square <= largest)) largest = square;  // also NaN
    present += !a.weights || a.weights[row] > 0 ? 1 : 0;
  }
  squares = warp_sum(squares);
  present = warp_sum(present);
#pragma unroll
  for (int d = 16; d > 0; d /= 2) {
    const double other = __shfl_xor_sync(0xffffffffu, largest, d);
    if (!(other <= largest)) largest = other;
  }
  if (lane == 0) {
    shared[warp][0] = squares;
    shared[warp][1] = largest;
    shared[warp][2] = present;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < warps; ++w) {
    squares += shared[w][0];
    if (!(shared[w][1] <= largest)) largest = shared[w][1];
    present += shared[w][2];
  }
  a.figures[3 * group] = squares;
  a.figures[3 * group + 1] = largest;
  a.figures[3 * group + 2] = present;
}

/// X^T Y of one group's rows for 256 columns of X, 32 to a warp, and 16 of Y.
template <class T>
__global__ void __launch_bounds__(threads, 2) backward_kernel(StreamRead a, index_t groups) {
  await_earlier_kernels();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4;
  const int t = lane % 4;
  const index_t slabs = (a.features + block_columns - 1) / block_columns;
  const index_t column = blockIdx.x % slabs * block_columns + threadIdx.x / 32 * warp_columns;
  const index_t group = blockIdx.x / slabs % groups;
  const index_t v0 = blockIdx.x / slabs / groups * width;
  constexpr int parts = warp_columns / 16;
  double sums[parts][2][4] = {};
  for (index_t row0 = group * tile; row0 < a.rows; row0 += groups * tile) {
#pragma unroll
    for (int q = 0; q < tile / 8; ++q) {
      double y[2][2];
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const index_t row = row0 + 8 * q + t + 4 * e;
          y[h][e] = row < a.rows ? a.products[row * a.columns + v0 + 8 * h + g] : 0;
        }
#pragma unroll
      for (int m = 0; m < parts; ++m) {
        double f[4];
#pragma unroll
        for (int e = 0; e < 4; ++e)
          f[e] = entry<T>(a, row0 + 8 * q + t + e / 2 * 4, column + 16 * m + g + e % 2 * 8);
#pragma unroll
        for (int h = 0; h < 2; ++h) float64::multiply_add(sums[m][h], f, y[h]);
      }
    }
  }
#pragma unroll
  for (int m = 0; m < parts; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const index_t j = column + 16 * m + g + e / 2 * 8;
        const index_t v = v0 + 8 * h + 2 * t + e % 2;
        if (j < a.features) a.parts[(group * a.columns + v) * a.features + j] = sums[m][h][e];
      }
}

template <class T>
index_t launch(const Queue& queue, const StreamRead& a) {
  const index_t groups = stream_groups(a.features);
  const char* what = "launching a read of rows";
  // Z is read anew for each block's rows, and more of them are more loads on their way; of few rows
  // each multiprocessor has some.
  if (a.rows >= 2 * tile * multiprocessors(queue.device))
    launch_after(queue, forward_kernel<T, 4>, grid_size(ceil_div(a.rows, 4 * tile)),
                 unsigned{threads}, what, a);
  else
    launch_after(queue, forward_kernel<T, 1>, grid_size(ceil_div(a.rows, tile)), unsigned{threads},
                 what, a);
  launch_after(queue, figures_kernel, grid_size(groups), unsigned{threads}, what, a, groups);
  launch_after(queue, backward_kernel<T>,
               grid_size(ceil_div(a.features, block_columns) * groups * (a.columns / width)),
               unsigned{threads}, what, a, groups);
  return groups;
}

}  // namespace general_read

}  // namespace

index_t stream_groups(index_t features) {
  const auto blocks = static_cast<index_t>(
      std::bit_ceil(static_cast<std::uint64_t>(ceil_div(features, cluster_read::block_columns))));
  return std::max<index_t>(1, 128 / blocks);
}

bool reads_once(const Queue& queue, const StreamRead& a) {
  const index_t size = element_size(a.dtype);
  return is_hopper(queue.device) && a.dtype != DType::float64 && a.col_stride == 1 &&
         a.features <= cluster_read::block_columns * cluster_read::most_blocks &&
         a.features * size % vector_bytes == 0 && a.row_stride * size % vector_bytes == 0 &&
         reinterpret_cast<std::uintptr_t>(a.x) % vector_bytes == 0;
}

index_t read_rows(const Queue& queue, const StreamRead& a) {
  const bool once = reads_once(queue, a);
  switch (a.dtype) {
    case DType::float16:
      return once ? cluster_read::launch<__half>(queue, a) : general_read::launch<__half>(queue, a);
    case DType::bfloat16:
      return once ? cluster_read::launch<__nv_bfloat16>(queue, a)
                  : general_read::launch<__nv_bfloat16>(queue, a);
    case DType::float32:
      return once ? cluster_read::launch<float>(queue, a) : general_read::launch<float>(queue, a);
    case DType::float64:
      return general_read::launch<double>(queue, a);
    default:
      throw Error("rows of a stream must be real");
  }
}

}  // namespace gramian::cuda
