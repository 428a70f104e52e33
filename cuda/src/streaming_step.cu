#include "streaming_step.hpp"

#include <algorithm>

#include "dependent_launch.cuh"
#include "element.cuh"
#include "gramian/rounding.hpp"

namespace gramian::cuda {

namespace {

constexpr int threads = 256;
using Figure = StreamLayout;
constexpr int rates = static_cast<int>(StreamLayout::oja_rates);
constexpr int figure_count = static_cast<int>(StreamLayout::oja_figure_count);

__device__ double larger(double a, double b) { return b <= a ? a : b; }  // NaN if b is

__global__ void __launch_bounds__(threads)
    parts_kernel(index_t count, index_t groups, const double* parts, const double* figures,
                 double decay, double* gathered, double* totals) {
  await_earlier_kernels();
  __shared__ double shared_past;
  if (threadIdx.x < 32) {
    double squares = 0;
    double largest = 0;
    double present = 0;
    for (index_t g = threadIdx.x; g < groups; g += 32) {
      squares += figures[3 * g];
      largest = larger(largest, figures[3 * g + 1]);
      present += figures[3 * g + 2];
    }
    squares = warp_sum(squares);
    present = warp_sum(present);
#pragma unroll
    for (int d = 16; d > 0; d /= 2)
      largest = larger(largest, __shfl_xor_sync(0xffffffffu, largest, d));
    if (threadIdx.x == 0) {
      const double past = decay == 1 ? 1.0 : pow(decay, present);
      shared_past = past;
      if (blockIdx.x == 0) {
        using Total = StreamLayout::Total;
        totals[Total::squares] = past * totals[Total::squares] + squares;
        totals[Total::block_squares] = past * totals[Total::block_squares] + squares;
        totals[Total::largest] = larger(totals[Total::largest], largest);
        totals[Total::rows] += present;
        totals[Total::block_rows] += present;
      }
    }
  }
  __syncthreads();
  const index_t at = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x;
  if (at >= count) return;
  double sum = 0;
#pragma unroll 8
  for (index_t g = 0; g < groups; ++g) sum += parts[g * count + at];
  gathered[at] = fma(shared_past, gathered[at], sum);
}

// Columns of the vectors that a block has in shared memory at a time.
constexpr int strip = 32;

/// The live vectors and their products, one below the other.
__device__ void load_strip(const double* vectors, const double* gathered, int live,
                           index_t features, index_t first, double* to) {
  for (int e = static_cast<int>(threadIdx.x); e < 2 * live * strip; e += threads) {
    const int i = e / strip;
    const index_t j = first + e % strip;
    const double* from = i < live ? vectors + i * features : gathered + (i - live) * features;
    to[i * (strip + 1) + e % strip] = j < features ? from[j] : 0;
  }
}

/// Inner products of the live vectors w and of the products W with each other, in parts.
__global__ void __launch_bounds__(threads)
    gram_kernel(const double* vectors, const double* gathered, int live, index_t features,
                double* parts) {
  await_earlier_kernels();
  extern __shared__ double rows[];
  const int side = 2 * live;
  double* mine = parts + static_cast<index_t>(blockIdx.x) * side * side;
  bool begun = false;
  for (index_t first = static_cast<index_t>(blockIdx.x) * strip; first < features || !begun;
       first += static_cast<index_t>(gridDim.x) * strip) {
    __syncthreads();
    load_strip(vectors, gathered, live, features, first, rows);
    __syncthreads();
    for (int p = static_cast<int>(threadIdx.x); p < side * side; p += threads) {
      const double* a = rows + p / side * (strip + 1);
      const double* b = rows + p % side * (strip + 1);
      double sum = 0;
      for (int j = 0; j < strip; ++j) sum = fma(a[j], b[j], sum);
      mine[p] = begun ? mine[p] + sum : sum;
    }
    begun = true;
  }
}

__device__ void sum_gram(int side, const double* parts, double* gram) {
  for (int p = static_cast<int>(threadIdx.x); p < side * side; p += threads) {
    double sum = 0;
#pragma unroll 8
    for (index_t k = 0; k < gram_parts_count; ++k) sum += parts[k * side * side + p];
    gram[p] = sum;
  }
  __syncthreads();
}

/// The rates of Oja's method: which vectors they go on from, and with which factors.
struct Rates {
  double figures[rates][figure_count];
  int source[rates];
  double of_vector[rates];
  double of_product[rates];

