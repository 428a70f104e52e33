// Arithmetic of real and complex float64 vectors.
#pragma once

#include "element.cuh"

namespace gramian::cuda {

__device__ inline double2 multiply_add(double a, double v, double2 sum) {
  return {fma(a, v, sum.x), 0};
}
__device__ inline double2 multiply_add(double2 a, double2 v, double2 sum) {
  return {fma(a.x, v.x, fma(-a.y, v.y, sum.x)), fma(a.x, v.y, fma(a.y, v.x, sum.y))};
}

__device__ inline double conjugate_of(double v) { return v; }
__device__ inline double2 conjugate_of(double2 v) { return {v.x, -v.y}; }

/// Real part of conj(v) w.
__device__ inline double real_of_product(double v, double2 w) { return v * w.x; }
__device__ inline double real_of_product(double2 v, double2 w) { return fma(v.x, w.x, v.y * w.y); }

__device__ inline double real_part_of(double v) { return v; }
__device__ inline double real_part_of(double2 v) { return v.x; }

__device__ inline double squared(double v) { return v * v; }
__device__ inline double squared(double2 v) { return fma(v.x, v.x, v.y * v.y); }

__device__ inline double scaled(double a, double v) { return a * v; }
__device__ inline double2 scaled(double a, double2 v) { return {a * v.x, a * v.y}; }

__device__ inline double added(double a, double b) { return a + b; }
__device__ inline double2 added(double2 a, double2 b) { return {a.x + b.x, a.y + b.y}; }

template <class T>
__device__ T real_number(double v) {
  if constexpr (is_complex_number<T>)
    return {v, 0};
  else
    return v;
}

__device__ inline void store(double2 v, double& to) { to = v.x; }
__device__ inline void store(double2 v, double2& to) { to = v; }

/// Sum of row[j] v[j], for every lane of the warp; v conjugated where `conjugated`.
template <bool conjugated = false, class T>
__device__ double2 row_times_vector(const T* row, const T* v, index_t m, int lane) {
  double2 sums[4] = {};
  index_t j = lane;
  for (; j + 96 < m; j += 128) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const T x = v[j + 32 * k];
      sums[k] = multiply_add(row[j + 32 * k], conjugated ? conjugate_of(x) : x, sums[k]);
    }
  }
  for (; j < m; j += 32) {
    const T x = v[j];
    sums[0] = multiply_add(row[j], conjugated ? conjugate_of(x) : x, sums[0]);
  }
  double2 sum{(sums[0].x + sums[1].x) + (sums[2].x + sums[3].x),
              (sums[0].y + sums[1].y) + (sums[2].y + sums[3].y)};
  sum.x = warp_sum(sum.x);
  sum.y = warp_sum(sum.y);
  return sum;
}

}  // namespace gramian::cuda
