#include "dependent_launch.cuh"
#include "element.cuh"
#include "gramian/rounding.hpp"
#include "streaming_sketch.hpp"

namespace gramian::cuda {

namespace {

using Figure = SketchLayout;
using rounding::u;

/// Covers the rounding of the few operations before, one of them pow.
__device__ double raised(double v) { return fma(32 * u, fabs(v), v); }

// ---- Rows in ------------------------------------------------------------------------------------

constexpr int most = static_cast<int>(SketchLayout::most_held);
constexpr int prepare_threads = 160;
static_assert(prepare_threads >= most);

/// By what rows are multiplied, the new ones and those held, and what decays with them.
__global__ void __launch_bounds__(prepare_threads) prepare_kernel(SketchRows a, SketchState state) {
  __shared__ double weight[most];
  await_earlier_kernels();
  const int i = static_cast<int>(threadIdx.x);
  const int rows = static_cast<int>(a.rows);
  if (i < rows) weight[i] = a.weights ? a.weights[i] : 1.0;
  __syncthreads();
  int present = 0;
  int after = 0;
  for (int j = 0; j < rows; ++j) {
    const int counts = weight[j] == 0 ? 0 : 1;
    present += counts;
    after += j > i ? counts : 0;
  }
  const bool decays = a.decay != 1;
  if (i < rows) a.coefficients[i] = sqrt(weight[i]) * (decays ? pow(a.decay, 0.5 * after) : 1.0);
  if (i < a.filled) {
    if (decays) state.factors[i] *= pow(a.decay, 0.5 * present);
  } else if (i < a.filled + a.rows) {
    state.factors[i] = 1;
  }
  if (i == 0) {
    double* const f = state.totals;
    f[Figure::rows] += present;
    if (decays) {
      const double past = pow(a.decay, static_cast<double>(present));
      f[Figure::lost] *= past;
      for (const index_t bound : {Figure::delta, Figure::rounding}) {
        const double v = raised(f[bound] * past);
        if (f[bound] > 0) f[bound] = v < 0x1p-1000 ? 0x1p-1000 : v;
      }
    }
  }
}

constexpr int append_threads = 128;
constexpr int append_rows_each = 8;

/// A column of eight rows to a thread, which writes them side by side.
template <class T>
__global__ void __launch_bounds__(append_threads)
    append_kernel(SketchRows a, double* held, index_t column_blocks) {
  await_earlier_kernels();
  const index_t group = divide(blockIdx.x, column_blocks);
  const index_t j = (static_cast<index_t>(blockIdx.x) - group * column_blocks) * append_threads +
                    static_cast<int>(threadIdx.x);
  if (j >= a.features) return;
  const index_t first = group * append_rows_each;
  const int count = inside(first, a.rows, append_rows_each);
  const T* const from = static_cast<const T*>(a.x) + first * a.row_stride + j * a.col_stride;
  T v[append_rows_each];
  load_run<append_rows_each>(from, a.row_stride, count, false, v);
  double* const to = held + j * a.held + a.filled + first;
#pragma unroll
  for (int k = 0; k < append_rows_each; ++k)
    if (k < count) to[k] = a.coefficients[first + k] * convert<double>(v[k]);
}

template <class T>
void launch_append(const Queue& queue, const SketchRows& rows, const SketchState& state) {
  const index_t across = ceil_div(rows.features, append_threads);
  launch_after(queue, append_kernel<T>, grid_size(across * ceil_div(rows.rows, append_rows_each)),
               unsigned{append_threads}, "launching new rows of a sketch", rows, state.held,
               across);
}

// ---- Shrinking ----------------------------------------------------------------------------------

constexpr int threads = 256;
constexpr int plan_threads = 512;

// Of the trace. Eigenvectors stay, and the factor of a matrix without full rank has its pivots.
constexpr double shift_part = 0x1p-24;

// In units of a power of two near the trace: squares of what is in K are numbers then.
enum Note { trace_note, shift_note, unit_note };

__global__ void __launch_bounds__(threads)
    scale_kernel(int m, const double* gram, const double* factors, double* scaled, double* shifted,
                 double* notes, SmallFigures* small) {
  __shared__ double shared_trace;
  await_earlier_kernels();
  if (threadIdx.x < 32) {
    double sum = 0;
    for (int i = static_cast<int>(threadIdx.x); i < m; i += 32)
      sum += factors[i] * factors[i] * gram[i * m + i];
    sum = warp_sum(sum);
    if (threadIdx.x == 0) shared_trace = sum;
  }
  __syncthreads();
  double trace = shared_trace;
  double unit = 1;  // also for what is no number
  if (trace < 1.7e308) unit = trace > 0x1p-1000 ? ldexp(1.0, ilogb(trace)) : 0x1p-1000;
  const double inverse = 1 / unit;
  trace *= inverse;
  const double shift = trace > 0 ? shift_part * trace : 1.0;
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    notes[trace_note] = trace;
    notes[shift_note] = shift;
    notes[unit_note] = unit;
    small->failed = small->shifted = small->sweeps = 0;
  }
  const int at = static_cast<int>(blockIdx.x) * threads + static_cast<int>(threadIdx.x);
  if (at >= m * m) return;
  const int i = at / m;
  const int j = at - i * m;
  const double v = factors[i] * factors[j] * (gram[at] * inverse);
  scaled[at] = v;
  shifted[at] = i == j ? v + shift : v;
}

/// Sums over the block, in every thread.
template <int count>
__device__ void block_sums(double (&v)[count]) {
  __shared__ double shared[plan_threads / 32][count];
#pragma unroll
  for (int k = 0; k < count; ++k) v[k] = warp_sum(v[k]);
  if (threadIdx.x % 32 == 0)
    for (int k = 0; k < count; ++k) shared[threadIdx.x / 32][k] = v[k];
  __syncthreads();
  for (int k = 0; k < count; ++k) {
    v[k] = 0;
    for (int w = 0; w < plan_threads / 32; ++w) v[k] += shared[w][k];
  }
}

struct PlanArguments {
  int m, size;
  double features;
  double row_error;  // what rounding may have done to the rows held, of their squares
  ShrinkRoom room;
  SketchState state;
};

/// The proof, as in docs/streaming_frequent_directions.md: nothing is assumed of U and the values.
__global__ void __launch_bounds__(plan_threads)
    plan_kernel(const __grid_constant__ PlanArguments a) {
  __shared__ double values[most];
  __shared__ double shared_taken;
  __shared__ bool shared_found;
  await_earlier_kernels();
  const int thread = static_cast<int>(threadIdx.x);
  const int m = a.m;
  const ShrinkRoom& r = a.room;
  const double trace = r.notes[trace_note];
  const double shift = r.notes[shift_note];
  for (int j = thread; j < m; j += plan_threads) {
    const double v = r.values[j] - shift;
    values[j] = v > 0 ? v : 0;
  }
  __syncthreads();
  enum { off, k_squares, left, u_squares, sums_count };
  double sums[sums_count] = {};
  for (int at = thread; at < m * m; at += plan_threads) {
    const int i = at / m;
    const int j = at - i * m;
    const double vector = r.vectors[at];
    const double inner = r.inner[at] - (i == j ? 1.0 : 0.0);
    const double residual = r.image[at] - vector * values[j];
    const double k = r.scaled[at];
    sums[off] = fma(inner, inner, sums[off]);
    sums[k_squares] = fma(k, k, sums[k_squares]);
    sums[left] = fma(residual, residual, sums[left]);
    sums[u_squares] = fma(vector, vector, sums[u_squares]);
  }
  block_sums(sums);
  if (thread == 0) {
    constexpr double up = 1 + 1e-11;  // sums of up to 144^2 squares
    const auto g = [](double roundings) { return 1.01 * u * roundings; };
    double* const f = a.state.totals;
    const double tau = 1.0001 * trace;
    const double u_norm = up * sqrt(sums[u_squares]);
    const double eta = up * sqrt(sums[off]) + g(m + 24) * u_norm * u_norm;
    const double k_norm = up * sqrt(sums[k_squares]);
    const double kappa = values[0] > k_norm ? values[0] : k_norm;
    const double q = up * sqrt(sums[left]) + g(m + 32) * 2 * kappa * u_norm;
    const double error = g(a.features + 64) * tau + q + 2 * eta * kappa;
    const bool found = r.small->failed == 0 && eta < 0.01 && error < 1e300;  // false for NaN
    double delta = 0;
    double rounded = a.row_error * tau;
    double lost = 0;
    double taken = 0;
    if (found) {
      taken = values[a.size];
      delta = taken + 5 * u * (kappa + error) + error;
      const double p = g(m + 32) * sqrt(static_cast<double>(a.size)) * 1.01 * sqrt(tau);
      rounded += 2.1 * eta * (kappa + error) + 2.02 * sqrt(kappa + error) * p + p * p;
      lost = trace;
      for (int i = 0; i < a.size; ++i) lost -= values[i] > taken ? values[i] - taken : 0;
      if (lost < 0) lost = 0;
    } else {
      // No eigenvectors: the first rows stay, and no direction loses more than all others have.
      for (int j = a.size; j < m; ++j) lost += r.scaled[j * m + j];
      delta = 1.001 * lost;
      f[Figure::dropped] += 1;
    }
    const double unit = r.notes[unit_note];
    f[Figure::delta] = raised(f[Figure::delta] + unit * delta);
    // 1e-290 is for what was too small to be a number.
    f[Figure::rounding] = raised(f[Figure::rounding] + unit * rounded + 1e-290);
    f[Figure::lost] += unit * lost;
    shared_taken = taken;
    shared_found = found;
  }
  __syncthreads();
  const double taken = shared_taken;
  for (int at = thread; at < m * a.size; at += plan_threads) {
    const int j = at / a.size;
    const int i = at - j * a.size;
    double v = i == j ? 1.0 : 0.0;
    if (shared_found) {
      const double value = values[i];
      v = value > taken ? r.vectors[j * m + i] * sqrt((value - taken) / value) : 0.0;
    }
    r.weights[at] = a.state.factors[j] * v;
  }
}

__global__ void __launch_bounds__(threads)
    keep_kernel(int m, int size, index_t features, const double* made, double* held,
                double* factors) {
  await_earlier_kernels();
  const index_t at = static_cast<index_t>(blockIdx.x) * threads + static_cast<int>(threadIdx.x);
  if (at < m) factors[at] = 1;
  if (at >= features * m) return;
  const index_t j = divide(at, m);
  const int i = static_cast<int>(at - j * m);
  held[at] = i < size ? made[j * size + i] : 0.0;
}

}  // namespace