  /// Leaves out the largest rate and begins one half the smallest, where that one's vector is, of
  /// norm `norm`.
  __device__ void next(double norm, double start, double rows, double squares) {
    for (int l = 0; l + 1 < rates; ++l) {
      for (int f = 0; f < figure_count; ++f) figures[l][f] = figures[l + 1][f];
      source[l] = source[l + 1];
      of_vector[l] = of_vector[l + 1];
      of_product[l] = of_product[l + 1];
    }
    constexpr int last = rates - 1;
    double* f = figures[last];
    f[Figure::rate] /= 2;
    f[Figure::norm] = 1;
    f[Figure::start] = start;
    f[Figure::linear_error] = f[Figure::square_error] = f[Figure::exponent] = 0;
    f[Figure::rows_before] = rows;
    f[Figure::squares_before] = squares;
    of_vector[last] /= norm;
    of_product[last] /= norm;
  }
};

__global__ void __launch_bounds__(threads)
    oja_kernel(const double* gram_parts, double* gram, double* figures, double* totals,
               double* coefficients, double features, double roundings, bool grid) {
  await_earlier_kernels();
  constexpr int side = 2 * rates;
  __shared__ Rates r;
  sum_gram(side, gram_parts, gram);
  for (int e = static_cast<int>(threadIdx.x); e < rates * figure_count; e += threads)
    r.figures[e / figure_count][e % figure_count] = figures[e];
  for (int e = static_cast<int>(threadIdx.x); e < side * rates; e += threads) coefficients[e] = 0;
  if (threadIdx.x < rates) {
    r.source[threadIdx.x] = static_cast<int>(threadIdx.x);
    r.of_vector[threadIdx.x] = 1;
    r.of_product[threadIdx.x] = 0;
  }
  __syncthreads();
  using rounding::u;
  const auto error_of = [](double count) { return 1.01 * u * count; };
  // Norms come from sums of `features` products and from what the step adds; see the documentation.
  const double start = 1 + 4 * error_of(features + 64);
  const double block_squares = totals[StreamLayout::block_squares];
  if (threadIdx.x == 0) {
    const double largest = totals[StreamLayout::largest];
    double& rate = r.figures[0][Figure::rate];
    if (!grid) {
      if (rate * largest > 1) rate = 0;
    } else if (rate == 0) {
      // Below, a rate would be infinite, and so would its half.
      if (!(largest <= 0x1p-1000))
        for (int l = 0; l < rates; ++l)
          r.figures[l][Figure::rate] =
              largest <= 1.7e308 ? ldexp(1.0, -ilogb(largest) - 1 - l) : largest - largest;
    } else {
      const double rows = totals[StreamLayout::rows] - totals[StreamLayout::block_rows];
      const double squares = totals[StreamLayout::squares] - block_squares;
      while (rate * largest > 1) {
        const int s = r.source[rates - 1];
        r.next(r.of_vector[rates - 1] * sqrt(gram[s * side + s]), start, rows, squares);
      }
    }
  }
  __syncthreads();
  const int l = static_cast<int>(threadIdx.x);
  if (l < rates && r.figures[l][Figure::rate] != 0) {
    double* f = r.figures[l];
    const double eta = f[Figure::rate];
    const double scale = r.of_vector[l];
    const int s = r.source[l];
    const double norm2 = scale * scale * gram[s * side + s];
    const double energy = scale * scale * gram[s * side + rates + s];
    const double square = scale * scale * gram[(rates + s) * side + rates + s];
    const double norm = sqrt(norm2);
    double next = sqrt(norm2 + 2 * eta * larger(0, energy) + eta * eta * square);
    const double error = 1.01 * (eta * error_of(features + roundings + 16) * block_squares * norm +
                                 8 * u * (norm + eta * sqrt(square)));
    f[Figure::linear_error] += error;
    f[Figure::square_error] += 4 * error * (1.01 * next + error);
    f[Figure::energy] += energy / norm2;
    double unit = 1;
    if (next > 0x1p40) {
      // Exact factors keep norms below 2^40 at the ends of blocks.
      const int shift = ilogb(next);
      unit = ldexp(1.0, -shift);
      next *= unit;
      f[Figure::start] = larger(1e-300, f[Figure::start] * unit);
      f[Figure::linear_error] *= unit;
      f[Figure::square_error] *= unit * unit;
      f[Figure::exponent] += shift;
    }
    f[Figure::norm] = next;
    r.of_vector[l] = scale * unit;
    r.of_product[l] = eta * scale * unit;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    const double* f = r.figures[rates - 1];
    const double growth = log(f[Figure::norm]) + f[Figure::exponent] * log(2.0);
    if (grid && f[Figure::rate] != 0 && growth > 1)
      r.next(f[Figure::norm], start, totals[StreamLayout::rows], totals[StreamLayout::squares]);
    totals[StreamLayout::block_squares] = totals[StreamLayout::block_rows] = 0;
  }
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < rates * figure_count; e += threads)
    figures[e] = r.figures[e / figure_count][e % figure_count];
  if (l < rates) {
    coefficients[r.source[l] * rates + l] = r.of_vector[l];
    coefficients[(rates + r.source[l]) * rates + l] = r.of_product[l];
  }
}

/// AdaOja: Q <- orth(Q + G / b) by Cholesky QR, from inner products of Q and G alone. The shift
/// keeps pivots positive; Q is orthonormal as far as that and rounding allow, and a reading makes
/// it so.
__global__ void __launch_bounds__(threads)
    adaoja_kernel(const double* gram_parts, double* gram, double* figures, double* totals,
                  double* coefficients, int live, double decay) {
  await_earlier_kernels();
  constexpr int most = static_cast<int>(StreamLayout::most_live);
  __shared__ double lower[most][most + 1];
  __shared__ double inverse_step[most];
  __shared__ double scale[most];
  const int side = 2 * live;
  const int me = static_cast<int>(threadIdx.x);
  sum_gram(side, gram_parts, gram);
  if (me < live) {
    const double block_rows = totals[StreamLayout::block_rows];
    const double past = decay == 1 ? 1.0 : pow(decay, block_rows);
    double& sum = figures[StreamLayout::squared_steps * live + me];
    double& value = figures[StreamLayout::values * live + me];
    sum = past * sum + gram[(live + me) * side + live + me];
    value = past * value + larger(0, gram[me * side + live + me]);
    inverse_step[me] = sum == 0 ? 0 : 1 / sqrt(sum);
  }
  __syncthreads();
  const auto moved = [&](int i, int j) {
    const double cross =
        inverse_step[j] * gram[i * side + live + j] + inverse_step[i] * gram[j * side + live + i];
    return gram[i * side + j] + cross +
           inverse_step[i] * inverse_step[j] * gram[(live + i) * side + live + j];
  };
  if (me < live) {
    const double square = moved(me, me);
    scale[me] = square == 0 ? 1 : 1 / sqrt(square);
  }
  __syncthreads();
  const double shift = 1e-15 * live;
  for (int e = me; e < live * live; e += threads) {
    const int i = e / live;
    const int j = e % live;
    lower[i][j] = moved(i, j) * scale[i] * scale[j] + (i == j ? shift : 0);
  }
  __syncthreads();
  for (int c = 0; c < live; ++c) {
    if (me == 0) lower[c][c] = sqrt(larger(shift, lower[c][c]));
    __syncthreads();
    for (int i = c + 1 + me; i < live; i += threads) lower[i][c] /= lower[c][c];
    __syncthreads();
    const int rest = live - c - 1;
    for (int e = me; e < rest * rest; e += threads) {
      const int i = c + 1 + e / rest;
      const int j = c + 1 + e % rest;
      if (j <= i) lower[i][j] -= lower[i][c] * lower[j][c];
    }
    __syncthreads();
  }
  // Row c of the coefficients is column c of the inverse, times that vector's scale.
  for (int c = me; c < live; c += threads) {
    double* mine = coefficients + c * live;
    for (int j = 0; j < live; ++j) {
      double sum = j == c ? 1 : 0;
      for (int m = c; m < j; ++m) sum -= lower[j][m] * mine[m];
      mine[j] = j < c ? 0 : sum / lower[j][j];
    }
    for (int j = 0; j < live; ++j) {
      mine[j] *= scale[c];
      coefficients[(live + c) * live + j] = inverse_step[c] * mine[j];
    }
  }
  if (me == 0) totals[StreamLayout::block_squares] = totals[StreamLayout::block_rows] = 0;
}

/// Live vectors <- their combinations with the products, which are zero then.
__global__ void __launch_bounds__(threads)
    combine_kernel(double* vectors, double* gathered, int live, index_t features,
                   const double* coefficients) {
  await_earlier_kernels();
  extern __shared__ double rows[];
  const index_t first = static_cast<index_t>(blockIdx.x) * strip;
  load_strip(vectors, gathered, live, features, first, rows);
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < live * strip; e += threads) {
    const int l = e / strip;
    const index_t j = first + e % strip;
    if (j >= features) continue;
    double sum = 0;
    for (int i = 0; i < 2 * live; ++i) {
      const double c = coefficients[i * live + l];
      if (c != 0) sum = fma(c, rows[i * (strip + 1) + e % strip], sum);
    }
    vectors[l * features + j] = sum;
    gathered[l * features + j] = 0;
  }
}

}  // namespace

