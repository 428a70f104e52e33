// One batch of matrices to another in any layout and type, scaled on the way.
#pragma once

#include <algorithm>

#include "dependent_launch.cuh"
#include "element.cuh"
#include "entrance.hpp"
#include "window.hpp"

namespace gramian::cuda {

// Numbers by their exponents. All factors are powers of two, and exponents are clamped in the same
// way wherever they come from, so that scaling the input by a power of two changes no bit.

__device__ inline unsigned long long magnitude_bits(double v) {
  return static_cast<unsigned long long>(__double_as_longlong(v)) & 0x7fffffffffffffffull;
}
inline constexpr unsigned long long infinity_bits = 0x7ff0000000000000ull;

/// e such that v lies in [2^(e-1), 2^e), clamped so that 2^e and 2^-e are both normal numbers.
__device__ inline int clamped_exponent(unsigned long long bits) {
  const int biased = static_cast<int>(bits >> 52);
  return (biased < 1 ? 1 : biased > 2044 ? 2044 : biased) - 1022;
}

/// 2^e, -1022 <= e <= 1023.
__device__ inline double power_of_two(int e) { return __hiloint2double((e + 1023) << 20, 0); }

/// sum 4^(from - to) for from <= to. What underflows here is nothing beside the sum it is added to.
__device__ inline double rescaled(double sum, int from, int to) {
  const double factor = power_of_two(from - to < -1022 ? -1022 : from - to);
  return sum * factor * factor;
}

/// Where a copy takes its scale from: parts as in Entrance, or none.
struct Scaling {
  const double* parts = nullptr;
  int count = 0;    // of pairs of doubles per matrix
  double root = 0;  // sqrt(m): scale by the norm; 0: by the largest entry
  int* exponent = nullptr;
  double* norm = nullptr;
};

inline constexpr int copy_threads = 256;

/// At most: one for each thread of the block that adds them up.
inline constexpr int max_parts = copy_threads;

/// 2^-exponent as two factors, of which the second is 1 unless the power has no normal number of
/// this type. Rounding happens once: in two steps both factors are so small that what the first
/// product rounds to a subnormal is 0 after the second.
template <class R>
struct Power {
  R first, second;

  __device__ explicit Power(int exponent) {
    constexpr int limit = sizeof(R) == 4 ? 126 : 1022;
    const int h = exponent >= -limit && exponent <= limit ? exponent : exponent / 2;
    first = factor(-h);
    second = factor(h - exponent);
  }

  template <class C>
  __device__ C operator()(C v) const {
    if constexpr (is_complex_number<C>)
      return C{v.x * first * second, v.y * first * second};
    else
      return v * first * second;
  }

