// An orthonormal basis of the columns of Y by Cholesky factors of Gram matrices in double.
//
// CholeskyQR2 (Yamamoto, Nakatsukasa, Yanagisawa, Fukaya, ETNA 44, 2015), on columns scaled to
// length 1: the scaling makes graded columns, as Ritz vectors in descending order give them,
// harmless (van der Sluis). Where a pivot is too small to divide by, the Gram matrix is shifted
// (Fukaya, Kannan, Nakatsukasa, Yamamoto, Yanagisawa, SIAM J. Sci. Comput. 42, 2020); where a
// column is zero or three rounds do not do, Householder QR in double.
#pragma once

#include <cmath>

#include "gramian/dtype.hpp"
#include "small_lapack.hpp"
#include "thin.hpp"

namespace gramian::detail {

/// How often the plain form did not do.
struct Fallbacks {
  int shifted = 0;
  int householder = 0;
};

/// Y <- Y D^-1 R^-1, with R upper triangular and D the lengths of the columns.
template <class T>
void divide_by_triangle(Context& ctx, Thin<T>& y, const Small<wide_t<T>>& r,
                        const std::vector<double>& lengths) {
  const index_t n = y.cols;
  std::vector<T> narrow(r.entries.size());
  for (std::size_t e = 0; e < narrow.size(); ++e) narrow[e] = static_cast<T>(r.entries[e]);
  constexpr index_t band = 256;
  ctx.run((y.rows + band - 1) / band, [&](index_t b, int) {
    const index_t first = b * band;
    const int count = static_cast<int>(std::min(band, y.rows - first));
    for (index_t i = first; i < first + count; ++i)
      for (index_t j = 0; j < n; ++j) {
        // Two steps: the reciprocal of a length near the smallest number overflows.
        if constexpr (is_complex_v<T>)
          y(i, j) = T(static_cast<real_t<T>>(static_cast<double>(y(i, j).real()) /
                                             lengths[static_cast<std::size_t>(j)]),
                      static_cast<real_t<T>>(static_cast<double>(y(i, j).imag()) /
                                             lengths[static_cast<std::size_t>(j)]));
        else
          y(i, j) =
              static_cast<T>(static_cast<double>(y(i, j)) / lengths[static_cast<std::size_t>(j)]);
      }
    const int cols = static_cast<int>(n);
    const int ld = static_cast<int>(y.ld);
    const T one(1);
    if constexpr (std::is_same_v<T, float>) GRAMIAN_BLAS(cblas_strsm)
    (CblasRowMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit, count, cols, one,
     narrow.data(), cols, y.row(first), ld);
    else if constexpr (std::is_same_v<T, double>)
        GRAMIAN_BLAS(cblas_dtrsm)(CblasRowMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit,
                                  count, cols, one, narrow.data(), cols, y.row(first), ld);
    else if constexpr (std::is_same_v<T, std::complex<float>>)
        GRAMIAN_BLAS(cblas_ctrsm)(CblasRowMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit,
                                  count, cols, &one, narrow.data(), cols, y.row(first), ld);
    else GRAMIAN_BLAS(cblas_ztrsm)(CblasRowMajor, CblasRight, CblasUpper, CblasNoTrans,
                                   CblasNonUnit, count, cols, &one, narrow.data(), cols,
                                   y.row(first), ld);
  });
}

/// C <- A B of small square matrices.
template <class D>
Small<D> product(const Small<D>& a, const Small<D>& b) {
  Small<D> c(a.rows, b.cols);
  gemm<D>(false, false, a.rows, b.cols, a.cols, D(1), a.data(), std::max<index_t>(a.cols, 1),
          b.data(), std::max<index_t>(b.cols, 1), D(0), c.data(), std::max<index_t>(b.cols, 1));
  return c;
}

/// Y <- Q with Q^H Q = I to a few units of T; returns R with Y = Q R.
template <class T>
Small<wide_t<T>> orthonormalize(Context& ctx, Thin<T>& y, Fallbacks& fallbacks) {
  using D = wide_t<T>;
  const index_t n = y.cols;
  const double u = unit_roundoff<real_t<T>>;
  const double size = static_cast<double>(std::max<index_t>(n, 1));
  // A pivot below this would leave Q, after division in T, too far from orthonormal for the next
  // round: kappa u <= 1/50; and the pivot itself must stand above the rounding of the Gram matrix.
  const double least = std::max(2500.0 * size * u * u, 1e3 * size * unit_roundoff<double>);
  Small<D> total(n, n);
  for (index_t i = 0; i < n; ++i) total(i, i) = D(1);
  for (int round = 0; round < 4; ++round) {
    Small<D> g = gram_of(ctx, y);
    std::vector<double> lengths(static_cast<std::size_t>(n));
    bool usable = true;
    for (index_t i = 0; i < n; ++i) {
      const double length = std::sqrt(std::abs(g(i, i)));
      usable = usable && length > 0 && std::isfinite(length);
      lengths[static_cast<std::size_t>(i)] = length;
    }
    if (!usable) break;
    double far = 0;
    for (index_t i = 0; i < n; ++i)
      for (index_t j = 0; j < n; ++j) {
        g(i, j) /= lengths[static_cast<std::size_t>(i)] * lengths[static_cast<std::size_t>(j)];
        if (i != j) far = std::max(far, std::abs(g(i, j)));
      }
    // Lengths near one power of two, not near 1: or the scale of Y would choose the rounding.
    int exponent = 0;
    if (n > 0 && std::frexp(lengths[0], &exponent) < 0.75) --exponent;
    for (double length : lengths) far = std::max(far, std::abs(std::ldexp(length, -exponent) - 1));
    const auto factor = [&](double shift) {
      Small<D> r = g;
      for (index_t i = 0; i < n; ++i) r(i, i) += shift;
      // LAPACK's lower triangle of the transpose is our upper one: g^T = L L^H, so with
      // U(i, j) = L(j, i) row-major g = U^H U holds for U as it lies.
      bool good = cholesky(r.data(), n);
      for (index_t i = 0; i < n && good; ++i) good = squared(r(i, i)) >= std::max(least, shift / 2);
      for (index_t i = 0; i < n; ++i)
        for (index_t j = 0; j < i; ++j) r(i, j) = D(0);
      if (!good) r.rows = 0;
      return r;
    };
    Small<D> r = factor(0);
    if (r.rows == 0 && n > 0) {
      ++fallbacks.shifted;
      r = factor(4 * least);
      if (r.rows == 0) break;
    }
    divide_by_triangle(ctx, y, r, lengths);
    for (index_t i = 0; i < n; ++i)
      for (index_t j = i; j < n; ++j) r(i, j) *= lengths[static_cast<std::size_t>(j)];
    total = product(r, total);
    if (far < 0.1) return total;
  }
  ++fallbacks.householder;
  return product(householder_qr(y), total);
}

}  // namespace gramian::detail