void append_rows(const Queue& queue, const SketchRows& rows, const SketchState& state) {
  launch_after(queue, prepare_kernel, 1u, unsigned{prepare_threads},
               "launching the weights of a sketch", rows, state);
  switch (rows.dtype) {
    case DType::float16:
      return launch_append<__half>(queue, rows, state);
    case DType::bfloat16:
      return launch_append<__nv_bfloat16>(queue, rows, state);
    case DType::float32:
      return launch_append<float>(queue, rows, state);
    default:
      return launch_append<double>(queue, rows, state);
  }
}

void scale_gram(const Queue& queue, const SketchLayout& layout, const SketchState& state,
                const ShrinkRoom& room) {
  const int m = static_cast<int>(layout.held());
  launch_after(queue, scale_kernel, grid_size(ceil_div(m * m, threads)), unsigned{threads},
               "launching a scaled Gram matrix", m, room.gram, state.factors, room.scaled,
               room.shifted, room.notes, room.small);
}

void plan_shrink(const Queue& queue, const SketchLayout& layout, const SketchState& state,
                 const ShrinkRoom& room) {
  const int m = static_cast<int>(layout.held());
  // Weighting rounds a few times; decays, of which there are m at most, five times each.
  const double row_error = (32 + (layout.decayed ? 13 * m : 0)) * u;
  const PlanArguments arguments{
      m,    static_cast<int>(layout.size), static_cast<double>(layout.features), row_error, room,
      state};
  launch_after(queue, plan_kernel, 1u, unsigned{plan_threads}, "launching the plan of a sketch",
               arguments);
}

void keep_made(const Queue& queue, const SketchLayout& layout, const SketchState& state,
               const ShrinkRoom& room) {
  const int m = static_cast<int>(layout.held());
  launch_after(queue, keep_kernel, grid_size(ceil_div(layout.features * m, threads)),
               unsigned{threads}, "launching the rows of a sketch", m,
               static_cast<int>(layout.size), layout.features, room.made, state.held,
               state.factors);
}

}  // namespace gramian::cuda