 private:
  // Two halves cover every exponent that float or double input can have.
  __device__ static R factor(int e) { return static_cast<R>(power_of_two(e)); }
};

/// Scale of matrix b, for every thread of the block; the designated block writes the figures.
/// Called once per block, by all its threads.
template <class R>
__device__ Power<R> scale_of(const Scaling& s, index_t b, bool designated) {
  Power<R> power(0);
  if (!s.parts) return power;
  const double* const parts = s.parts + b * 2 * s.count;
  unsigned long long top;
  double sum;
  int relative;  // sum counts in units of 4^relative
  if (s.count == 1) {
    top = magnitude_bits(parts[0]);
    sum = parts[1];
    relative = clamped_exponent(top);
  } else {
    __shared__ unsigned long long tops[copy_threads / 32];
    __shared__ double sums[copy_threads / 32];
    const int t = static_cast<int>(threadIdx.x);
    const unsigned long long mine = t < s.count ? magnitude_bits(parts[2 * t]) : 0;
    const double my_sum = t < s.count ? parts[2 * t + 1] : 0.0;
    top = block_max<copy_threads>(mine, tops);
    relative = clamped_exponent(top);
    sum = block_sum<copy_threads>(rescaled(my_sum, clamped_exponent(mine), relative), sums);
  }
  int exponent = 0;
  double norm = 0;
  if (top >= infinity_bits) {
    norm = __longlong_as_double(0x7ff8000000000000ll);
    power.first = static_cast<R>(norm);
  } else if (top > 0) {
    if (s.root > 0) {
      // sum / root 4^relative lies in [2^(k-1), 2^k); 4^exponent is the first power of 4 from 2^k
      // on, so ||y||^2 in [root/4, root).
      int k;
      frexp(sum / s.root, &k);
      exponent = ((k + 2 * relative) + 1) >> 1;
    } else {
      frexp(__longlong_as_double(static_cast<long long>(top)), &exponent);
    }
    norm = sqrt(ldexp(sum, 2 * (relative - exponent)));
    power = Power<R>(exponent);
  }
  if (designated && threadIdx.x == 0) {
    s.exponent[b] = exponent;
    s.norm[b] = norm;
  }
  return power;
}

struct Copy {
  Window in, out;   // of the same rows and cols
  unsigned blocks;  // per matrix
  bool vector_in, vector_out;
  Scaling scaling;
};

template <class In, class Out>
struct CopyTypes {
  static constexpr bool is_complex = is_complex_number<In>;
  using Real = std::conditional_t<std::is_same_v<real_of_t<In>, double> ||
                                      std::is_same_v<real_of_t<Out>, double>,
                                  double, float>;
  using Compute =
      std::conditional_t<is_complex,
                         std::conditional_t<std::is_same_v<Real, double>, double2, float2>, Real>;
};

template <class T>
inline constexpr int vector_run = vector_bytes / static_cast<int>(sizeof(T));

/// Entries that copy_along moves together, and how many such runs a thread loads before it waits
/// for the first (64 bytes in flight). A run fills 16 bytes of the wider type, so that neighbouring
/// threads write without gaps, but never less than 8 of the narrower.
template <class In, class Out>
inline constexpr int along_run = std::max(vector_run<Out>, 8 / static_cast<int>(sizeof(In)));
template <class In, class Out>
inline constexpr int along_runs = 64 / (along_run<In, Out> * static_cast<int>(sizeof(In)));

/// Neighbours in a row lie close together in both layouts.
template <class In, class Out>
__global__ void __launch_bounds__(copy_threads) copy_along(const __grid_constant__ Copy c) {
  using Types = CopyTypes<In, Out>;
  constexpr int V = along_run<In, Out>;
  constexpr int U = along_runs<In, Out>;
  await_earlier_kernels();
  const index_t b = blockIdx.x / c.blocks;
  const unsigned block = blockIdx.x % c.blocks;
  const index_t rows = c.in.rows;
  const index_t cols = c.in.cols;
  const index_t per_row = (cols + V - 1) / V;
  const In* const in = static_cast<const In*>(c.in.data) + c.in.offset(b);
  Out* const out = static_cast<Out*>(c.out.data) + c.out.offset(b);

  In v[U][V];
  index_t row[U], col[U];
  int count[U];
#pragma unroll
  for (int u = 0; u < U; ++u) {
    const index_t run =
        (static_cast<index_t>(block) * U + u) * copy_threads + static_cast<index_t>(threadIdx.x);
    row[u] = divide(run, per_row);
    col[u] = (run - row[u] * per_row) * V;
    count[u] = row[u] < rows ? inside(col[u], cols, V) : 0;
    load_run(in + row[u] * c.in.row_stride + col[u] * c.in.col_stride, c.in.col_stride, count[u],
             c.vector_in, v[u]);
  }
  const Power<typename Types::Real> scale =
      scale_of<typename Types::Real>(c.scaling, b, block == 0);
#pragma unroll
  for (int u = 0; u < U; ++u) {
    Out w[V];
#pragma unroll
    for (int k = 0; k < V; ++k)
      w[k] = convert<Out>(scale(convert<typename Types::Compute>(v[u][k])));
    store_run(out + row[u] * c.out.row_stride + col[u] * c.out.col_stride, c.out.col_stride,
              count[u], c.vector_out, w);
  }
}

/// Neighbours in a column lie close together in `in`, those in a row in `out`: through a tile in
/// shared memory, read by columns and written by rows.
template <class In, class Out>
__global__ void __launch_bounds__(copy_threads) copy_across(const __grid_constant__ Copy c) {
  using Types = CopyTypes<In, Out>;
  using Word = wide_t<In>;
  constexpr int T = tile_side<Word>;
  constexpr int VI = vector_run<In>;
  constexpr int VO = vector_run<Out>;
  __shared__ Word tile[T][T + 1];
  await_earlier_kernels();
  const index_t b = blockIdx.x / c.blocks;
  const unsigned block = blockIdx.x % c.blocks;
  const index_t rows = c.in.rows;
  const index_t cols = c.in.cols;
  const unsigned tiles_per_row = static_cast<unsigned>((cols + T - 1) / T);
  const index_t i0 = static_cast<index_t>(block / tiles_per_row) * T;
  const index_t j0 = static_cast<index_t>(block % tiles_per_row) * T;
  const In* const in = static_cast<const In*>(c.in.data) + c.in.offset(b);
  Out* const out = static_cast<Out*>(c.out.data) + c.out.offset(b);

  TileSteps<T, VI, copy_threads> load;
  In v[load.each][VI];
#pragma unroll
  for (int s = 0; s < load.each; ++s) {
    if (!load.go(s)) continue;
    // The tile's row is a column of the matrix here: a run goes down it.
    const index_t i = i0 + load.col;
    const index_t j = j0 + load.row;
    load_run(in + i * c.in.row_stride + j * c.in.col_stride, c.in.row_stride,
             j < cols ? inside(i, rows, VI) : 0, c.vector_in, v[s]);
  }
#pragma unroll
  for (int s = 0; s < load.each; ++s) {
    if (!load.go(s)) continue;
#pragma unroll
    for (int k = 0; k < VI; ++k) tile[load.col + k][load.row] = convert<Word>(v[s][k]);
  }
  const Power<typename Types::Real> scale =
      scale_of<typename Types::Real>(c.scaling, b, block == 0);
  __syncthreads();
  TileSteps<T, VO, copy_threads> store;
#pragma unroll
  for (int s = 0; s < store.each; ++s) {
    if (!store.go(s)) continue;
    const index_t i = i0 + store.row;
    const index_t j = j0 + store.col;
    Out w[VO];
#pragma unroll
    for (int k = 0; k < VO; ++k)
      w[k] = convert<Out>(scale(convert<typename Types::Compute>(tile[store.row][store.col + k])));
    store_run(out + i * c.out.row_stride + j * c.out.col_stride, c.out.col_stride,
              i < rows ? inside(j, cols, VO) : 0, c.vector_out, w);
  }
}

/// out <- scale in, for matrices of the same sizes.
template <class In, class Out>
void copy(const Queue& queue, Window in, Window out, const Scaling& scaling) {
  if (out.row_reach() < out.col_reach()) {
    in.transpose();
    out.transpose();
  }
  Copy c{in, out, 0, false, out.rows_aligned(sizeof(Out), vector_bytes), scaling};
  const bool along = in.col_reach() <= in.row_reach();
  index_t blocks;
  if (along) {
    constexpr index_t each =
        static_cast<index_t>(copy_threads) * along_run<In, Out> * along_runs<In, Out>;
    c.vector_in = in.rows_aligned(sizeof(In), vector_bytes);
    blocks = ceil_div(in.rows * ceil_div(in.cols, along_run<In, Out>) * along_run<In, Out>, each);
  } else {
    constexpr index_t side = tile_side<wide_t<In>>;
    Window columns = in;
    columns.transpose();
    c.vector_in = columns.rows_aligned(sizeof(In), vector_bytes);
    blocks = ceil_div(in.rows, side) * ceil_div(in.cols, side);
  }
  const unsigned grid = grid_size(blocks * out.batch());
  c.blocks = static_cast<unsigned>(blocks);
  launch_after(queue, along ? copy_along<In, Out> : copy_across<In, Out>, grid, copy_threads,
               "launch of a copy", c);
}

}  // namespace gramian::cuda
