#include "rsvd_finish.hpp"

#include "dependent_launch.cuh"
#include "element.cuh"

namespace gramian::cuda {

namespace {

constexpr int threads = 256;
constexpr int wide_threads = 1024;

/// Sums of |entries| of column `lane` of each run of 32 columns, for all 32 warps together.
__device__ double column_sum(const double* m, index_t size, index_t column,
                             double (&shared)[32][33]) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  double sum = 0;
  if (column < size)
    for (index_t i = warp; i < size; i += 32) sum += fabs(m[i * size + column]);
  shared[warp][lane] = sum;
  __syncthreads();
  sum = 0;
#pragma unroll
  for (int w = 0; w < 32; ++w) sum += shared[w][lane];
  __syncthreads();
  return sum;
}

__global__ void __launch_bounds__(wide_threads) half_step_kernel(HalfStep h) {
  __shared__ double shared[32][33];
  __shared__ double sums[32];
  await_earlier_kernels();
  const index_t size = h.size;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const index_t count = size * size;

  double square = 0;
  for (index_t at = threadIdx.x; at < count; at += wide_threads) {
    const double d = h.inner[at] - h.whole[at];
    square = fma(d, d, square);
  }
  square = block_sum<wide_threads>(square, sums);
  // What the rounding of W is worth shows in Z^T W - Y^T Y.
  const double seen =
      sqrt(square) * sqrt(static_cast<double>(h.columns) / static_cast<double>(size));
  // At least the largest eigenvalue of Y^T Y.
  double top = 0;
  for (index_t first = 0; first < size; first += 32)
    top = fmax(top, column_sum(h.whole, size, first + lane, shared));
#pragma unroll
  for (int d = 16; d > 0; d /= 2) top = fmax(top, __shfl_xor_sync(0xffffffffu, top, d));

  for (index_t first = 0; first < size; first += 32) {
    const index_t j = first + lane;
    const double sum = column_sum(h.inverse, size, j, shared);
    const bool usable = sum * sqrt(top) < 0.1 / h.unit;
    if (j < size) {
      if (threadIdx.x < 32) h.noise[j] = usable ? (24 * h.unit * top + 3 * seen) * sum : -1.0;
      for (index_t i = threadIdx.x / 32; i < size; i += 32)
        h.usable[i * size + j] = usable ? h.inverse[i * size + j] : 0.0;
    }
  }
}

__global__ void __launch_bounds__(threads)
    keep_kernel(index_t size, const double* gram, const double* noise, double* kept) {
  await_earlier_kernels();
  for (index_t j = threadIdx.x; j < size; j += threads)
    kept[j] = noise[j] >= 0 && sqrt(gram[j * size + j]) > noise[j] ? 1.0 : 0.0;
}

/// Larger for larger entries, and of equal ones for the first. Never 0 for an entry.
template <class Out>
__device__ unsigned long long key_of(double v, index_t row) {
  const float size = fabsf(convert<float>(convert<Out>(v)));
  return static_cast<unsigned long long>(__float_as_uint(size)) << 32 |
         (0xffffffffu - static_cast<unsigned>(row));
}

/// 32 columns by 8 rows at once; a block has its share of the rows.
template <class Out>
__global__ void __launch_bounds__(threads)
    largest_kernel(const double* x, index_t rows, index_t cols, index_t each,
                   unsigned long long* keys) {
  __shared__ unsigned long long shared[threads / 32][33];
  await_earlier_kernels();
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const index_t begin = static_cast<index_t>(blockIdx.x) * each;
  const index_t end = begin + each < rows ? begin + each : rows;
  for (index_t first = 0; first < cols; first += 32) {
    const index_t j = first + lane;
    unsigned long long key = 0;
    if (j < cols)
      for (index_t i = begin + warp; i < end; i += threads / 32) {
        const unsigned long long other = key_of<Out>(x[i * cols + j], i);
        key = other > key ? other : key;
      }
    shared[warp][lane] = key;
    __syncthreads();
    if (warp == 0 && j < cols) {
#pragma unroll
      for (int w = 1; w < threads / 32; ++w) key = shared[w][lane] > key ? shared[w][lane] : key;
      keys[static_cast<index_t>(blockIdx.x) * cols + j] = key;
    }
    __syncthreads();
  }
}

/// A warp to each column.
__global__ void __launch_bounds__(threads)
    signs_kernel(const double* x, index_t rows, index_t cols, const unsigned long long* keys,
                 index_t parts, double* signs) {
  await_earlier_kernels();
  const index_t j = (static_cast<index_t>(blockIdx.x) * threads + threadIdx.x) / 32;
  if (j >= cols) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  unsigned long long key = 0;
  for (index_t p = lane; p < parts; p += 32) {
    const unsigned long long other = keys[p * cols + j];
    key = other > key ? other : key;
  }
  key = warp_max(key);
  const index_t row = 0xffffffffu - static_cast<unsigned>(key);
  if (lane == 0) signs[j] = row < rows && x[row * cols + j] < 0 ? -1.0 : 1.0;
}

/// Neighbouring threads write neighbours: along rows, or down columns.
template <class Out>
__global__ void __launch_bounds__(threads)
    write_rows_kernel(const double* x, index_t rows, index_t cols, const double* signs, Factor to) {
  await_earlier_kernels();
  const index_t at = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x;
  if (at >= rows * cols) return;
  const index_t i = divide(at, cols);
  const index_t j = at - i * cols;
  static_cast<Out*>(to.data)[i * to.row_stride + j * to.col_stride] =
      convert<Out>(x[at] * signs[j]);
}

template <class Out>
__global__ void __launch_bounds__(threads)
    write_columns_kernel(const double* x, index_t rows, index_t cols, index_t across,
                         const double* signs, Factor to) {
  __shared__ double tile[32][33];
  await_earlier_kernels();
  const index_t I = divide(blockIdx.x, across);
  const index_t i0 = I * 32;
  const index_t j0 = (static_cast<index_t>(blockIdx.x) - I * across) * 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int k = warp; k < 32; k += threads / 32)
    if (i0 + k < rows && j0 + lane < cols)
      tile[k][lane] = x[(i0 + k) * cols + j0 + lane] * signs[j0 + lane];
  __syncthreads();
  for (int k = warp; k < 32; k += threads / 32)
    if (i0 + lane < rows && j0 + k < cols)
      static_cast<Out*>(to.data)[(i0 + lane) * to.row_stride + (j0 + k) * to.col_stride] =
          convert<Out>(tile[lane][k]);
}

