// Between the caller's array and the matrix in shared memory: strides, scale, rounding, figures.
#pragma once

#include <cstdint>

#include "gramian/matrix_view.hpp"
#include "small_simt_products.cuh"

namespace gramian::cuda::simt {

/// How m x n entries are walked: along the dimension in which they lie closer together.
struct Walk {
  index_t row_stride = 0;
  index_t col_stride = 0;
  bool down = false;             // consecutive entries are of one column
  unsigned length = 1;           // of a run
  std::uint32_t reciprocal = 0;  // ceil(2^32 / length); 0 for length 1, where it is no uint32

  /// Entry e of the walk. The quotient is exact for e * length < 2^32.
  __device__ __forceinline__ void place(int e, int& row, int& col) const {
    const auto index = static_cast<unsigned>(e);
    const unsigned run = reciprocal != 0 ? __umulhi(index, reciprocal) : index;
    const auto in_run = static_cast<int>(index - run * length);
    row = down ? in_run : static_cast<int>(run);
    col = down ? static_cast<int>(run) : in_run;
  }
  __device__ __forceinline__ index_t offset(int row, int col) const {
    return row * row_stride + col * col_stride;
  }
};

/// The matrix's place in shared memory.
struct Shape {
  int m;
  int n;
  int ld;
};

/// Multiplies by 2^exponent, exactly but for underflow, in two factors where one is no number of
/// type R: that happens only on the way up, so nothing is rounded twice.
template <class R>
struct PowerOfTwo {
  R first;
  R second;

