#include "polar_clip_passes.hpp"

#include "copy.cuh"
#include "dependent_launch.cuh"
#include "polar_bound.cuh"
#include "polar_common.cuh"
#include "window.hpp"

namespace gramian::cuda {

namespace {

constexpr int threads = 256;

__global__ void begin_kernel(const __grid_constant__ ClipPass pass, bool hard, int* done) {
  await_earlier_kernels();
  const index_t b = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x;
  if (b >= pass.batch) return;
  const ScaledBound bound(pass.bound, pass.exponent[b]);
  PolarState state{};
  const double entries = static_cast<double>(pass.m) * static_cast<double>(pass.n);
  // What is not finite is NaN throughout in the end, whatever the bound.
  const bool unfelt = isfinite(pass.norm[b]) && bound.unfelt(entries, hard);
  state.status = unfelt ? PolarStatus::unchanged : PolarStatus::done;
  pass.states[b] = state;
  done[b] = unfelt ? 1 : 0;
}

template <class T>
__global__ void __launch_bounds__(threads)
    append_kernel(const __grid_constant__ ClipPass pass, index_t blocks, Matrices y) {
  await_earlier_kernels();
  const index_t b = divide(blockIdx.x, blocks);
  const double c = ScaledBound(pass.bound, pass.exponent[b]).c;
  T* const to = static_cast<T*>(y.data) + b * y.stride + pass.n;
  for (index_t i = static_cast<index_t>(blockIdx.x) - b * blocks; i < pass.m; i += blocks)
    for (index_t j = threadIdx.x; j < pass.m; j += threads)
      to[i * y.ld + j] = real_number<T>(i == j ? c : 0);
}

__global__ void shift_kernel(const __grid_constant__ ClipPass pass, double slack, double* scalars) {
  await_earlier_kernels();
  const index_t b = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x;
  if (b >= pass.batch) return;
  scalars[3 * b] = 1;
  scalars[3 * b + 1] = 0;
  scalars[3 * b + 2] = -ScaledBound(pass.bound, pass.exponent[b]).c * (1 + slack);
}

__global__ void scale_kernel(const __grid_constant__ ClipPass pass, double less, double* scalars) {
  await_earlier_kernels();
  const index_t b = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x;
  if (b >= pass.batch) return;
  scalars[3 * b] = scalars[3 * b + 1] = 0;
  scalars[3 * b + 2] = ScaledBound(pass.bound, pass.exponent[b]).c * (1 - less);
}

__global__ void __launch_bounds__(threads)
    decide_kernel(const __grid_constant__ ClipPass pass, NormParts squares, bool first, int* done) {
  await_earlier_kernels();
  const index_t b = blockIdx.x;
  if (done[b] != 0) return;
  const double sum = sum_of_parts<threads>(squares, b);
  if (threadIdx.x != 0) return;
  // Each eigenvalue above adds 1, one that is neither above nor below 1/4.
  if (!(sum < 0.125)) return;
  done[b] = 1;
  if (first) pass.states[b].status = PolarStatus::unchanged;
}

__global__ void __launch_bounds__(threads)
    again_kernel(const __grid_constant__ ClipPass pass, NormParts gram, NormParts square,
                 int* done) {
  await_earlier_kernels();
  const index_t b = blockIdx.x;
  const double norm = sqrt(sum_of_parts<threads>(gram, b));
  const double largest = sqrt(sqrt(sum_of_parts<threads>(square, b)) / norm);
  if (threadIdx.x != 0) return;
  const double c = ScaledBound(pass.bound, pass.exponent[b]).c;
  // The estimate is from below, by a factor of at most 2.4 at m = 4096 (polar_steps.cu).
  if (!(largest > 2 * c)) done[b] = 1;
}

__global__ void skip_kernel(const __grid_constant__ ClipPass pass, const int* done, int* later) {
  await_earlier_kernels();
  const index_t b = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x;
  if (b < pass.batch && done[b] != 0) later[b] = 1;
}

template <class T>
__global__ void __launch_bounds__(threads)
    take_kernel(const __grid_constant__ ClipPass pass, index_t blocks, const int* done, Matrices x,
                Matrices y) {
  await_earlier_kernels();
  const index_t b = divide(blockIdx.x, blocks);
  if (done[b] != 0) return;
  T* const to = static_cast<T*>(x.data) + b * x.stride;
  const T* const from = static_cast<const T*>(y.data) + b * y.stride;
  for (index_t i = static_cast<index_t>(blockIdx.x) - b * blocks; i < pass.m; i += blocks)
    for (index_t j = threadIdx.x; j < pass.n; j += threads) to[i * x.ld + j] = from[i * y.ld + j];
}

/// S: of the arrays, which have m rows and n columns here.
template <class T, class S>
__global__ void __launch_bounds__(threads)
    leave_kernel(const __grid_constant__ ClipPass pass, index_t blocks, bool times_bound,
                 Matrices y, const __grid_constant__ Window x, const __grid_constant__ Window out) {
  await_earlier_kernels();
  const index_t b = divide(blockIdx.x, blocks);
  const ScaledBound bound(pass.bound, pass.exponent[b]);
  const bool unchanged = pass.states[b].status == PolarStatus::unchanged;
  const S* const input = static_cast<const S*>(x.data) + x.offset(b);
  S* const to = static_cast<S*>(out.data) + out.offset(b);
  const T* const from = static_cast<const T*>(y.data) + b * y.stride;
  const int e = pass.exponent[b] - bound.shift;
  const double factor = times_bound ? bound.c : 1.0;
  // In two steps: a power may have no number of its own.
  const double first = scalbn(1.0, e / 2);
  const double second = scalbn(1.0, e - e / 2);
  // Along out's rows or columns, whichever are close together.
  const bool down = out.row_stride == 1 && out.col_stride != 1;
  const index_t slow = down ? pass.n : pass.m;
  const index_t fast = down ? pass.m : pass.n;
  for (index_t p = static_cast<index_t>(blockIdx.x) - b * blocks; p < slow; p += blocks)
    for (index_t q = threadIdx.x; q < fast; q += threads) {
      const index_t i = down ? q : p;
      const index_t j = down ? p : q;
      S& entry = to[i * out.row_stride + j * out.col_stride];
      if (unchanged) {
        entry = input[i * x.row_stride + j * x.col_stride];
      } else {
        const T v = scaled(second, scaled(first, scaled(factor, from[i * y.ld + j])));
        entry = convert<S>(v);
      }
    }
}

template <class T>
__global__ void __launch_bounds__(threads)
    divide_kernel(const __grid_constant__ ClipPass pass, index_t blocks, bool scaled_down,
                  Matrices y) {
  await_earlier_kernels();
  const index_t b = divide(blockIdx.x, blocks);
  const ScaledBound bound(pass.bound, pass.exponent[b]);
  const int e = scaled_down ? 0 : bound.shift - pass.exponent[b];
  const double first = scalbn(1.0, e / 2);
  const double second = scalbn(1.0, e - e / 2) / bound.c;
  T* const to = static_cast<T*>(y.data) + b * y.stride;
  for (index_t i = static_cast<index_t>(blockIdx.x) - b * blocks; i < pass.m; i += blocks)
    for (index_t j = threadIdx.x; j < pass.n; j += threads)
      to[i * y.ld + j] = scaled(second, scaled(first, to[i * y.ld + j]));
}

/// The bound beside the matrix, however small.
__device__ double plain_bound(const ClipPass& pass, index_t b) {
  const ScaledBound bound(pass.bound, pass.exponent[b]);
  return scalbn(bound.c, -bound.shift);
}

__global__ void __launch_bounds__(threads)
    top_kernel(const __grid_constant__ ClipPass pass, NormParts gram, NormParts square,
               double* top) {
  await_earlier_kernels();
  const index_t b = blockIdx.x;
  const double norm = sqrt(sum_of_parts<threads>(gram, b));
  const double largest = sqrt(sum_of_parts<threads>(square, b)) / norm;
  if (threadIdx.x != 0) return;
  const double c = plain_bound(pass, b);
  top[b] = norm > 0 ? fmax(c * c, largest) : c * c;
}

template <class T>
__global__ void __launch_bounds__(threads)
    compare_kernel(const __grid_constant__ ClipPass pass, index_t blocks, bool hard, Matrices g,
                   Matrices k, Matrices a) {
  await_earlier_kernels();
  const index_t b = divide(blockIdx.x, blocks);
  const double c = plain_bound(pass, b);
  const T* const of_x = static_cast<const T*>(g.data) + b * g.stride;
  T* const of_y = static_cast<T*>(k.data) + b * k.stride;
  T* const to = static_cast<T*>(a.data) + b * a.stride;
  const double sign = hard ? -1 : 1;
  for (index_t i = static_cast<index_t>(blockIdx.x) - b * blocks; i < pass.m; i += blocks)
    for (index_t j = threadIdx.x; j < pass.m; j += threads) {
      const T y = of_y[i * k.ld + j];
      to[i * a.ld + j] = added(scaled(-sign, of_x[i * g.ld + j]), scaled(sign * c * c, y));
      if (hard) of_y[i * k.ld + j] = added(real_number<T>(i == j ? 1 : 0), scaled(-1.0, y));
    }
}

__global__ void __launch_bounds__(threads)
    figures_kernel(const __grid_constant__ ClipPass pass, double method, NormParts squares,
                   const double* top, double* figures) {
  await_earlier_kernels();
  const index_t b = blockIdx.x;
  const double sum = sum_of_parts<threads>(squares, b);
  if (threadIdx.x != 0) return;
  const PolarStatus status = pass.states[b].status;
  const bool unchanged = status == PolarStatus::unchanged || status == PolarStatus::zero;
  double* const to = figures + 5 * b;
  to[0] = unchanged ? 3 : method;
  to[1] = to[2] = 0;
  to[3] = to[4] = unchanged ? 0 : sqrt(sum / static_cast<double>(pass.m)) / top[b];
}

template <class F>
void with_arrays(DType dtype, F&& f) {
  switch (dtype) {
    case DType::float16:
      return f(double{}, __half{});
    case DType::bfloat16:
      return f(double{}, __nv_bfloat16{});
    case DType::float32:
      return f(double{}, float{});
    case DType::float64:
      return f(double{}, double{});
    case DType::complex64:
      return f(double2{}, float2{});
    case DType::complex128:
      return f(double2{}, double2{});
  }
}

unsigned per_matrix(const ClipPass& pass) {
  return grid_size(ceil_div(pass.batch, static_cast<index_t>(threads)));
}
unsigned rows_of(const ClipPass& pass) { return grid_size(pass.batch * blocks_for(pass.m)); }

constexpr const char* what = "launching a pass of clipping";

Window wide(const ArrayRef& array) {
  Window w = window(array);
  if (w.rows > w.cols) w.transpose();
  return w;
}

}  // namespace

void clip_begin(const ClipPass& pass, bool hard, int* done) {
  launch_after(pass.queue, begin_kernel, per_matrix(pass), threads, what, pass, hard, done);
}

void clip_append(const ClipPass& pass, Matrices y) {
  with_float64(pass.storage, [&](auto kind) {
    launch_after(pass.queue, append_kernel<decltype(kind)>, rows_of(pass), threads, what, pass,
                 blocks_for(pass.m), y);
  });
}

void clip_shift(const ClipPass& pass, double slack, double* scalars) {
  launch_after(pass.queue, shift_kernel, per_matrix(pass), threads, what, pass, slack, scalars);
}

void clip_scale(const ClipPass& pass, double less, double* scalars) {
  launch_after(pass.queue, scale_kernel, per_matrix(pass), threads, what, pass, less, scalars);
}

void clip_decide(const ClipPass& pass, const NormParts& squares, bool first, int* done) {
  launch_after(pass.queue, decide_kernel, grid_size(pass.batch), threads, what, pass, squares,
               first, done);
}

void clip_again(const ClipPass& pass, const NormParts& gram, const NormParts& square, int* done) {
  launch_after(pass.queue, again_kernel, grid_size(pass.batch), threads, what, pass, gram, square,
               done);
}

void clip_skip(const ClipPass& pass, const int* done, int* later) {
  launch_after(pass.queue, skip_kernel, per_matrix(pass), threads, what, pass, done, later);
}

void clip_take(const ClipPass& pass, const int* done, Matrices x, Matrices y) {
  with_float64(pass.storage, [&](auto kind) {
    launch_after(pass.queue, take_kernel<decltype(kind)>, rows_of(pass), threads, what, pass,
                 blocks_for(pass.m), done, x, y);
  });
}

void clip_leave(const ClipPass& pass, bool times_bound, Matrices y, const ArrayRef& x,
                const ArrayRef& out) {
  with_arrays(x.dtype, [&](auto kind, auto stored) {
    launch_after(pass.queue, leave_kernel<decltype(kind), decltype(stored)>, rows_of(pass), threads,
                 what, pass, blocks_for(pass.m), times_bound, y, wide(x), wide(out));
  });
}

ArrayRef copy_of(const Queue& queue, const ArrayRef& x, void* memory) {
  ArrayRef to = x;
  to.data = memory;
  index_t size = 1;
  for (std::size_t d = x.shape.size(); d-- > 0; size *= x.shape[d]) to.strides[d] = size;
  with_arrays(x.dtype, [&](auto, auto stored) {
    using S = decltype(stored);
    copy<S, S>(queue, window(x), window(to), Scaling{});
  });
  return to;
}

void clip_divide(const ClipPass& pass, bool scaled_down, Matrices y) {
  with_float64(pass.storage, [&](auto kind) {
    launch_after(pass.queue, divide_kernel<decltype(kind)>, rows_of(pass), threads, what, pass,
                 blocks_for(pass.m), scaled_down, y);
  });
}

void clip_top(const ClipPass& pass, const NormParts& gram, const NormParts& square, double* top) {
  launch_after(pass.queue, top_kernel, grid_size(pass.batch), threads, what, pass, gram, square,
               top);
}

void clip_compare(const ClipPass& pass, bool hard, Matrices g, Matrices k, Matrices a) {
  with_float64(pass.storage, [&](auto kind) {
    launch_after(pass.queue, compare_kernel<decltype(kind)>, rows_of(pass), threads, what, pass,
                 blocks_for(pass.m), hard, g, k, a);
  });
}

void clip_figures(const ClipPass& pass, bool small, const NormParts& squares, const double* top,
                  double* figures) {
  launch_after(pass.queue, figures_kernel, grid_size(pass.batch), threads, what, pass,
               small ? 2.0 : 1.0, squares, top, figures);
}

}  // namespace gramian::cuda