__global__ void __launch_bounds__(threads)
    values_kernel(const double* squares, index_t count, float* to) {
  await_earlier_kernels();
  for (index_t j = threadIdx.x; j < count; j += threads)
    to[j] = static_cast<float>(sqrt(squares[j]));
}

template <class F>
void with_output(DType dtype, F&& f) {
  switch (dtype) {
    case DType::float32:
      return f(float{});
    case DType::float16:
      return f(__half{});
    case DType::bfloat16:
      return f(__nv_bfloat16{});
    default:
      throw Error("no such type of a factor");
  }
}

}  // namespace

void weigh_half_step(const Queue& queue, const HalfStep& half_step) {
  launch_after(queue, half_step_kernel, 1u, wide_threads, "launching weights", half_step);
}

void keep_columns(const Queue& queue, index_t size, const double* gram, const double* noise,
                  double* kept) {
  launch_after(queue, keep_kernel, 1u, threads, "launching a choice", size, gram, noise, kept);
}

void find_signs(const Queue& queue, DType dtype, const double* factor, index_t rows, index_t cols,
                unsigned long long* keys, double* signs) {
  // Rows count in 32 bits there.
  if (rows >= 0xffffffff) throw Error("too many rows for signs");
  with_output(dtype, [&](auto kind) {
    launch_after(queue, largest_kernel<decltype(kind)>, static_cast<unsigned>(largest_parts),
                 threads, "launching a search", factor, rows, cols, ceil_div(rows, largest_parts),
                 keys);
  });
  launch_after(queue, signs_kernel, grid_size(ceil_div(cols * 32, threads)), threads,
               "launching signs", factor, rows, cols, keys, largest_parts, signs);
}

void write_factor(const Queue& queue, DType dtype, const double* factor, index_t rows, index_t cols,
                  const double* signs, const Factor& to) {
  with_output(dtype, [&](auto kind) {
    using Out = decltype(kind);
    if (to.col_stride == 1) {
      launch_after(queue, write_rows_kernel<Out>, grid_size(ceil_div(rows * cols, threads)),
                   threads, "launching a copy of a factor", factor, rows, cols, signs, to);
      return;
    }
    const index_t across = ceil_div(cols, 32);
    launch_after(queue, write_columns_kernel<Out>, grid_size(ceil_div(rows, 32) * across), threads,
                 "launching a copy of a factor", factor, rows, cols, across, signs, to);
  });
}

void write_values(const Queue& queue, const double* squares, index_t count, float* to) {
  launch_after(queue, values_kernel, 1u, threads, "launching singular values", squares, count, to);
}

}  // namespace gramian::cuda
