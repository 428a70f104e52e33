#include "bounds_passes.hpp"

#include <algorithm>

#include "dependent_launch.cuh"
#include "element.cuh"
#include "vector_arithmetic.cuh"

namespace gramian::cuda {

namespace {

constexpr int threads = 256;
constexpr int warps = threads / 32;

template <class C>
__device__ double real_part(C v) {
  if constexpr (is_complex_number<C>)
    return static_cast<double>(v.x);
  else
    return static_cast<double>(v);
}

template <class T>
__global__ void __launch_bounds__(threads) follow_kernel(index_t m, Matrices h, NormParts squares,
                                                         SquareFigures* figures, double* scalars) {
  await_earlier_kernels();
  const index_t b = blockIdx.x;
  const T* const at = static_cast<const T*>(h.data) + b * h.stride;
  double trace = 0;
  double top = -1;
  index_t where = 0;
  for (index_t i = threadIdx.x; i < m; i += threads) {
    const double v = real_part(at[i * h.ld + i]);
    trace += v;
    if (v > top) {
      top = v;
      where = i;
    }
  }
  double sum = 0;
  for (index_t i = threadIdx.x; i < squares.count; i += threads)
    sum += squares.data[b * squares.count + i];

  __shared__ double traces[warps];
  __shared__ double sums[warps];
  __shared__ double tops[threads];
  __shared__ index_t places[threads];
  trace = block_sum<threads>(trace, traces);
  sum = block_sum<threads>(sum, sums);
  tops[threadIdx.x] = top;
  places[threadIdx.x] = where;
  for (unsigned half = threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half && tops[threadIdx.x + half] > tops[threadIdx.x]) {
      tops[threadIdx.x] = tops[threadIdx.x + half];
      places[threadIdx.x] = places[threadIdx.x + half];
    }
  }
  if (threadIdx.x != 0) return;
  // Of zero, and of what is not finite, the powers do not matter.
  const int e = trace > 0 && isfinite(trace) ? ilogb(trace) + 1 : 0;
  figures[b] = {trace, sum, static_cast<double>(e), tops[0], static_cast<double>(places[0])};
  double* const to = scalars + 3 * b;
  to[0] = scalbn(1.0, -2 * e);
  to[1] = to[2] = 0;
}

/// A warp takes a row of G at a time.
template <class T>
__global__ void __launch_bounds__(threads)
    quotient_kernel(index_t m, unsigned blocks, Matrices g, Matrices h,
                    const SquareFigures* figures, double* parts) {
  await_earlier_kernels();
  const index_t b = blockIdx.x / blocks;
  const index_t block = blockIdx.x % blocks;
  const T* const rows = static_cast<const T*>(g.data) + b * g.stride;
  // Row `top` of H is its column's conjugate, and adjacent in memory.
  const index_t top = figures ? static_cast<index_t>(figures[b].top_index) : 0;
  const T* const row_of_h = static_cast<const T*>(h.data) + b * h.stride + top * h.ld;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  double above = 0;
  double below = 0;
  for (index_t i = block * warps + static_cast<index_t>(threadIdx.x) / 32; i < m;
       i += static_cast<index_t>(blocks) * warps) {
    const double2 w = row_times_vector<true>(rows + i * g.ld, row_of_h, m, lane);
    if (lane != 0) continue;
    const T v = conjugate_of(row_of_h[i]);
    above += real_of_product(v, w);
    below += squared(v);
  }
  __shared__ double above_sums[warps];
  __shared__ double below_sums[warps];
  above = block_sum<threads>(above, above_sums);
  below = block_sum<threads>(below, below_sums);
  if (threadIdx.x != 0) return;
  double* const to = parts + 2 * static_cast<index_t>(blockIdx.x);
  to[0] = above;
  to[1] = below;
}

template <class R>
__global__ void finish_kernel(index_t batch, int steps, const SquareFigures* figures,
                              Entrance entrance, R* bound) {
  await_earlier_kernels();
  const index_t b = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x;
  if (b >= batch) return;
  double norm = entrance.norm[b];
  if (steps > 0 && norm != 0 && isfinite(norm)) {
    norm = sqrt(figures[(steps - 1) * batch + b].squares);
    // Square roots of numbers near 1 and powers of two: no logarithm and no exponential.
    for (int t = steps - 1; t-- > 0;)
      norm = scalbn(sqrt(norm), static_cast<int>(figures[t * batch + b].exponent));
    norm = sqrt(norm);
  }
  bound[b] = static_cast<R>(scalbn(norm, entrance.exponent[b]));
}

template <class F>
void with_storage(Storage storage, F&& f) {
  switch (storage) {
    case Storage::float32:
      return f(float{});
    case Storage::float64:
      return f(double{});
    case Storage::complex64:
      return f(float2{});
    case Storage::complex128:
      return f(double2{});
    case Storage::float16:
      break;
  }
  throw Error("bounds are not computed in float16");
}

}  // namespace

void follow(const Queue& queue, Storage storage, index_t batch, index_t m, Matrices h,
            NormParts squares, SquareFigures* figures, double* scalars) {
  with_storage(storage, [&](auto kind) {
    launch_after(queue, follow_kernel<decltype(kind)>, grid_size(batch), threads,
                 "launching the figures of a square", m, h, squares, figures, scalars);
  });
}

index_t quotient_blocks(index_t m) { return std::min<index_t>(ceil_div(m, warps), 128); }

void quotient_parts(const Queue& queue, Storage storage, index_t batch, index_t m, Matrices g,
                    Matrices h, const SquareFigures* figures, double* parts) {
  const auto blocks = static_cast<unsigned>(quotient_blocks(m));
  const auto start = [&](auto kind) {
    launch_after(queue, quotient_kernel<decltype(kind)>, grid_size(batch * blocks), threads,
                 "launching a Rayleigh quotient", m, blocks, g, h, figures, parts);
  };
  if (storage == Storage::float64) return start(double{});
  if (storage == Storage::complex128) return start(double2{});
  throw Error("a certified quotient is computed in float64");
}

void finish_gram_bound(const Queue& queue, index_t batch, int steps, const SquareFigures* figures,
                       const Entrance& entrance, const ArrayRef& bound) {
  const unsigned blocks = grid_size(ceil_div(batch, threads));
  const auto start = [&](auto* to) {
    using R = std::remove_pointer_t<decltype(to)>;
    launch_after(queue, finish_kernel<R>, blocks, threads, "launching the end of a Gram bound",
                 batch, steps, figures, entrance, to);
  };
  if (bound.dtype == DType::float64) return start(static_cast<double*>(bound.data));
  start(static_cast<float*>(bound.data));
}

}  // namespace gramian::cuda
