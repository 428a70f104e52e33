#include "rsvd_passes.hpp"

#include <algorithm>

#include "dependent_launch.cuh"
#include "element.cuh"
#include "gramian/cuda/rsvd.hpp"
#include "gramian/sketch.hpp"

namespace gramian::cuda {

namespace {

constexpr int threads = 256;

template <class T>
using double_of_t = std::conditional_t<is_complex_number<T>, double2, double>;

template <class T>
__device__ T whole_number(double v) {
  if constexpr (is_complex_number<T>)
    return {static_cast<real_of_t<T>>(v), 0};
  else
    return static_cast<T>(v);
}

__device__ double difference(double a, double b) { return a - b; }
__device__ double2 difference(double2 a, double2 b) { return {a.x - b.x, a.y - b.y}; }
__device__ double sum_of(double a, double b) { return a + b; }
__device__ double2 sum_of(double2 a, double2 b) { return {a.x + b.x, a.y + b.y}; }

/// A thread makes the entries of one row that share a block of 128 signs.
template <class T>
__global__ void __launch_bounds__(threads)
    sketch_kernel(std::uint64_t seed, index_t first, index_t n, index_t width, index_t groups,
                  T* z) {
  await_earlier_kernels();
  const index_t at = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x;
  const index_t i = divide(at, groups);
  if (i >= n) return;
  const index_t group = first / 128 + (at - i * groups);
  const PhiloxBlock bits =
      sketch_bits(seed, static_cast<std::uint64_t>(i), static_cast<std::uint32_t>(group));
  for (int k = 0; k < 128; ++k) {
    const index_t j = group * 128 + k - first;
    if (j < 0 || j >= width) continue;
    z[i * width + j] =
        whole_number<T>(sketch_is_negative(bits, static_cast<std::uint32_t>(k)) ? -1.0 : 1.0);
  }
}

/// Neighbouring threads take neighbours in memory: along rows, or down columns.
template <class In, class Out>
__global__ void __launch_bounds__(threads)
    copy_kernel(Strided a, bool down, const double_of_t<Out>* means, Out* to) {
  await_earlier_kernels();
  const index_t at = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x;
  if (at >= a.rows * a.cols) return;
  const index_t inner = down ? a.rows : a.cols;
  const index_t outer = divide(at, inner);
  const index_t rest = at - outer * inner;
  const index_t i = down ? rest : outer;
  const index_t j = down ? outer : rest;
  const In v = static_cast<const In*>(a.data)[i * a.row_stride + j * a.col_stride];
  using Wide = double_of_t<Out>;
  to[i * a.cols + j] =
      means ? convert<Out>(difference(convert<Wide>(v), means[j])) : convert<Out>(v);
}

template <class T>
__global__ void __launch_bounds__(threads)
    column_sums_kernel(index_t rows, index_t cols, const T* a, double_of_t<T>* sums, bool begin) {
  await_earlier_kernels();
  const index_t blocks = (cols + threads - 1) / threads;
  const index_t part = blockIdx.x / blocks;
  const index_t j = (blockIdx.x % blocks) * threads + threadIdx.x;
  if (j >= cols) return;
  double_of_t<T> sum{};
  for (index_t i = part; i < rows; i += sum_parts)
    sum = sum_of(sum, convert<double_of_t<T>>(a[i * cols + j]));
  double_of_t<T>& total = sums[part * cols + j];
  total = begin ? sum : sum_of(total, sum);
}

__device__ double square_of(double v) { return v * v; }
__device__ double square_of(double2 v) { return fma(v.x, v.x, v.y * v.y); }

/// Rows of `inner` neighbours, `stride` apart; a thread takes runs of 16 bytes, four at a time.
template <class T>
__global__ void __launch_bounds__(threads)
    squares_kernel(const T* a, index_t outer, index_t inner, index_t stride, bool vector,
                   double* parts) {
  constexpr int N = vector_bytes / static_cast<int>(sizeof(T));
  constexpr int U = 4;
  await_earlier_kernels();
  double sums[U] = {};
  const index_t step = static_cast<index_t>(gridDim.x) * threads;
  const index_t per_row = (inner + N - 1) / N;
  const index_t count = outer * per_row;
  for (index_t at = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x; at < count;
       at += U * step) {
    T v[U][N];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const index_t run = at + u * step;
      const index_t i = outer == 1 ? 0 : divide(run, per_row);
      const index_t j = (run - i * per_row) * N;
      load_run(a + i * stride + j, 1, run < count ? inside(j, inner, N) : 0, vector, v[u]);
    }
#pragma unroll
    for (int u = 0; u < U; ++u)
#pragma unroll
      for (int k = 0; k < N; ++k) sums[u] += square_of(convert<double_of_t<T>>(v[u][k]));
  }
  __shared__ double shared[threads / 32];
  const double sum = block_sum<threads>((sums[0] + sums[1]) + (sums[2] + sums[3]), shared);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(threads)
    parts_kernel(const double* parts, index_t count, double* total) {
  await_earlier_kernels();
  double sum = 0;
  for (index_t i = threadIdx.x; i < count; i += threads) sum += parts[i];
  __shared__ double shared[threads / 32];
  sum = block_sum<threads>(sum, shared);
  if (threadIdx.x == 0) *total = sum;
}

template <class T>
__global__ void __launch_bounds__(threads)
    add_kernel(index_t count, const T* product, double_of_t<T>* total, bool begin) {
  await_earlier_kernels();
  const index_t i = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x;
  if (i >= count) return;
  const auto v = convert<double_of_t<T>>(product[i]);
  total[i] = begin ? v : sum_of(total[i], v);
}

template <class F>
void with_computed(DType dtype, F&& f) {
  switch (dtype) {
    case DType::float32:
      return f(float{});
    case DType::float64:
      return f(double{});
    case DType::complex64:
      return f(float2{});
    case DType::complex128:
      return f(double2{});
    default:
      throw Error("no such type of a read");
  }
}

template <class F>
void with_input(DType dtype, F&& f) {
  if (dtype == DType::float16) return f(__half{});
  if (dtype == DType::bfloat16) return f(__nv_bfloat16{});
  with_computed(dtype, f);
}

unsigned blocks_for(index_t count) { return grid_size(ceil_div(count, threads)); }

}  // namespace

void fill_sketch(const Queue& queue, std::uint64_t seed, index_t first, DType dtype, index_t n,
                 index_t width, void* z) {
  const index_t groups = (first + width - 1) / 128 - first / 128 + 1;
  with_computed(dtype, [&](auto kind) {
    using T = decltype(kind);
    launch_after(queue, sketch_kernel<T>, blocks_for(n * groups), threads, "launching a sketch",
                 seed, first, n, width, groups, static_cast<T*>(z));
  });
}

void copy_less_means(const Queue& queue, DType dtype, const Strided& a, DType computed,
                     const void* means, void* to) {
  const bool down = std::abs(a.row_stride) < std::abs(a.col_stride);
  with_input(dtype, [&](auto in) {
    with_computed(computed, [&](auto out) {
      using In = decltype(in);
      using Out = decltype(out);
      if constexpr (is_complex_number<In> == is_complex_number<Out>)
        launch_after(queue, copy_kernel<In, Out>, blocks_for(a.rows * a.cols), threads,
                     "launching a copy of rows", a, down,
                     static_cast<const double_of_t<Out>*>(means), static_cast<Out*>(to));
      else
        throw Error("real and complex types are mixed");
    });
  });
}

void add_column_sums(const Queue& queue, DType computed, index_t rows, index_t cols, const void* a,
                     void* sums, bool begin) {
  with_computed(computed, [&](auto kind) {
    using T = decltype(kind);
    launch_after(queue, column_sums_kernel<T>, grid_size(sum_parts * ceil_div(cols, threads)),
                 threads, "launching column sums", rows, cols, static_cast<const T*>(a),
                 static_cast<double_of_t<T>*>(sums), begin);
  });
}

void sum_squares(const Queue& queue, DType computed, const Strided& a, double* parts) {
  const bool by_rows = a.col_stride == 1;
  index_t outer = by_rows ? a.rows : a.cols;
  index_t inner = by_rows ? a.cols : a.rows;
  index_t stride = by_rows ? a.row_stride : a.col_stride;
  if (stride == inner) {
    inner *= outer;
    outer = 1;
  }
  with_computed(computed, [&](auto kind) {
    using T = decltype(kind);
    const index_t bytes = static_cast<index_t>(sizeof(T));
    const bool vector = reinterpret_cast<std::uintptr_t>(a.data) % vector_bytes == 0 &&
                        (outer == 1 || stride * bytes % vector_bytes == 0);
    launch_after(queue, squares_kernel<T>, static_cast<unsigned>(square_parts), threads,
                 "launching a sum of squares", static_cast<const T*>(a.data), outer, inner, stride,
                 vector, parts);
  });
}

void add_parts(const Queue& queue, const double* parts, index_t count, double* sum) {
  launch_after(queue, parts_kernel, 1u, threads, "launching a sum", parts, count, sum);
}

void add_to(const Queue& queue, DType computed, index_t count, const void* product, void* total,
            bool begin) {
  with_computed(computed, [&](auto kind) {
    using T = decltype(kind);
    launch_after(queue, add_kernel<T>, blocks_for(count), threads, "launching a sum", count,
                 static_cast<const T*>(product), static_cast<double_of_t<T>*>(total), begin);
  });
}

}  // namespace gramian::cuda
