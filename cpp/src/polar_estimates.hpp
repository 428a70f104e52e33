// Norms and estimates of the ends of a spectrum, which the polar factor's roads are chosen by.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>

#include "gramian/start_vector.hpp"
#include "polar_lapack.hpp"
#include "thin.hpp"

namespace gramian::detail {

/// ||A||_F of the upper triangle, or of all, in double.
template <class T>
double window_norm(const T* a, index_t rows, index_t cols, index_t ld, bool upper_only) {
  double sum = 0;
  for (index_t i = 0; i < rows; ++i) {
    double row = 0;
    for (index_t j = upper_only ? i : 0; j < cols; ++j) row += squared(a[i * ld + j]);
    sum += row;
  }
  return std::sqrt(sum);
}

/// An estimate of the largest eigenvalue of a Hermitian H, from below, by a few powers of it. room:
/// 4 ld doubles.
template <class T>
double largest_eigenvalue(const T* h, index_t m, index_t ld, double* room) {
  using D = wide_t<T>;
  auto* v = reinterpret_cast<D*>(room);
  auto* y = reinterpret_cast<D*>(room + 2 * ld);
  for (index_t i = 0; i < m; ++i) v[i] = random_entry(5, static_cast<std::uint64_t>(i));
  double growth = 0;
  for (int round = 0; round < 6; ++round) {
    double before = 0;
    for (index_t i = 0; i < m; ++i) before += squared(v[i]);
    std::fill_n(y, m, D{});
    for (index_t i = 0; i < m; ++i) {
      const T scaled = static_cast<T>(v[i] / std::sqrt(before));
      const T* row = h + i * ld;  // its columns are its rows, conjugated
      for (index_t j = 0; j < m; ++j) y[j] += static_cast<D>(conjugate(row[j]) * scaled);
    }
    growth = 0;
    for (index_t i = 0; i < m; ++i) growth += squared(y[i]);
    std::swap(v, y);
  }
  return std::sqrt(growth);
}

/// K v and K^H v for an upper triangular K, rows ld apart.
template <class T>
void triangle_times(const T* k, index_t m, index_t ld, const wide_t<T>* v, wide_t<T>* y) {
  for (index_t i = 0; i < m; ++i) {
    wide_t<T> sum{};
    for (index_t j = i; j < m; ++j) sum += static_cast<wide_t<T>>(k[i * ld + j]) * v[j];
    y[i] = sum;
  }
}
template <class T>
void adjoint_triangle_times(const T* k, index_t m, index_t ld, const wide_t<T>* v, wide_t<T>* y) {
  std::fill_n(y, m, wide_t<T>{});
  for (index_t i = 0; i < m; ++i)
    for (index_t j = i; j < m; ++j) y[j] += conjugate(static_cast<wide_t<T>>(k[i * ld + j])) * v[i];
}

/// An estimate of the smallest singular value of X from its Gram matrix, by powers of the inverse:
/// too large by little, which costs a step (Taylor's rows go on from any sigma > 0). 0 where G has
/// no Cholesky factor. room: as large as g; doubles: 4 ld.
template <class T>
double smallest_of_gram(const T* g, index_t m, index_t ld, T* room, double* doubles) {
  using D = wide_t<T>;
  std::copy_n(g, m * ld, room);
  if (!inverse_cholesky(room, m, ld)) return 0;
  // K: G^-1 or its conjugate is K K^H or K^H K; either has its eigenvalues.
  auto* v = reinterpret_cast<D*>(doubles);
  auto* y = reinterpret_cast<D*>(doubles + 2 * ld);
  for (index_t i = 0; i < m; ++i) v[i] = random_entry(7, static_cast<std::uint64_t>(i));
  double growth = 0;
  double before = 0;
  for (index_t i = 0; i < m; ++i) before += squared(v[i]);
  before = std::sqrt(before);
  for (int round = 0; round < 8; ++round) {
    triangle_times(room, m, ld, v, y);
    adjoint_triangle_times(room, m, ld, y, v);
    double after = 0;
    for (index_t i = 0; i < m; ++i) after += squared(v[i]);
    after = std::sqrt(after);
    if (!(after > 0) || !std::isfinite(after)) return 0;
    growth = after / before;
    for (index_t i = 0; i < m; ++i) v[i] /= after;
    before = 1;
  }
  const double estimate = 0.7 / std::sqrt(growth);
  const double sure = 1 / window_norm(room, m, m, ld, true);
  return std::max(sure, estimate);
}

}  // namespace gramian::detail