void add_parts(const Queue& queue, const StreamLayout& layout, const StreamState& state,
               index_t groups, const double* parts, const double* figures) {
  const index_t count = layout.columns() * layout.features;
  launch_after(queue, parts_kernel, grid_size(ceil_div(count, threads)), unsigned{threads},
               "launching a sum", count, groups, parts, figures, layout.decay, state.gathered,
               state.totals);
}

void take_step(const Queue& queue, const StreamLayout& layout, const StreamState& state,
               double roundings, const StepRoom& room) {
  const int live = static_cast<int>(layout.live);
  const auto bytes = static_cast<unsigned>(2 * live * (strip + 1)) * unsigned{sizeof(double)};
  static_assert(2 * StreamLayout::most_live * (strip + 1) * sizeof(double) <= 48 * 1024);
  launch_after(queue, gram_kernel,
               {static_cast<unsigned>(gram_parts_count), unsigned{threads}, bytes},
               "launching inner products", state.vectors, state.gathered, live, layout.features,
               room.gram_parts);
  if (layout.step == StreamStep::adaoja)
    launch_after(queue, adaoja_kernel, 1u, unsigned{threads}, "launching a step", room.gram_parts,
                 room.gram, state.figures, state.totals, room.coefficients, live, layout.decay);
  else
    launch_after(queue, oja_kernel, 1u, unsigned{threads}, "launching a step", room.gram_parts,
                 room.gram, state.figures, state.totals, room.coefficients,
                 static_cast<double>(layout.features), roundings,
                 layout.step == StreamStep::oja_grid);
  launch_after(queue, combine_kernel,
               {grid_size(ceil_div(layout.features, strip)), unsigned{threads}, bytes},
               "launching a combination", state.vectors, state.gathered, live, layout.features,
               room.coefficients);
}

}  // namespace gramian::cuda
