#include "entrance.hpp"

#include <algorithm>
#include <cmath>

#include "copy.cuh"

namespace gramian::cuda {

namespace {

constexpr int measure_threads = 512;
constexpr int measure_runs = 4;  // 16-byte loads that a thread has in flight

/// Entries per part at least: below, a block's own reduction takes longer than its reading.
constexpr index_t part_entries = 16384;

int part_count(index_t rows, index_t cols) {
  return static_cast<int>(std::min<index_t>(ceil_div(rows * cols, part_entries), max_parts));
}

/// Largest magnitude and sum of squares of one thread's numbers. Squares of float32 and narrower
/// formats neither overflow nor vanish in double.
template <class R>
struct Measured {
  std::uint32_t top = 0;
  double sum = 0;

  __device__ void add(float v) {
    // As bits, magnitudes are ordered, with infinity above all numbers and NaN above infinity.
    const std::uint32_t bits = __float_as_uint(v) & 0x7fffffffu;
    top = bits > top ? bits : top;
    sum = fma(static_cast<double>(v), static_cast<double>(v), sum);
  }
  __device__ unsigned long long largest() const {
    return magnitude_bits(static_cast<double>(__uint_as_float(top)));
  }
  /// In units of 4^exponent, at least that of the largest.
  __device__ double sum_at(int exponent) const {
    const double factor = power_of_two(-exponent);
    return sum * factor * factor;
  }
};

/// Of float64, squares are taken relative to the largest magnitude so far.
template <>
struct Measured<double> {
  unsigned long long top = 0;
  double sum = 0;
  double scale = power_of_two(-clamped_exponent(0));

  __device__ Measured() {}
  __device__ void add(double v) {
    const unsigned long long bits = magnitude_bits(v);
    if (bits > top) {
      const int before = clamped_exponent(top);
      const int now = clamped_exponent(bits);
      if (now != before) {
        sum = rescaled(sum, before, now);
        scale = power_of_two(-now);
      }
      top = bits;
    }
    const double t = v * scale;
    sum = fma(t, t, sum);
  }
  __device__ unsigned long long largest() const { return top; }
  __device__ double sum_at(int exponent) const {
    return rescaled(sum, clamped_exponent(top), exponent);
  }
};

/// The parts deal out the matrix in runs along its rows, 16 bytes to a thread, whether or not the
/// layout lets them be read at once: the order of the sums does not depend on the alignment.
template <class T>
__global__ void __launch_bounds__(measure_threads)
    measure_parts(const __grid_constant__ Window x, int parts, bool vector, double* figures) {
  constexpr int V = vector_run<T>;
  constexpr int U = measure_runs;
  await_earlier_kernels();
  const index_t b = blockIdx.x / static_cast<unsigned>(parts);
  const index_t part = blockIdx.x % static_cast<unsigned>(parts);
  const T* const data = static_cast<const T*>(x.data) + x.offset(b);
  const index_t per_row = (x.cols + V - 1) / V;
  const index_t runs = x.rows * per_row;
  const index_t last = runs * (part + 1) / parts;

  Measured<real_of_t<T>> mine;
  for (index_t base = runs * part / parts + static_cast<index_t>(threadIdx.x); base < last;
       base += U * measure_threads) {
    T v[U][V];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const index_t run = base + u * measure_threads;
      const index_t row = divide(run, per_row);
      const index_t col = (run - row * per_row) * V;
      load_run(data + row * x.row_stride + col * x.col_stride, x.col_stride,
               run < last ? inside(col, x.cols, V) : 0, vector, v[u]);
    }
#pragma unroll
    for (int u = 0; u < U; ++u)
#pragma unroll
      for (int k = 0; k < V; ++k) {
        if constexpr (is_complex_number<T>) {
          mine.add(v[u][k].x);
          mine.add(v[u][k].y);
        } else {
          mine.add(convert<wide_t<T>>(v[u][k]));
        }
      }
  }

  __shared__ unsigned long long tops[measure_threads / 32];
  __shared__ double sums[measure_threads / 32];
  const unsigned long long top = block_max<measure_threads>(mine.largest(), tops);
  const double sum = block_sum<measure_threads>(mine.sum_at(clamped_exponent(top)), sums);
  if (threadIdx.x == 0) {
    figures[2 * static_cast<index_t>(blockIdx.x)] =
        __longlong_as_double(static_cast<long long>(top));
    figures[2 * static_cast<index_t>(blockIdx.x) + 1] = sum;
  }
}

template <class T>
struct Tag {
  using type = T;
};

template <class F>
void with_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::float16:
      return f(Tag<__half>{});
    case DType::bfloat16:
      return f(Tag<__nv_bfloat16>{});
    case DType::float32:
      return f(Tag<float>{});
    case DType::float64:
      return f(Tag<double>{});
    case DType::complex64:
      return f(Tag<float2>{});
    case DType::complex128:
      return f(Tag<double2>{});
  }
}