  __device__ explicit PowerOfTwo(int exponent) {
    constexpr int largest = sizeof(R) == 8 ? 1023 : 127;
    const int half = exponent > largest ? exponent / 2 : 0;
    first = static_cast<R>(ldexp(1.0, exponent - half));
    second = static_cast<R>(ldexp(1.0, half));
  }
  __device__ R operator()(R v) const { return v * first * second; }
};

__device__ __forceinline__ std::uint32_t magnitude_bits(float v) {
  return __float_as_uint(v) & 0x7fffffffu;
}
__device__ __forceinline__ std::uint64_t magnitude_bits(double v) {
  return static_cast<std::uint64_t>(__double_as_longlong(v)) & 0x7fffffffffffffffull;
}
__device__ __forceinline__ std::uint32_t magnitude_bits(float2 v) {
  return max(magnitude_bits(v.x), magnitude_bits(v.y));
}
__device__ __forceinline__ std::uint64_t magnitude_bits(double2 v) {
  const std::uint64_t x = magnitude_bits(v.x);
  const std::uint64_t y = magnitude_bits(v.y);
  return x > y ? x : y;
}

/// The magnitude with these bits, infinity for NaN.
__device__ __forceinline__ double magnitude(std::uint32_t bits) {
  return __uint_as_float(min(bits, 0x7f800000u));
}
__device__ __forceinline__ double magnitude(std::uint64_t bits) {
  constexpr std::uint64_t infinity = 0x7ff0000000000000ull;
  return __longlong_as_double(static_cast<long long>(bits < infinity ? bits : infinity));
}

/// Largest of the block's values (none NaN, none negative); every thread gets it.
__device__ __forceinline__ double block_max(double v) {
  auto* slots = reinterpret_cast<double*>(small_simt_memory);
  for (int apart = warp_size / 2; apart > 0; apart /= 2)
    v = fmax(v, __shfl_xor_sync(0xffffffffu, v, apart));
  if (threadIdx.x % warp_size == 0) slots[threadIdx.x / warp_size] = v;
  __syncthreads();
  double top = 0;
  for (unsigned w = 0; w < blockDim.x / warp_size; ++w) top = fmax(top, slots[w]);
  __syncthreads();
  return top;
}

// Loads on their way at a time, per thread: the latency of one is paid once for all of them.
inline constexpr int burst = 8;

/// Calls body(x(row, col), row, col) for every entry.
template <class S, class F>
__device__ __forceinline__ void read_entries(const S* x, const Walk& walk, int count, F&& body) {
  const int threads = static_cast<int>(blockDim.x);
  for (int first = static_cast<int>(threadIdx.x); first < count; first += burst * threads) {
    S v[burst];
#pragma unroll
    for (int u = 0; u < burst; ++u) {
      const int e = first + u * threads;
      if (e >= count) continue;
      int row, col;
      walk.place(e, row, col);
      v[u] = x[walk.offset(row, col)];
    }
#pragma unroll
    for (int u = 0; u < burst; ++u) {
      const int e = first + u * threads;
      if (e >= count) continue;
      int row, col;
      walk.place(e, row, col);
      body(v[u], row, col);
    }
  }
}

/// Result of enter(): the largest magnitude of the caller's entries, infinity if any is not finite.
struct Entered {
  double largest;
  int exponent;  // X = x 2^-exponent has its largest magnitude in [1/2, 1)
};

/// X <- x 2^-exponent, zeros between the columns and the next row. Of a zero or non-finite matrix
/// nothing usable is left in X.
template <class T, class S>
__device__ __forceinline__ Entered enter(const S* x, const Walk& walk, const Shape& shape) {
  using R = real_part_t<T>;
  using Wide = real_part_t<wide_t<S>>;
  constexpr bool holds_input = sizeof(R) >= sizeof(Wide);  // else x is read twice
  T* const to = shared<T>();
  const int count = shape.m * shape.n;
  const int threads = static_cast<int>(blockDim.x);
  for (int row = static_cast<int>(threadIdx.x); row < shape.m; row += threads)
    for (int col = shape.n; col < shape.ld; ++col) to[row * shape.ld + col] = zero<T>();

  decltype(magnitude_bits(Wide{})) top = 0;
  read_entries(x, walk, count, [&](const S& v, int row, int col) {
    const auto bits = magnitude_bits(widen(v));
    top = bits > top ? bits : top;
    if constexpr (holds_input) to[row * shape.ld + col] = to_compute<T>(v);
  });
  Entered result{block_max(magnitude(top)), 0};
  if (result.largest == 0 || isinf(result.largest)) return result;
  frexp(result.largest, &result.exponent);

  if constexpr (holds_input) {
    const PowerOfTwo<R> scaled(-result.exponent);
    auto* const real = reinterpret_cast<R*>(to);
    const int reals = shape.m * shape.ld * static_cast<int>(sizeof(T) / sizeof(R));
    for (int e = static_cast<int>(threadIdx.x); e < reals; e += threads) real[e] = scaled(real[e]);
  } else {
    const PowerOfTwo<Wide> scaled(-result.exponent);
    read_entries(x, walk, count, [&](const S& v, int row, int col) {
      if constexpr (is_complex<S>)
        to[row * shape.ld + col] = to_compute<T>(S{scaled(v.x), scaled(v.y)});
      else
        to[row * shape.ld + col] = to_compute<T>(static_cast<S>(scaled(widen(v))));
    });
  }
  __syncthreads();
  return result;
}

/// out <- X; with `round` X is left as what was written.
template <class T, class S>
__device__ __forceinline__ void leave(S* out, const Walk& walk, const Shape& shape, bool round) {
  T* const from = shared<T>();
  const int count = shape.m * shape.n;
  for (int e = static_cast<int>(threadIdx.x); e < count; e += static_cast<int>(blockDim.x)) {
    int row, col;
    walk.place(e, row, col);
    T* const entry = from + row * shape.ld + col;
    const S v = to_storage<S>(*entry);
    out[walk.offset(row, col)] = v;
    if (round) *entry = to_compute<T>(v);
  }
  __syncthreads();
}

template <class T, class S>
__device__ __forceinline__ void fill(S* out, const Walk& walk, const Shape& shape, T value) {
  const S v = to_storage<S>(value);
  const int count = shape.m * shape.n;
  for (int e = static_cast<int>(threadIdx.x); e < count; e += static_cast<int>(blockDim.x)) {
    int row, col;
    walk.place(e, row, col);
    out[walk.offset(row, col)] = v;
  }
}

/// One figure per matrix, float32 or float64; null: not wanted.
struct Figures {
  void* data = nullptr;
  bool wide = false;

  __device__ void put(index_t matrix, double value) const {
    if (data == nullptr || threadIdx.x != 0) return;
    if (wide)
      static_cast<double*>(data)[matrix] = value;
    else
      static_cast<float*>(data)[matrix] = static_cast<float>(value);
  }
};

/// ||X||_F.
template <class T>
__device__ __forceinline__ double frobenius_norm(const Shape& shape) {
  const T* const x = shared<T>();
  double sum = 0;
  for (int e = static_cast<int>(threadIdx.x); e < shape.m * shape.ld;
       e += static_cast<int>(blockDim.x))
    sum += squared(x[e]);  // zeros between the rows
  return sqrt(block_sum(sum));
}

/// ||I - G||_F / sqrt(m) of the m x m matrix G at g.
template <class T>
__device__ __forceinline__ double distance_from_identity(int g, int m, int ld) {
  using R = real_part_t<T>;
  const T* const at = shared<T>() + g;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warps = static_cast<int>(blockDim.x) / warp_size;
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x) / warp_size; i < m; i += warps)
    for (int j = lane; j < m; j += warp_size) {
      const T v = at[i * ld + j];
      sum += squared(i == j ? add(v, make<T>(R(-1), R(0))) : v);
    }
  return sqrt(block_sum(sum)) / sqrt(static_cast<double>(m));
}

}  // namespace gramian::cuda::simt
