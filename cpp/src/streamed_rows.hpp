// Rows of any stored type, one after the other, in double; complex numbers are pairs of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <vector>

#include "batch.hpp"

namespace gramian::detail {

/// Doubles as numbers of type T: themselves, or pairs as complex numbers.
template <class T>
T* numbers(double* reals) {
  return reinterpret_cast<T*>(reals);
}
template <class T>
const T* numbers(const double* reals) {
  return reinterpret_cast<const T*>(reals);
}

/// Largest magnitude of finite numbers; in eight parts, so that the loop vectorizes.
inline double largest_of(const double* x, index_t n) {
  double part[8] = {};
  index_t j = 0;
  for (; j + 8 <= n; j += 8)
    for (int l = 0; l < 8; ++l) {
      const double v = std::abs(x[j + l]);
      part[l] = part[l] < v ? v : part[l];
    }
  for (; j < n; ++j) part[0] = std::max(part[0], std::abs(x[j]));
  return *std::max_element(part, part + 8);
}

/// fn(row in double, which it may change, the largest magnitude in it, index) for every row of a
/// matrix of float or double, real or complex.
template <class F>
void for_each_row(const ArrayRef& rows, F&& fn) {
  const auto walk = [&]<class S>() {
    const MatrixView<const S> a = rows.matrices<const S>()[0];
    using D = std::conditional_t<is_complex_v<S>, std::complex<double>, double>;
    std::vector<D> row(static_cast<std::size_t>(a.cols));
    auto* reals = reinterpret_cast<double*>(row.data());
    const index_t count = is_complex_v<S> ? 2 * a.cols : a.cols;
    for (index_t i = 0; i < a.rows; ++i) {
      const S* from = a.data + i * a.row_stride;
      for (index_t j = 0; j < a.cols; ++j)
        row[static_cast<std::size_t>(j)] = static_cast<D>(from[j * a.col_stride]);
      fn(reals, largest_of(reals, count), i);
    }
  };
  if (rows.dtype == DType::float32)
    walk.template operator()<float>();
  else if (rows.dtype == DType::float64)
    walk.template operator()<double>();
  else if (rows.dtype == DType::complex64)
    walk.template operator()<std::complex<float>>();
  else
    walk.template operator()<std::complex<double>>();
}

/// x^T y in eight parts, so that the loop vectorizes; no term meets more than n/8 + 4 roundings.
inline double dot(const double* x, const double* y, index_t n) {
  double part[8] = {};
  index_t j = 0;
  for (; j + 8 <= n; j += 8)
    for (int l = 0; l < 8; ++l) part[l] += x[j + l] * y[j + l];
  double sum =
      ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
  for (; j < n; ++j) sum += x[j] * y[j];
  return sum;
}

/// x y^H of rows of n numbers. Complex: no product of parts meets more than n/4 + 8 roundings.
inline double inner(const double* x, const double* y, index_t n) { return dot(x, y, n); }
inline std::complex<double> inner(const std::complex<double>* x, const std::complex<double>* y,
                                  index_t n) {
  const auto* a = reinterpret_cast<const double*>(x);
  const auto* b = reinterpret_cast<const double*>(y);
  double part[4] = {};
  index_t j = 0;
  for (; j + 4 <= n; j += 4)
    for (int l = 0; l < 4; ++l)
      part[l] += a[2 * (j + l) + 1] * b[2 * (j + l)] - a[2 * (j + l)] * b[2 * (j + l) + 1];
  double imaginary = (part[0] + part[1]) + (part[2] + part[3]);
  for (; j < n; ++j) imaginary += a[2 * j + 1] * b[2 * j] - a[2 * j] * b[2 * j + 1];
  return {dot(a, b, 2 * n), imaginary};
}

/// Times a number of modulus 1 such that the largest entry becomes real and positive.
template <class T>
void turn_to_positive(T* v, index_t n) {
  index_t top = 0;
  for (index_t j = 1; j < n; ++j)
    if (std::abs(v[j]) > std::abs(v[top])) top = j;
  if constexpr (is_complex_v<T>) {
    const double length = std::abs(v[top]);
    if (length == 0) return;
    const T turn = std::conj(v[top]) / length;
    for (index_t j = 0; j < n; ++j) v[j] *= turn;
    v[top] = length;
  } else if (v[top] < 0) {
    for (index_t j = 0; j < n; ++j) v[j] = -v[j];
  }
}

}  // namespace gramian::detail
