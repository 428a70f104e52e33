#include "lanczos.hpp"

#include <algorithm>

#include "dependent_launch.cuh"
#include "element.cuh"
#include "gramian/start_vector.hpp"
#include "vector_arithmetic.cuh"

namespace gramian::cuda {

namespace {

constexpr int threads = 256;
constexpr int warps = threads / 32;
/// One block holds a whole vector; its threads go over it together.
constexpr int vector_threads = 1024;

__device__ double entry(std::uint64_t seed, index_t i, double) {
  return detail::random_entry(seed, static_cast<std::uint64_t>(i));
}
__device__ double2 entry(std::uint64_t seed, index_t i, double2) {
  return {entry(seed, 2 * i, 0.0), entry(seed, 2 * i + 1, 0.0)};
}

template <class T>
__global__ void __launch_bounds__(vector_threads)
    start_kernel(index_t m, std::uint64_t seed, T* first) {
  await_earlier_kernels();
  __shared__ double sums[vector_threads / 32];
  double sum = 0;
  for (index_t i = threadIdx.x; i < m; i += vector_threads) {
    const T v = entry(seed, i, T{});
    sum += squared(v);
  }
  const double scale = 1 / sqrt(block_sum<vector_threads>(sum, sums));
  for (index_t i = threadIdx.x; i < m; i += vector_threads)
    first[i] = scaled(scale, entry(seed, i, T{}));
}

/// w <- G q, and parts of q^H w. A warp takes a row at a time.
template <class T>
__global__ void __launch_bounds__(threads)
    multiply_kernel(index_t m, Matrices g, const T* q, T* w, double* parts) {
  await_earlier_kernels();
  const T* const rows = static_cast<const T*>(g.data);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  double sum = 0;
  for (index_t i = static_cast<index_t>(blockIdx.x) * warps + threadIdx.x / 32; i < m;
       i += static_cast<index_t>(gridDim.x) * warps) {
    const double2 product = row_times_vector(rows + i * g.ld, q, m, lane);
    if (lane != 0) continue;
    store(product, w[i]);
    sum += real_of_product(q[i], product);
  }
  __shared__ double sums[warps];
  sum = block_sum<threads>(sum, sums);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

/// w <- (w - alpha q - beta before) / norm.
template <class T>
__global__ void __launch_bounds__(vector_threads)
    orthogonalize_kernel(index_t m, const double* parts, int count, const T* before, const T* q,
                         T* w, const double* coefficients_before, double* coefficients) {
  await_earlier_kernels();
  __shared__ double first_sums[vector_threads / 32];
  __shared__ double second_sums[vector_threads / 32];
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += vector_threads) sum += parts[i];
  const double alpha = block_sum<vector_threads>(sum, first_sums);
  const double beta = before ? coefficients_before[1] : 0.0;
  double squares = 0;
  for (index_t i = threadIdx.x; i < m; i += vector_threads) {
    T v = added(w[i], scaled(-alpha, q[i]));
    if (before) v = added(v, scaled(-beta, before[i]));
    w[i] = v;
    squares += squared(v);
  }
  const double norm = sqrt(block_sum<vector_threads>(squares, second_sums));
  const double scale = norm > 0 ? 1 / norm : 0.0;
  for (index_t i = threadIdx.x; i < m; i += vector_threads) w[i] = scaled(scale, w[i]);
  if (threadIdx.x != 0) return;
  coefficients[0] = alpha;
  coefficients[1] = norm;
}

template <class T>
__global__ void __launch_bounds__(threads)
    ritz_kernel(index_t m, Matrices basis, const double* y, index_t steps, T* v) {
  await_earlier_kernels();
  const index_t i = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x;
  if (i >= m) return;
  const T* const rows = static_cast<const T*>(basis.data);
  T sum{};
  for (index_t j = 0; j < steps; ++j) sum = added(sum, scaled(y[j], rows[j * basis.ld + i]));
  v[i] = conjugate_of(sum);
}

template <class T>
__global__ void __launch_bounds__(threads)
    shift_kernel(index_t m, index_t blocks_per_row, Matrices g, double s, Matrices b) {
  await_earlier_kernels();
  const index_t i = divide(blockIdx.x, blocks_per_row);
  const index_t j = (static_cast<index_t>(blockIdx.x) - i * blocks_per_row) * threads + threadIdx.x;
  if (j >= m) return;
  T v{};
  if (j <= i) v = scaled(-1.0, static_cast<const T*>(g.data)[i * g.ld + j]);
  if (j == i) v = added(v, real_number<T>(s));
  static_cast<T*>(b.data)[i * b.ld + j] = v;
}

template <class F>
void with_type(Storage storage, F&& f) {
  if (storage == Storage::float64) return f(double{});
  if (storage == Storage::complex128) return f(double2{});
  throw Error("Lanczos runs in float64");
}

/// Blocks of the product: four to a multiprocessor of the largest devices.
index_t blocks_for(index_t m) { return std::min<index_t>(ceil_div(m, warps), 1024); }

}  // namespace

index_t lanczos_parts(index_t m) { return blocks_for(m); }

void lanczos_start(const Queue& queue, Storage storage, index_t m, std::uint64_t seed,
                   const LanczosMemory& memory) {
  with_type(storage, [&](auto kind) {
    using T = decltype(kind);
    launch_after(queue, start_kernel<T>, 1, vector_threads, "launching the start of Lanczos", m,
                 seed, static_cast<T*>(memory.basis.data));
  });
}

void lanczos_step(const Queue& queue, Storage storage, index_t m, index_t step,
                  const LanczosMemory& memory) {
  with_type(storage, [&](auto kind) {
    using T = decltype(kind);
    T* const q = static_cast<T*>(memory.basis.data) + step * memory.basis.ld;
    T* const w = q + memory.basis.ld;
    const index_t blocks = blocks_for(m);
    launch_after(queue, multiply_kernel<T>, static_cast<unsigned>(blocks), threads,
                 "launching a step of Lanczos", m, memory.g, q, w, memory.parts);
    double* const to = memory.coefficients + 2 * step;
    launch_after(queue, orthogonalize_kernel<T>, 1, vector_threads, "launching a step of Lanczos",
                 m, memory.parts, static_cast<int>(blocks),
                 step > 0 ? q - memory.basis.ld : nullptr, q, w, step > 0 ? to - 2 : nullptr, to);
  });
}

void ritz_vector(const Queue& queue, Storage storage, index_t m, Matrices basis, const double* y,
                 index_t steps, void* v) {
  with_type(storage, [&](auto kind) {
    using T = decltype(kind);
    launch_after(queue, ritz_kernel<T>, grid_size(ceil_div(m, threads)), threads,
                 "launching a Ritz vector", m, basis, y, steps, static_cast<T*>(v));
  });
}

void shifted_triangle(const Queue& queue, Storage storage, index_t m, Matrices g, double s,
                      Matrices b) {
  const index_t blocks_per_row = ceil_div(m, threads);
  with_type(storage, [&](auto kind) {
    launch_after(queue, shift_kernel<decltype(kind)>, grid_size(m * blocks_per_row), threads,
                 "launching a shift", m, blocks_per_row, g, s, b);
  });
}

}  // namespace gramian::cuda
