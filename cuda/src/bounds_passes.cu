#include "bounds_passes.hpp"

#include <algorithm>

#include "candidate.cuh"
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
  for (index_t i = threadIdx.x; i < m; i += threads) {
    const double v = real_part(at[i * h.ld + i]);
    trace += v;
    if (v > top) top = v;
  }
  double sum = 0;
  for (index_t i = threadIdx.x; i < squares.count; i += threads)
    sum += squares.data[b * squares.count + i];

  __shared__ double traces[warps];
  __shared__ double sums[warps];
  __shared__ double tops[warps];
  trace = block_sum<threads>(trace, traces);
  sum = block_sum<threads>(sum, sums);
#pragma unroll
  for (int d = 16; d > 0; d /= 2) top = fmax(top, __shfl_xor_sync(0xffffffffu, top, d));
  if (threadIdx.x % 32 == 0) tops[threadIdx.x / 32] = top;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < warps; ++w) top = fmax(top, tops[w]);
  // Of zero, and of what is not finite, the powers do not matter.
  const int e = trace > 0 && isfinite(trace) ? ilogb(trace) + 1 : 0;
  figures[b] = {trace, sum, static_cast<double>(e), top};
  double* const to = scalars + 3 * b;
  to[0] = scalbn(1.0, -2 * e);
  to[1] = to[2] = 0;
}

/// A warp takes a row of H at a time.
template <class T>
__global__ void __launch_bounds__(threads)
    candidates_kernel(index_t m, unsigned blocks, Matrices h, const SquareFigures* figures,
                      Candidate* candidates) {
  await_earlier_kernels();
  const index_t b = blockIdx.x / blocks;
  const index_t block = blockIdx.x % blocks;
  const T* const rows = static_cast<const T*>(h.data) + b * h.stride;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const double least = scalbn(figures[b].trace, -60);
  Candidate best{-1, 0};
  for (index_t j = block * warps + static_cast<index_t>(threadIdx.x) / 32; j < m;
       j += static_cast<index_t>(blocks) * warps) {
    const double squares = sum_of_squares(rows + j * h.ld, m, lane);
    const double diagonal = real_part_of(rows[j * h.ld + j]);
    if (diagonal > least) best = better(best, {squares / diagonal, static_cast<double>(j)});
  }
  __shared__ Candidate found[warps];
  if (lane == 0) found[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < warps; ++w) best = better(best, found[w]);
  candidates[blockIdx.x] = best;
}

/// The best of a matrix's candidates, for every thread of its first warp.
__device__ Candidate best_of(const Candidate* candidates, unsigned count) {
  Candidate best{-1, 0};
  for (unsigned i = threadIdx.x % 32; i < count; i += 32) best = better(best, candidates[i]);
  return best_of_warp(best);
}

/// A warp takes a row of G at a time.
template <class T>
__global__ void __launch_bounds__(threads)
    quotient_kernel(index_t m, unsigned blocks, Matrices g, Matrices h, const Candidate* candidates,
                    double* parts) {
  await_earlier_kernels();
  const index_t b = blockIdx.x / blocks;
  const index_t block = blockIdx.x % blocks;
  const T* const rows = static_cast<const T*>(g.data) + b * g.stride;
  // A row of H is its column's conjugate, and adjacent in memory.
  const Candidate best = candidates ? best_of(candidates + b * blocks, blocks) : Candidate{0, 0};
  const T* const row_of_h =
      static_cast<const T*>(h.data) + b * h.stride + static_cast<index_t>(best.index) * h.ld;
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

template <class F>
void in_double(Storage storage, F&& f) {
  if (storage == Storage::float64) return f(double{});
  if (storage == Storage::complex128) return f(double2{});
  throw Error("a certified quotient is computed in float64");
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

void find_candidates(const Queue& queue, Storage storage, index_t batch, index_t m, Matrices h,
                     const SquareFigures* figures, Candidate* candidates) {
  const auto blocks = static_cast<unsigned>(quotient_blocks(m));
  in_double(storage, [&](auto kind) {
    launch_after(queue, candidates_kernel<decltype(kind)>, grid_size(batch * blocks), threads,
                 "launching a search for a column", m, blocks, h, figures, candidates);
  });
}

void quotient_parts(const Queue& queue, Storage storage, index_t batch, index_t m, Matrices g,
                    Matrices h, const Candidate* candidates, double* parts) {
  const auto blocks = static_cast<unsigned>(quotient_blocks(m));
  in_double(storage, [&](auto kind) {
    launch_after(queue, quotient_kernel<decltype(kind)>, grid_size(batch * blocks), threads,
                 "launching a Rayleigh quotient", m, blocks, g, h, candidates, parts);
  });
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
