// Norms and estimates of the ends of a spectrum, which the polar factor's roads are chosen by.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <vector>

#include "blas.hpp"
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

/// y <- beta y + A x, or A^H x, for rows x cols of A.
template <class T>
void gemv(bool adjoint, index_t rows, index_t cols, const T* a, index_t lda, const T* x, T beta,
          T* y) {
  const auto op = !adjoint ? CblasNoTrans : is_complex_v<T> ? CblasConjTrans : CblasTrans;
  const int m = static_cast<int>(rows);
  const int n = static_cast<int>(cols);
  const int ld = static_cast<int>(lda);
  const T one = 1;
  if constexpr (std::is_same_v<T, float>)
    GRAMIAN_BLAS(cblas_sgemv)(CblasRowMajor, op, m, n, one, a, ld, x, 1, beta, y, 1);
  else if constexpr (std::is_same_v<T, double>)
    GRAMIAN_BLAS(cblas_dgemv)(CblasRowMajor, op, m, n, one, a, ld, x, 1, beta, y, 1);
  else if constexpr (std::is_same_v<T, std::complex<float>>)
    GRAMIAN_BLAS(cblas_cgemv)(CblasRowMajor, op, m, n, &one, a, ld, x, 1, &beta, y, 1);
  else
    GRAMIAN_BLAS(cblas_zgemv)(CblasRowMajor, op, m, n, &one, a, ld, x, 1, &beta, y, 1);
}

/// What powers of X^H X tell without its being formed.
struct PowerEstimate {
  double largest;  // of the singular values, from below
  double width;    // ||(X^H X / tau - I) v|| for a random v, tau the mean eigenvalue: in the mean
                   // over v it is ||X^H X / tau - I||_F
};

/// Of a square X of Frobenius norm `norm`, rows ld apart. room: 4 ld doubles.
template <class T>
PowerEstimate power_estimate(const T* x, index_t m, index_t ld, double norm, double* room) {
  T* v = reinterpret_cast<T*>(room);
  T* w = reinterpret_cast<T*>(room + 2 * ld);
  const double mean = norm * norm / static_cast<double>(m);
  const auto size = [m](const T* of) {
    double sum = 0;
    for (index_t i = 0; i < m; ++i) sum += squared(of[i]);
    return std::sqrt(sum);
  };
  for (index_t i = 0; i < m; ++i)
    v[i] = static_cast<real_t<T>>(std::sqrt(3.0) * random_entry(5, static_cast<std::uint64_t>(i)));
  PowerEstimate estimate{};
  for (int round = 0; round < 6; ++round) {
    const double before = size(v);
    if (!(before > 0)) break;
    // X a few rows at a time, which stay in cache for both products.
    constexpr index_t band = 64;
    T y[band];
    std::fill_n(w, m, T{});
    for (index_t i = 0; i < m; i += band) {
      const index_t rows = std::min(band, m - i);
      gemv<T>(false, rows, m, x + i * ld, ld, v, T(0), y);
      gemv<T>(true, rows, m, x + i * ld, ld, y, T(1), w);
    }
    if (round == 0) {
      double sum = 0;
      for (index_t i = 0; i < m; ++i)
        sum += squared(w[i] * static_cast<real_t<T>>(1 / mean) - v[i]);
      estimate.width = std::sqrt(sum);
    }
    const double after = size(w);
    estimate.largest = std::sqrt(after / before);
    for (index_t i = 0; i < m; ++i) v[i] = w[i] * static_cast<real_t<T>>(1 / after);
  }
  return estimate;
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

/// x^H y down two columns `step` apart in memory, compensated (Neumaier): sums in double whose
/// error does not grow with their length.
template <class T>
wide_t<T> careful_dot(const T* x, const T* y, index_t count, index_t step) {
  using D = wide_t<T>;
  D sum{};
  D lost{};
  const auto add = [](double& s, double& c, double v) {
    const double t = s + v;
    c += std::abs(s) >= std::abs(v) ? (s - t) + v : (v - t) + s;
    s = t;
  };
  for (index_t i = 0; i < count; ++i) {
    const D v = conjugate(static_cast<D>(x[i * step])) * static_cast<D>(y[i * step]);
    if constexpr (is_complex_v<T>) {
      auto* const s = reinterpret_cast<double*>(&sum);
      auto* const c = reinterpret_cast<double*>(&lost);
      add(s[0], c[0], v.real());
      add(s[1], c[1], v.imag());
    } else {
      add(sum, lost, v);
    }
  }
  return sum + lost;
}

/// ||I - G||_F / sqrt(m), or ||G - G^2||_F / sqrt(rank), for the Gram matrix G of the columns of w.
/// Slow, for where faster sums leave doubt. g and e: room for m x m entries, rows ld apart; G - I
/// is left in g.
template <class T>
double careful_residual(Context& ctx, MatrixView<const T> w, index_t rank, T* g, T* e, index_t ld) {
  const index_t m = w.cols;
  const bool full = rank == m;
  // Of I - G, whose entries are small: rounding them to T changes nothing.
  ctx.run(m, [&](index_t i, int) {
    for (index_t j = 0; j < m; ++j)
      g[i * ld + j] = static_cast<T>(careful_dot(w.data + i, w.data + j, w.rows, w.row_stride) -
                                     wide_t<T>(full && i == j ? 1.0 : 0.0));
  });
  if (!full)
    ctx.run(m, [&](index_t i, int) {
      for (index_t j = 0; j < m; ++j)
        e[i * ld + j] = static_cast<T>(careful_dot(g + i, g + j, m, ld) -
                                       static_cast<wide_t<T>>(g[i * ld + j]));
    });
  double squares = 0;
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < m; ++j) squares += squared((full ? g : e)[i * ld + j]);
  if (!full)
    for (index_t i = 0; i < m; ++i) g[i * ld + i] -= real_t<T>(1);
  return std::sqrt(squares / static_cast<double>(rank));
}

/// W <- W (I - E / 2) with E = G - I in e, small: one cubic step, of which only the correction
/// rounds.
template <class T>
void orthogonalize(Context& ctx, MatrixView<T> w, const T* e, index_t ld) {
  ctx.run(w.rows, [&](index_t i, int) {
    T* const row = w.data + i * w.row_stride;
    std::vector<T> old(row, row + w.cols);
    for (index_t j = 0; j < w.cols; ++j) {
      T sum{};
      for (index_t k = 0; k < w.cols; ++k) sum += old[static_cast<std::size_t>(k)] * e[k * ld + j];
      row[j] -= sum / real_t<T>(2);
    }
  });
}

}  // namespace gramian::detail
