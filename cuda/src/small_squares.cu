#include "small_squares.hpp"

#include "candidate.cuh"
#include "device_properties.hpp"
#include "float64_product.hpp"
#include "small_tile.cuh"

namespace gramian::cuda {

namespace {

using small::block_threads;
using small::block_warps;

constexpr int buffers = 3;

struct Measured {
  double trace, squares, top;
};

/// Of one iterate, for every thread.
template <class Shape>
__device__ Measured measure(const typename Shape::T* h, int m) {
  __shared__ double traces[block_warps];
  __shared__ double sums[block_warps];
  __shared__ double top;
  const int t = static_cast<int>(threadIdx.x);
  double trace = t < m ? real_part_of(h[t * Shape::ld + t]) : 0.0;
  double sum = 0;
  for (int i = t / Shape::side; i < m; i += block_threads / Shape::side) {
    const int j = t % Shape::side;
    if (j <= i) sum += (j == i ? 1.0 : 2.0) * squared(h[i * Shape::ld + j]);
  }
  if (t < 32) {
    double best = -1;
    for (int i = t; i < m; i += 32) best = fmax(best, real_part_of(h[i * Shape::ld + i]));
#pragma unroll
    for (int d = 16; d > 0; d /= 2) best = fmax(best, __shfl_xor_sync(0xffffffffu, best, d));
    if (t == 0) top = best;
  }
  trace = block_sum<block_threads>(trace, traces);
  sum = block_sum<block_threads>(sum, sums);
  const Measured found{trace, sum, top};
  __syncthreads();  // before the next call writes what this one has read
  return found;
}

/// The column of H for a Rayleigh quotient, for every thread: see find_candidates.
template <class Shape>
__device__ int best_column(const typename Shape::T* h, int m, double trace) {
  __shared__ Candidate found[block_warps];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const double least = scalbn(trace, -60);
  Candidate best{-1, 0};
  for (int j = warp; j < m; j += block_warps) {
    const double squares = sum_of_squares(h + j * Shape::ld, m, lane);
    const double diagonal = real_part_of(h[j * Shape::ld + j]);
    if (diagonal > least) best = better(best, {squares / diagonal, static_cast<double>(j)});
  }
  if (lane == 0) found[warp] = best;
  __syncthreads();
  best = found[0];
  for (int w = 1; w < block_warps; ++w) best = better(best, found[w]);
  return static_cast<int>(best.index);
}

template <bool is_complex, int side>
__global__ void __launch_bounds__(block_threads)
    small_squares_kernel(index_t batch, int m, Matrices g, double slack, int most,
                         SquareFigures* figures, int* squarings, double* quotient) {
  using Shape = small::Shape<is_complex, side, buffers>;
  using T = typename Shape::T;
  extern __shared__ __align__(16) unsigned char shared[];
  T* const given = reinterpret_cast<T*>(shared);
  T* h = given;
  T* next = given + Shape::entries;
  T* spare = next + Shape::entries;
  await_earlier_kernels();
  const index_t b = blockIdx.x;
  const T* const from = static_cast<const T*>(g.data) + b * g.stride;
  small::fetch<Shape>(from, g.ld, m, given);
  __syncthreads();

  Measured now{};
  int t = 0;
  for (;; ++t) {
    now = measure<Shape>(h, m);
    const bool plain = now.trace > 0 && isfinite(now.trace);
    const int e = plain ? ilogb(now.trace) + 1 : 0;
    if (threadIdx.x == 0)
      figures[t * batch + b] = {now.trace, now.squares, static_cast<double>(e), now.top};
    const double open = scalbn(now.trace / sqrt(now.squares) - 1, -t);
    if (!plain || t == most || open <= slack) break;
    small::product<Shape>(h, h, scalbn(1.0, -2 * e), [&](int row, int col, T v) {
      small::put_mirrored<Shape>(next, row, col, v);
    });
    __syncthreads();
    T* const written = next;
    next = t == 0 ? spare : h;
    h = written;
  }

  if (!quotient) return;

  // v: the column's conjugate lies in a row.
  const T* const row = h + best_column<Shape>(h, m, now.trace) * Shape::ld;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  double above = 0;
  double below = 0;
  for (int i = static_cast<int>(threadIdx.x) / 32; i < m; i += block_warps) {
    const double2 w = row_times_vector<true>(given + i * Shape::ld, row, m, lane);
    if (lane != 0) continue;
    const T v = conjugate_of(row[i]);
    above += real_of_product(v, w);
    below += squared(v);
  }
  __shared__ double above_sums[block_warps];
  __shared__ double below_sums[block_warps];
  above = block_sum<block_threads>(above, above_sums);
  below = block_sum<block_threads>(below, below_sums);
  if (threadIdx.x != 0) return;
  squarings[b] = t;
  quotient[2 * b] = above;
  quotient[2 * b + 1] = below;
}

template <bool is_complex, int side>
void start(const Queue& queue, index_t batch, index_t m, Matrices g, double slack, int most,
           SquareFigures* figures, int* squarings, double* quotient) {
  const auto kernel = small_squares_kernel<is_complex, side>;
  constexpr int bytes = small::Shape<is_complex, side, buffers>::shared_bytes;
  allow_shared_memory(reinterpret_cast<const void*>(kernel), queue.device, bytes);
  launch_after(queue, kernel, {grid_size(batch), block_threads, static_cast<unsigned>(bytes)},
               "launching squares of small matrices", batch, static_cast<int>(m), g, slack, most,
               figures, squarings, quotient);
}

template <bool is_complex>
int shared_bytes(index_t m) {
  return m <= 32 ? small::Shape<is_complex, 32, buffers>::shared_bytes
                 : small::Shape<is_complex, 64, buffers>::shared_bytes;
}

}  // namespace

bool fit_small_squares(int device, Storage storage, index_t m) {
  constexpr int others = 1024;  // what a block has besides, and what CUDA takes
  if (m > 64 || !in_float64(storage)) return false;
  const int wanted =
      storage == Storage::complex128 ? shared_bytes<true>(m) : shared_bytes<false>(m);
  return wanted + others <= most_shared_memory(device);
}

void small_squares(const Queue& queue, Storage storage, index_t batch, index_t m, Matrices g,
                   double slack, int most, SquareFigures* figures, int* squarings,
                   double* quotient) {
  const bool is_complex = storage == Storage::complex128;
  if (!in_float64(storage)) throw Error("small squares are computed in float64");
  const auto run = is_complex ? (m <= 32 ? start<true, 32> : start<true, 64>)
                              : (m <= 32 ? start<false, 32> : start<false, 64>);
  run(queue, batch, m, g, slack, most, figures, squarings, quotient);
}

}  // namespace gramian::cuda
