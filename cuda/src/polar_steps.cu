#include "polar_steps.hpp"

#include <algorithm>
#include <cmath>

#include "dependent_launch.cuh"
#include "gramian/coefficients.hpp"
#include "polar_common.cuh"

namespace gramian::cuda {

namespace {

constexpr int threads = 512;

/// Rows are for singular values a little below the bound: at its very end the composed map has a
/// slope near 20, so that what rounding puts above it would grow by as much each time.
constexpr double room_above = 1.0 + 1.0 / 256;

/// sqrt(2/3), the unstable fixed point of sharpening.
constexpr double threshold = 0.81649658092772603;

/// After so many rows of sharpening in vain, one moves what lies at the threshold.
constexpr int nudge_after = 6;

struct Odd {
  double a, b, c;
  __device__ double operator()(double x) const {
    const double z = x * x;
    return x * (a + z * (b + z * c));
  }
  __device__ Odd divided_by(double s) const {
    const double s2 = s * s;
    return {a / s, b / s2 / s, c / s2 / s2 / s};
  }
};

/// The odd quintics with f(1) = 1, f'(1) = 0: increasing on [0, 1] for a from 0 to 15/8, the
/// last of which is Taylor's; 3/2 is the cubic one.
__device__ Odd tangent_row(double a) { return {a, (5 - 4 * a) / 2, (2 * a - 3) / 2}; }

/// Takes `low` / `upper` and what is above it near to 1; leaves the new interval in both.
__device__ Odd minimax_row(const PolarTable& table, double& low, double& upper) {
  double q = low / upper;
  if (q < 0.5) {
    upper *= room_above;
    q = low / upper;
  }
  int k = static_cast<int>(ceil(-4.0 * log2(q)));
  k = k < 0 ? 0 : k;
  Odd row;
  const double divisor = upper;
  if (k >= PolarTable::rows - 1) {
    constexpr int end = PolarTable::rows - 1;
    row = {table.a[end], table.b[end], table.c[end]};
    const double image = row(q);
    // Balanced about 1 again.
    const double factor = 2 / (image + 1 + table.error[end]);
    row = {factor * row.a, factor * row.b, factor * row.c};
    low = factor * fmin(image, 1 - table.error[end]);
    upper = factor * (1 + table.error[end]);
  } else {
    row = {table.a[k], table.b[k], table.c[k]};
    low = 1 - table.error[k];
    upper = 1 + table.error[k];
  }
  return row.divided_by(divisor);
}

/// The next row of a matrix that is not done. e: ||I - G||_F.
__device__ Odd next_row(PolarState& s, const PolarAim& aim, const PolarTable& table, double e) {
  const double m = static_cast<double>(aim.m);
  ++s.steps;
  // After a row of sharpening, all within 0.3 of 1 are above the threshold.
  if (e <= (s.sharpening ? 0.3 : 0.5) && (s.sharpening || s.cut < 0.75)) {
    s.sharpening = 0;
    s.cut = 0;
    s.best = e;
    return tangent_row(0.75 * e * e <= aim.aim / 4 ? 1.5 : 1.875);
  }
  if (s.sharpening) return tangent_row(++s.sharpened % (nudge_after + 1) == 0 ? 0.1 : 0.0);
  const double q = s.cut / s.upper;
  if (q < 0.12) {
    // A guess is spent when all above it must have arrived, and yet some have not.
    while (s.at + 1 < s.guesses) {
      const double low = fmin(s.guess[s.at], 1.0);
      if (sqrt(m) * fmax(1 - low * low, s.upper * s.upper - 1) >= 0.4) break;
      ++s.at;
    }
    double low = s.guess[s.at];
    const Odd row = minimax_row(table, low, s.upper);
    for (int i = 0; i < s.guesses; ++i) s.guess[i] = fmin(row(s.guess[i]), low);
    s.guess[s.at] = low;
    s.cut = fmin(row(s.cut), low);
    return row;
  }
  double a = 1.875;
  if (q >= 0.53) {
    // f(q) = 5/2 q^3 - 3/2 q^5 + a q (1 - q^2)^2 at the threshold.
    const double z = q * q;
    a = (threshold - q * z * (2.5 - 1.5 * z)) / (q * (1 - z) * (1 - z));
    a = fmin(fmax(a, -0.5), 1.875);
    s.sharpening = 1;
  }
  const Odd row = tangent_row(a).divided_by(s.upper);
  s.cut = row(s.cut);
  s.upper = 1;
  return row;
}

__device__ void finish(const PolarMemory& memory, index_t b, PolarStatus status) {
  memory.states[b].status = status;
  memory.done[b] = 1;
  memory.calm[b] = 1;
}

template <class T>
__global__ void __launch_bounds__(threads)
    begin_kernel(PolarAim aim, const __grid_constant__ PolarTable table, Matrices g,
                 PolarMemory memory) {
  await_earlier_kernels();
  const index_t b = blockIdx.x;
  if (aim.hold && memory.done[b] != 0) {
    if (threadIdx.x == 0) memory.calm[b] = 1;
    return;
  }
  __shared__ double sums[threads / 32];
  const T* const entries = static_cast<const T*>(g.data) + b * g.stride;
  double trace = 0;
  for (index_t i = threadIdx.x; i < aim.m; i += threads)
    trace += real_part_of(entries[i * (g.ld + 1)]);
  trace = block_sum<threads>(trace, sums);
  const double norm = sqrt(sum_of_parts<threads>(memory.defect, b));   // of G
  const double square = sqrt(sum_of_parts<threads>(memory.other, b));  // of G^2
  if (threadIdx.x != 0) return;
  PolarState s{};
  s.rank = static_cast<int>(aim.m);
  s.best = s.before = s.residual = INFINITY;
  if (!(norm > 0) || isinf(norm)) {
    s.residual = norm == 0 ? 0 : NAN;
    s.rank = 0;
    memory.states[b] = s;
    return finish(memory, b, norm == 0 ? PolarStatus::zero : PolarStatus::not_finite);
  }
  const double m = static_cast<double>(aim.m);
  double scale = sqrt(sqrt(square));  // at least sigma_1
  // At most sigma_1. At least (2 / (sqrt(m) + 1))^(1/4) of it: the worst is one value over m - 1 of
  // (sqrt(m) + 1)^(-1/4) times it. 0.82 for a square Gaussian matrix.
  const double largest = sqrt(square / norm);
  const double mean = trace / m;
  const double ratio = norm / mean;
  const double spread = sqrt(fmax(0.0, ratio * ratio - m));  // ||I - G / mean||_F
  Odd row;
  if (spread <= 0.45) {
    scale = sqrt(mean);
    s.cut = aim.cutoff * largest / scale;
    s.upper = 1;
    s.guess[0] = s.guesses = 1;
    row = next_row(s, aim, table, spread);
  } else {
    s.cut = aim.cutoff * largest / scale;
    s.upper = 1;
    for (double guess = aim.first_guess; guess > 64 * s.cut && s.guesses < 3;
         guess = s.guesses == 1 ? fmin(1e-4, guess / 16) : guess * 1e-4)
      s.guess[s.guesses++] = guess;
    s.guess[s.guesses++] = fmin(4 * s.cut, 0.5);
    row = next_row(s, aim, table, INFINITY);
  }
  memory.states[b] = s;
  memory.done[b] = 0;
  memory.calm[b] = s.sharpening ? 0 : 1;
  row = row.divided_by(scale);
  memory.scalars[3 * b] = row.c;
  memory.scalars[3 * b + 1] = row.b;
  memory.scalars[3 * b + 2] = row.a;
}

__global__ void __launch_bounds__(threads)
    decide_kernel(PolarAim aim, const __grid_constant__ PolarTable table, PolarMemory memory,
                  int step, bool last) {
  await_earlier_kernels();
  const index_t b = blockIdx.x;
  if (memory.done[b] != 0) return;
  const bool calm = memory.calm[b] != 0;
  const double e = sqrt(sum_of_parts<threads>(memory.defect, b));
  const double eta = calm ? INFINITY : sqrt(sum_of_parts<threads>(memory.other, b));
  if (threadIdx.x != 0) return;
  PolarState s = memory.states[b];
  // Each singular value of 0 adds 1 to e^2.
  const double m = static_cast<double>(aim.m);
  const int rank = isfinite(e) ? static_cast<int>(llrint(fmax(m - e * e, 0.0))) : 0;
  const double share =
      sqrt(fmax(static_cast<double>(rank), 1.0) / m) / 2;  // the residual is relative to the rank
  s.place = step % 2;
  PolarStatus status = PolarStatus::running;
  s.residual = e;
  if (!isfinite(e)) {
    status = PolarStatus::not_finite;
  } else if (e <= aim.aim || (e >= s.best / 2 && e <= aim.floor)) {
    status = PolarStatus::done;
    s.rank = static_cast<int>(aim.m);
  } else if (s.sharpening &&
             (eta <= aim.aim * share || (eta >= s.before / 2 && eta <= aim.floor))) {
    status = PolarStatus::done;
    s.rank = rank;
    s.residual = eta;
  } else if (last) {
    status = PolarStatus::not_converged;
    if (s.sharpening) s.rank = rank;
  }
  s.before = eta;
  if (status != PolarStatus::running) {
    memory.states[b] = s;
    return finish(memory, b, status);
  }
  const Odd row = next_row(s, aim, table, e);
  memory.states[b] = s;
  memory.calm[b] = s.sharpening ? 0 : 1;
  // Of E = G - I: a + b G + c G^2 = (a + b + c) + (b + 2c) E + c E^2.
  memory.scalars[3 * b] = row.c;
  memory.scalars[3 * b + 1] = row.b + 2 * row.c;
  memory.scalars[3 * b + 2] = row.a + row.b + row.c;
}

__global__ void __launch_bounds__(threads)
    figures_kernel(double m, double method, PolarMemory memory, double* figures) {
  await_earlier_kernels();
  const index_t b = blockIdx.x;
  const double defect = sum_of_parts<threads>(memory.defect, b);
  const double other = sum_of_parts<threads>(memory.other, b);
  if (threadIdx.x != 0) return;
  const PolarState& s = memory.states[b];
  double* const to = figures + 5 * b;
  const double rank = s.rank;
  to[0] = s.status == PolarStatus::zero || s.status == PolarStatus::not_finite ? 0 : method;
  to[1] = s.steps;
  to[2] = rank;
  to[3] = rank == 0 ? 0 : rank == m ? sqrt(defect / m) : sqrt(other / rank);
  to[4] = s.residual / sqrt(fmax(rank, 1.0));
  if (s.status == PolarStatus::not_finite) to[3] = to[4] = NAN;
}

PolarTable make_table() {
  PolarTable table{};
  constexpr int samples = 4000;
  for (int k = 0; k < PolarTable::rows; ++k) {
    const double lower =
        k == 0 ? 0.97 : std::max(std::exp2(-static_cast<double>(k) / 4), default_cushion);
    Row row = polar_express(lower, 2)[0];
    double low = INFINITY;
    double high = 0;
    for (int i = 0; i <= samples; ++i) {
      const double v = evaluate(row, std::pow(lower, static_cast<double>(i) / samples));
      low = std::min(low, v);
      high = std::max(high, v);
    }
    const double factor = 2 / (low + high);
    table.a[k] = factor * row.a;
    table.b[k] = factor * row.b;
    table.c[k] = factor * row.c;
    table.error[k] = factor * high - 1;
  }
  return table;
}

}  // namespace

const PolarTable& polar_table() {
  static const PolarTable table = make_table();
  return table;
}

void polar_begin(const Queue& queue, Storage storage, index_t batch, const PolarAim& aim,
                 Matrices g, const PolarMemory& memory) {
  with_float64(storage, [&](auto kind) {
    launch_after(queue, begin_kernel<decltype(kind)>, grid_size(batch), threads,
                 "launching the start of a polar factor", aim, polar_table(), g, memory);
  });
}

void polar_decide(const Queue& queue, index_t batch, const PolarAim& aim, const PolarMemory& memory,
                  int step, bool last) {
  launch_after(queue, decide_kernel, grid_size(batch), threads, "launching a step's choice", aim,
               polar_table(), memory, step, last);
}

void polar_figures(const Queue& queue, index_t batch, index_t m, bool small,
                   const PolarMemory& memory, double* figures) {
  launch_after(queue, figures_kernel, grid_size(batch), threads, "launching figures",
               static_cast<double>(m), small ? 2.0 : 1.0, memory, figures);
}

}  // namespace gramian::cuda
