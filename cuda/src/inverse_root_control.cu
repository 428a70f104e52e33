#include "inverse_root_control.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <mutex>

#include "dependent_launch.cuh"
#include "figure.cuh"
#include "inverse_root_entries.cuh"
#include "inverse_root_step.cuh"

namespace gramian::cuda {

namespace {

constexpr int threads = 256;

__device__ inline int rows_of(const RootRows& rows, int k) {
  return rows.first[k + 1] - rows.first[k];
}

__device__ void put(const RootStep& step, double* scalars) {
  scalars[0] = step.c;
  scalars[1] = step.b;
  scalars[2] = step.a;
}

/// Each block copies what it needs of the rows from the parameter; the first leaves them for later.
__global__ void __launch_bounds__(threads)
    begin_kernel(const __grid_constant__ RootRows given, index_t batch, RootPlan plan,
                 const double* ends, RootRows* rows, RootState* states, RootFlags flags,
                 double* scalars) {
  await_earlier_kernels();
  if (blockIdx.x == 0) {
    const int count = 3 * given.first[RootRows::finest + 1];
    for (int i = static_cast<int>(threadIdx.x); i < count; i += threads)
      (&rows->row[0][0])[i] = given.row[i / 3][i % 3];
    if (threadIdx.x < RootRows::finest + 2) rows->first[threadIdx.x] = given.first[threadIdx.x];
  }
  const index_t b = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x;
  if (b >= batch) return;
  RootState s{};
  s.largest = ends[2 * b];
  s.shift = plan.ridge * s.largest;
  s.top = (s.largest + s.shift) * (1 + plan.margin);
  s.growth = 1;
  s.rounds = 1;
  // Ritz values lie within the spectrum, so that this is no lower bound, only likely one.
  const double smallest = ends[2 * b + 1] + s.shift;
  s.status = isnan(s.largest)                ? RootStatus::not_finite
             : s.largest > 0 && smallest > 0 ? RootStatus::running
                                             : RootStatus::missed;
  const bool runs = s.status == RootStatus::running;
  if (runs) {
    const double likely = clamped(smallest / (4 * s.top), plan.floor, 0.25);
    const double sure = clamped(s.shift / s.top * (1 - 0x1p-6), plan.floor, 0.25);
    // A few rows more cost less than to start over with what was overlooked.
    const bool safe = rows_of(given, table_for(sure)) <= rows_of(given, table_for(likely)) + 2;
    choose_table(given, s, safe ? sure : likely);
    put(table_row(given, s, plan.p, s.top, false), scalars + 3 * b);
    s.steps = 1;
  } else {
    s.shift = 0;
  }
  states[b] = s;
  flags.done[b] = flags.closing[b] = runs ? 0 : 1;
}

template <class T>
__global__ void __launch_bounds__(threads)
    shift_kernel(index_t count, index_t m, const RootState* states, Matrices a) {
  await_earlier_kernels();
  const index_t at = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x;
  if (at >= count) return;
  const index_t b = divide(at, m);
  const index_t i = at - b * m;
  T* const entry = static_cast<T*>(a.data) + b * a.stride + i * (a.ld + 1);
  if constexpr (is_complex_number<T>)
    entry->x += states[b].shift;
  else
    *entry += states[b].shift;
}

__global__ void __launch_bounds__(threads)
    next_kernel(RootPlan plan, const RootRows* rows, NormParts squares, int where,
                RootState* states, RootFlags flags, double* scalars) {
  await_earlier_kernels();
  const index_t b = blockIdx.x;
  if (flags.done[b]) return;
  if (flags.closing[b]) {
    __syncthreads();  // all have read the flags
    if (threadIdx.x == 0) flags.done[b] = 1;
    return;
  }
  const double sum = sum_parts<threads>(squares.data + b * squares.count, squares.count);
  if (threadIdx.x != 0) return;
  RootState s = states[b];
  const RootStep step = next_step(plan, *rows, sqrt(sum), where, s);
  if (step.lost)
    flags.done[b] = flags.closing[b] = 1;
  else
    put(step, scalars + 3 * b);
  if (step.last) flags.closing[b] = 1;
  states[b] = s;
}

__global__ void __launch_bounds__(threads)
    end_kernel(index_t batch, double suspect, RootState* states, RootFlags flags) {
  await_earlier_kernels();
  const index_t b = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x;
  if (b >= batch) return;
  RootState& s = states[b];
  if (s.status == RootStatus::running) s.status = RootStatus::missed;
  const bool look = s.status == RootStatus::converged && !(s.condition < suspect);
  flags.done[b] = look ? 0 : 1;
}

__global__ void __launch_bounds__(threads)
    condition_kernel(index_t batch, int p, double limit, const double* ends, RootState* states,
                     const int* done) {
  await_earlier_kernels();
  const index_t b = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x;
  if (b >= batch || done[b]) return;
  RootState& s = states[b];
  s.condition = fmax(1.0, s.top * pow(ends[2 * b], static_cast<double>(p)));
  if (!(s.condition <= limit)) s.status = RootStatus::missed;
}

__global__ void __launch_bounds__(threads)
    residual_kernel(double m, double tol, NormParts squares, RootState* states) {
  await_earlier_kernels();
  const index_t b = blockIdx.x;
  const double sum = sum_parts<threads>(squares.data + b * squares.count, squares.count);
  if (threadIdx.x != 0) return;
  RootState& s = states[b];
  s.residual = sqrt(sum / m);
  if (s.status == RootStatus::converged && tol > 0 && !(s.residual <= tol))
    s.status = RootStatus::missed;
}

__global__ void __launch_bounds__(threads)
    figures_kernel(index_t batch, const RootState* states, const int* exponent, Figure residual,
                   Figure condition, Figure largest) {
  await_earlier_kernels();
  const index_t b = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x;
  if (b >= batch) return;
  const RootState& s = states[b];
  const bool good = s.status == RootStatus::converged;
  residual.put(b, good ? s.residual : nan(""));
  condition.put(b, good ? s.condition : nan(""));
  largest.put(b, scalbn(s.largest, exponent[b]));
}

unsigned blocks_for(index_t count) { return grid_size(ceil_div(count, threads)); }

template <class F>
void with_type(Storage storage, F&& f) {
  if (storage == Storage::float64) return f(double{});
  if (storage == Storage::complex128) return f(double2{});
  throw Error("inverse roots are computed in float64");
}

}  // namespace

const RootRows& root_rows(int p) {
  static std::array<std::once_flag, largest_iterated_root + 1> made;
  static std::array<std::unique_ptr<RootRows>, largest_iterated_root + 1> kept;
  const auto at = static_cast<std::size_t>(p);
  std::call_once(made.at(at), [&] {
    auto rows = std::make_unique<RootRows>();
    int count = 0;
    for (int k = 0; k <= RootRows::finest; ++k) {
      rows->first[k] = count;
      if (k == 0) continue;
      for (const Row& row : inverse_root_rows(p, std::ldexp(1.0, -2 * k))) {
        if (count == RootRows::most) throw Error("the tables of rows are too long");
        double* const to = rows->row[count++];
        to[0] = row.a;
        to[1] = row.b;
        to[2] = row.c;
      }
    }
    rows->first[RootRows::finest + 1] = count;
    kept[at] = std::move(rows);
  });
  return *kept[at];
}

int row_count(const RootRows& rows, double lower) {
  const int k = table_for(lower);
  return rows.first[k + 1] - rows.first[k];
}

void mirror_lower(const Queue& queue, Storage storage, index_t batch, index_t m, Matrices a) {
  const index_t side = ceil_div(m, mirror_side);
  const index_t tiles = side * (side + 1) / 2;
  with_type(storage, [&](auto kind) {
    launch_after(queue, mirror_kernel<decltype(kind)>, grid_size(batch * tiles), mirror_threads,
                 "launching a mirror image", tiles, m, a);
  });
}

void begin_root(const Queue& queue, Storage storage, index_t batch, index_t m, const RootPlan& plan,
                const double* ends, Matrices a, RootRows* rows, RootState* states, RootFlags flags,
                double* scalars) {
  launch_after(queue, begin_kernel, blocks_for(batch), threads, "launching the first row",
               root_rows(plan.p), batch, plan, ends, rows, states, flags, scalars);
  if (plan.ridge == 0) return;
  with_type(storage, [&](auto kind) {
    launch_after(queue, shift_kernel<decltype(kind)>, blocks_for(batch * m), threads,
                 "launching the ridge", batch * m, m, states, a);
  });
}

void next_row(const Queue& queue, index_t batch, const RootPlan& plan, const RootRows* rows,
              NormParts squares, int where, RootState* states, RootFlags flags, double* scalars) {
  launch_after(queue, next_kernel, grid_size(batch), threads, "launching the next row", plan, rows,
               squares, where, states, flags, scalars);
}

void end_steps(const Queue& queue, index_t batch, double suspect, RootState* states,
               RootFlags flags) {
  launch_after(queue, end_kernel, blocks_for(batch), threads, "launching the end of the steps",
               batch, suspect, states, flags);
}

void judge_condition(const Queue& queue, index_t batch, int p, double limit, const double* ends,
                     RootState* states, RootFlags flags) {
  launch_after(queue, condition_kernel, blocks_for(batch), threads, "launching the condition",
               batch, p, limit, ends, states, flags.done);
}

void gather(const Queue& queue, Storage storage, index_t batch, index_t m,
            const RootBuffers& buffers, const RootState* states, Matrices to) {
  const index_t blocks = ceil_div(m * m, entry_threads * entries_each);
  with_type(storage, [&](auto kind) {
    launch_after(queue, gather_kernel<decltype(kind)>, grid_size(batch * blocks), entry_threads,
                 "launching a copy", blocks, m, buffers, states, to);
  });
}

void judge_residual(const Queue& queue, index_t batch, index_t m, double tol, NormParts squares,
                    RootState* states) {
  launch_after(queue, residual_kernel, grid_size(batch), threads, "launching the residual",
               static_cast<double>(m), tol, squares, states);
}

void report_figures(const Queue& queue, index_t batch, const RootState* states, const int* exponent,
                    const InverseRootInfo& info) {
  launch_after(queue, figures_kernel, blocks_for(batch), threads, "launching the figures", batch,
               states, exponent, figure(info.residual), figure(info.condition),
               figure(info.largest));
}

void leave_root(const Queue& queue, Storage storage, index_t m, const RootBuffers& buffers,
                const RootState* states, const int* exponent, int p, bool root,
                const ArrayRef& out) {
  const Window to = window(out);
  const index_t blocks = ceil_div(m * m, entry_threads * entries_each);
  const unsigned grid = grid_size(to.batch() * blocks);
  const LeaveTask task{buffers, states, exponent, to, p, root, to.row_reach() < to.col_reach(),
                       blocks};
  with_type(storage, [&](auto kind) {
    using T = decltype(kind);
    const auto start = [&](auto kernel) {
      launch_after(queue, kernel, grid, entry_threads, "launching the results", task);
    };
    if constexpr (is_complex_number<T>) {
      if (out.dtype == DType::complex128) return start(leave_kernel<double2, double2>);
      if (out.dtype == DType::complex64) return start(leave_kernel<double2, float2>);
    } else {
      if (out.dtype == DType::float64) return start(leave_kernel<double, double>);
      if (out.dtype == DType::float32) return start(leave_kernel<double, float>);
      if (out.dtype == DType::float16) return start(leave_kernel<double, __half>);
      if (out.dtype == DType::bfloat16) return start(leave_kernel<double, __nv_bfloat16>);
    }
    throw Error("real arrays need real storage, complex ones complex storage");
  });
}

}  // namespace gramian::cuda
