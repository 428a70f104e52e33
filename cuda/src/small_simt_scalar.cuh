// Scalars of the small-matrix kernel: real and complex compute types, the 16-byte packs in which
// shared memory is read, and the caller's element types.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "element.cuh"
#include "gramian/dtype.hpp"

namespace gramian::cuda::simt {

template <class T>
using real_part_t = real_of_t<T>;

template <class T>
inline constexpr bool is_complex = is_complex_number<T>;

/// Elements in 16 bytes, the widest access there is.
template <class T>
inline constexpr int pack_size = 16 / static_cast<int>(sizeof(T));

template <class T>
struct alignas(16) Pack {
  T v[pack_size<T>];
};

template <class T>
__device__ __forceinline__ Pack<T> read_pack(const T* at) {
  return *reinterpret_cast<const Pack<T>*>(at);
}
template <class T>
__device__ __forceinline__ void write_pack(T* at, const Pack<T>& pack) {
  *reinterpret_cast<Pack<T>*>(at) = pack;
}

template <class T>
__device__ __forceinline__ T make(real_part_t<T> real, real_part_t<T> imag) {
  if constexpr (is_complex<T>)
    return {real, imag};
  else
    return real;
}

template <class T>
__device__ __forceinline__ T zero() {
  return make<T>(0, 0);
}

template <class T>
__device__ __forceinline__ T conjugate(T v) {
  if constexpr (is_complex<T>)
    return {v.x, -v.y};
  else
    return v;
}

/// A diagonal entry of a Hermitian matrix.
template <class T>
__device__ __forceinline__ T without_imaginary(T v) {
  if constexpr (is_complex<T>)
    return {v.x, 0};
  else
    return v;
}

template <class T>
__device__ __forceinline__ T add(T a, T b) {
  if constexpr (is_complex<T>)
    return {a.x + b.x, a.y + b.y};
  else
    return a + b;
}

template <class T>
__device__ __forceinline__ T times(real_part_t<T> r, T v) {
  if constexpr (is_complex<T>)
    return {r * v.x, r * v.y};
  else
    return r * v;
}

/// r v + w
template <class T>
__device__ __forceinline__ T times_add(real_part_t<T> r, T v, T w) {
  if constexpr (is_complex<T>)
    return {fma(r, v.x, w.x), fma(r, v.y, w.y)};
  else
    return fma(r, v, w);
}

/// sum += conj(a) b
template <class T>
__device__ __forceinline__ void add_conj_product(T& sum, T a, T b) {
  if constexpr (is_complex<T>) {
    sum.x = fma(a.x, b.x, sum.x);
    sum.y = fma(a.x, b.y, sum.y);
    sum.x = fma(a.y, b.y, sum.x);
    sum.y = fma(-a.y, b.x, sum.y);
  } else {
    sum = fma(a, b, sum);
  }
}

template <class T>
__device__ __forceinline__ double squared(T v) {
  if constexpr (is_complex<T>) {
    const double x = v.x;
    const double y = v.y;
    return fma(x, x, y * y);
  } else {
    const double x = v;
    return x * x;
  }
}

// ---- element types of the caller's arrays

template <class S>
__device__ __forceinline__ wide_t<S> widen(S v) {
  return convert<wide_t<S>>(v);
}

template <class T, class S>
__device__ __forceinline__ T to_compute(S v) {
  return convert<T>(v);
}

/// Rounds to nearest, ties to even.
template <class S, class T>
__device__ __forceinline__ S to_storage(T v) {
  if constexpr (std::is_same_v<S, __half>)
    return __float2half_rn(static_cast<float>(v));
  else if constexpr (std::is_same_v<S, __nv_bfloat16>)
    return __float2bfloat16_rn(static_cast<float>(v));
  else if constexpr (is_complex<S>)
    return {static_cast<real_part_t<S>>(v.x), static_cast<real_part_t<S>>(v.y)};
  else
    return static_cast<S>(v);
}

/// Calls body(S{}) with the element type, of those that are complex like T.
template <class T, class F>
__device__ __forceinline__ void with_storage(DType dtype, F&& body) {
  if constexpr (is_complex<T>) {
    if (dtype == DType::complex64)
      body(float2{});
    else
      body(double2{});
  } else {
    switch (dtype) {
      case DType::float16:
        return body(__half{});
      case DType::bfloat16:
        return body(__nv_bfloat16{});
      case DType::float32:
        return body(float{});
      default:
        return body(double{});
    }
  }
}

}  // namespace gramian::cuda::simt
