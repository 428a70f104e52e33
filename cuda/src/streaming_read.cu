#include "streaming_read.hpp"

#include <algorithm>
#include <bit>

#include "dependent_launch.cuh"
#include "device_properties.hpp"
#include "element.cuh"
#include "streaming_read_cluster.cuh"

namespace gramian::cuda {

namespace {

// Rows of any strides and widths, and other GPUs: first Y = F X Z, then X^T Y, rows read for each.
namespace general_read {

constexpr int threads = 256;
constexpr int warps = threads / 32;
constexpr int width = 16;
constexpr int warp_rows = 4;

/// A warp computes 4 rows of Y = F X Z for 16 vectors, and the rows' squares.
template <class T>
__global__ void __launch_bounds__(threads) forward_kernel(StreamRead a) {
  await_earlier_kernels();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const index_t row0 =
      (static_cast<index_t>(blockIdx.x) * warps + static_cast<int>(threadIdx.x) / 32) * warp_rows;
  if (row0 >= a.rows) return;
  const T* x = static_cast<const T*>(a.x);
  for (index_t v0 = 0; v0 < a.columns; v0 += width) {
    double sums[warp_rows][width] = {};
    for (index_t j = lane; j < a.features; j += 32) {
      double z[width];
#pragma unroll
      for (int v = 0; v < width; ++v) z[v] = a.vectors[(v0 + v) * a.features + j];
#pragma unroll
      for (int r = 0; r < warp_rows; ++r) {
        if (row0 + r >= a.rows) continue;
        const double f = convert<double>(x[(row0 + r) * a.row_stride + j * a.col_stride]);
#pragma unroll
        for (int v = 0; v < width; ++v) sums[r][v] = fma(f, z[v], sums[r][v]);
      }
    }
#pragma unroll
    for (int r = 0; r < warp_rows; ++r) {
#pragma unroll
      for (int v = 0; v < width; ++v) {
        const double sum = warp_sum(sums[r][v]);
        if (lane == v && row0 + r < a.rows)
          a.products[(row0 + r) * a.columns + v0 + v] =
              sum * (a.weights ? a.weights[row0 + r] : 1.0);
      }
    }
  }
}

/// Squares of the rows of one group, by one block.
template <class T>
__global__ void __launch_bounds__(threads) figures_kernel(StreamRead a, index_t groups) {
  await_earlier_kernels();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const index_t group = blockIdx.x;
  const T* x = static_cast<const T*>(a.x);
  double squares = 0;
  double largest = 0;
  double present = 0;
  for (index_t tile = group; tile * stream_tile < a.rows; tile += groups) {
    for (index_t r = tile * stream_tile + warp; r < min(a.rows, (tile + 1) * stream_tile);
         r += warps) {
      double sum = 0;
      for (index_t j = lane; j < a.features; j += 32) {
        const double f = convert<double>(x[r * a.row_stride + j * a.col_stride]);
        sum = fma(f, f, sum);
      }
      const double weight = a.weights ? a.weights[r] : 1;
      sum = warp_sum(sum) * weight;
      squares += sum;
      if (!(sum <= largest)) largest = sum;  // also NaN
      present += weight > 0 ? 1 : 0;
    }
  }
  __shared__ double shared[warps][3];
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

/// X^T Y of one group's rows for 256 columns of X and 16 of Y, a column of X to a thread.
template <class T>
__global__ void __launch_bounds__(threads) backward_kernel(StreamRead a, index_t groups) {
  await_earlier_kernels();
  __shared__ double y[stream_tile][width];
  const index_t slabs = (a.features + threads - 1) / threads;
  const index_t j = blockIdx.x % slabs * threads + threadIdx.x;
  const index_t group = blockIdx.x / slabs % groups;
  const index_t v0 = blockIdx.x / slabs / groups * width;
  const T* x = static_cast<const T*>(a.x);
  double sums[width] = {};
  for (index_t tile = group; tile * stream_tile < a.rows; tile += groups) {
    const index_t row0 = tile * stream_tile;
    __syncthreads();
    {
      static_assert(stream_tile * width == threads);
      const int r = static_cast<int>(threadIdx.x) / width;
      const int v = static_cast<int>(threadIdx.x) % width;
      y[r][v] = row0 + r < a.rows ? a.products[(row0 + r) * a.columns + v0 + v] : 0;
    }
    __syncthreads();
    if (j >= a.features) continue;
    const int count = inside(row0, a.rows, static_cast<int>(stream_tile));
    for (int r = 0; r < count; ++r) {
      const double f = convert<double>(x[(row0 + r) * a.row_stride + j * a.col_stride]);
#pragma unroll
      for (int v = 0; v < width; ++v) sums[v] = fma(f, y[r][v], sums[v]);
    }
  }
  if (j >= a.features) return;
#pragma unroll
  for (int v = 0; v < width; ++v) a.parts[(group * a.columns + v0 + v) * a.features + j] = sums[v];
}

template <class T>
index_t launch(const Queue& queue, const StreamRead& a) {
  const index_t groups = stream_groups(a.features);
  const char* what = "launching a read of rows";
  launch_after(queue, forward_kernel<T>, grid_size(ceil_div(a.rows, warps * warp_rows)),
               unsigned{threads}, what, a);
  launch_after(queue, figures_kernel<T>, grid_size(groups), unsigned{threads}, what, a, groups);
  launch_after(queue, backward_kernel<T>,
               grid_size(ceil_div(a.features, threads) * groups * (a.columns / width)),
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