template <class A, class F>
void with_storage(Storage storage, F&& f) {
  if constexpr (is_complex_number<A>) {
    if (storage == Storage::complex64) return f(Tag<A>{}, Tag<float2>{});
    if (storage == Storage::complex128) return f(Tag<A>{}, Tag<double2>{});
  } else {
    if (storage == Storage::float16) return f(Tag<A>{}, Tag<__half>{});
    if (storage == Storage::float32) return f(Tag<A>{}, Tag<float>{});
    if (storage == Storage::float64) return f(Tag<A>{}, Tag<double>{});
  }
  throw Error("real arrays need real storage, complex ones complex storage");
}

/// f with the element types of both.
template <class F>
void with_types(DType dtype, Storage storage, F&& f) {
  with_type(dtype, [&](auto array) { with_storage<typename decltype(array)::type>(storage, f); });
}

/// With the long side along the rows.
Window wide(const ArrayRef& array) {
  Window w = window(array);
  if (w.rows > w.cols) w.transpose();
  return w;
}

void copy_in(const Queue& queue, const ArrayRef& x, Storage storage, const Scaling& scaling,
             const Matrices& y) {
  const DeviceGuard guard(queue.device);
  const Window in = wide(x);
  const Window out = window(y, in.rows, in.cols, in.batch());
  with_types(x.dtype, storage, [&](auto array, auto stored) {
    copy<typename decltype(array)::type, typename decltype(stored)::type>(queue, in, out, scaling);
  });
}

}  // namespace

Storage storage_of(DType dtype, bool wide) {
  if (is_complex(dtype)) return wide ? Storage::complex128 : Storage::complex64;
  return wide ? Storage::float64 : Storage::float32;
}

index_t element_size(Storage storage) {
  switch (storage) {
    case Storage::float16:
      return 2;
    case Storage::float32:
      return 4;
    case Storage::float64:
    case Storage::complex64:
      return 8;
    case Storage::complex128:
      return 16;
  }
  return 0;
}

index_t entrance_parts(index_t rows, index_t cols) { return 2 * part_count(rows, cols); }

void measure(const Queue& queue, const ArrayRef& x, const Entrance& figures) {
  const DeviceGuard guard(queue.device);
  Window w = window(x);
  const int parts = part_count(w.rows, w.cols);
  if (w.row_reach() < w.col_reach()) w.transpose();
  if (w.col_stride == 1 && w.row_stride == w.cols && w.cols % vector_bytes == 0) {
    // Rows without gaps are one long row, of the same runs.
    w.cols *= w.rows;
    w.rows = 1;
  }
  const unsigned grid = grid_size(w.batch() * parts);
  with_type(x.dtype, [&](auto array) {
    using T = typename decltype(array)::type;
    launch_after(queue, measure_parts<T>, grid, measure_threads, "launch of the first pass", w,
                 parts, w.rows_aligned(sizeof(T), vector_bytes), figures.parts);
  });
}

void enter(const Queue& queue, const ArrayRef& x, Storage storage, const Entrance& figures,
           Matrices y) {
  const index_t rows = x.shape[x.shape.size() - 2];
  const index_t cols = x.shape.back();
  Scaling scaling;
  scaling.parts = figures.parts;
  scaling.count = part_count(rows, cols);
  if (storage == Storage::float16)
    scaling.root = std::sqrt(static_cast<double>(std::min(rows, cols)));
  scaling.exponent = figures.exponent;
  scaling.norm = figures.norm;
  copy_in(queue, x, storage, scaling, y);
}

void load(const Queue& queue, const ArrayRef& x, Storage storage, Matrices y) {
  copy_in(queue, x, storage, Scaling{}, y);
}

void leave(const Queue& queue, Matrices y, Storage storage, const ArrayRef& out) {
  const DeviceGuard guard(queue.device);
  const Window to = wide(out);
  const Window from = window(y, to.rows, to.cols, to.batch());
  with_types(out.dtype, storage, [&](auto array, auto stored) {
    copy<typename decltype(stored)::type, typename decltype(array)::type>(queue, from, to,
                                                                          Scaling{});
  });
}

}  // namespace gramian::cuda
