// The last resort: singular vectors or eigenvectors, in double. For the polar factor they decide
// which singular values lie above the cutoff, and give the partial isometry of those.
#pragma once

#include <cmath>

#include "small_lapack.hpp"

extern "C" {
void GRAMIAN_LAPACK(dgesvd)(const char*, const char*, const int*, const int*, double*, const int*,
                            double*, double*, const int*, double*, const int*, double*, const int*,
                            int*, std::size_t, std::size_t);
void GRAMIAN_LAPACK(zgesvd)(const char*, const char*, const int*, const int*, std::complex<double>*,
                            const int*, double*, std::complex<double>*, const int*,
                            std::complex<double>*, const int*, std::complex<double>*, const int*,
                            double*, int*, std::size_t, std::size_t);
}

namespace gramian::detail {

/// As small_svd, by QR iteration: slower, and its small singular values are off by a few units.
/// Divide and conquer was seen to give 7e-15 for 3e-16 next to a repeated 1, above a cutoff of
/// 4e-15.
template <class D>
SmallSvd<D> careful_svd(Small<D> a) {
  const int n = static_cast<int>(a.rows);
  SmallSvd<D> out{Small<D>(n, n), std::vector<double>(static_cast<std::size_t>(n)), Small<D>(n, n)};
  const int lwork = 64 * std::max(n, 1) + 8 * n;
  std::vector<D> work(static_cast<std::size_t>(lwork));
  int info = 0;
  // Transposed in and out: see small_svd.
  if constexpr (is_complex_v<D>) {
    std::vector<double> reals(static_cast<std::size_t>(5 * n));
    GRAMIAN_LAPACK(zgesvd)("A", "A", &n, &n, a.data(), &n, out.s.data(), out.vh.data(), &n,
                           out.u.data(), &n, work.data(), &lwork, reals.data(), &info, 1, 1);
  } else {
    GRAMIAN_LAPACK(dgesvd)("A", "A", &n, &n, a.data(), &n, out.s.data(), out.vh.data(), &n,
                           out.u.data(), &n, work.data(), &lwork, &info, 1, 1);
  }
  return out;
}

/// The matrix to be decomposed, as Q times a square one, in double.
template <class T>
struct SquareInDouble {
  using D = wide_t<T>;
  Thin<D> q;  // Y itself where it is square
  Small<D> square;

  explicit SquareInDouble(MatrixView<const T> y) : q(y.rows, y.cols), square(y.cols, y.cols) {
    for (index_t i = 0; i < y.rows; ++i)
      for (index_t j = 0; j < y.cols; ++j) q(i, j) = static_cast<D>(y(i, j));
    if (y.rows > y.cols) {
      square = householder_qr(q);
    } else {
      for (index_t i = 0; i < y.rows; ++i)
        for (index_t j = 0; j < y.cols; ++j) square(i, j) = q(i, j);
    }
  }

  /// W <- Q left[:, :rank] right[:rank, :].
  void put(const Small<D>& left, const Small<D>& right, index_t rank, MatrixView<T> w) const {
    const index_t n = w.rows;
    const index_t m = w.cols;
    Small<D> factor(m, m);
    if (rank > 0)
      gemm<D>(false, false, m, m, rank, D(1), left.data(), m, right.data(), m, D(0), factor.data(),
              m);
    Thin<D> product;
    if (n > m) {
      product = Thin<D>(n, m);
      gemm<D>(false, false, n, m, m, D(1), q.row(0), q.ld, factor.data(), m, D(0), product.row(0),
              product.ld);
    }
    for (index_t i = 0; i < n; ++i)
      for (index_t j = 0; j < m; ++j)
        w(i, j) = static_cast<T>(n > m ? product(i, j) : factor(i, j));
  }
};

/// W <- sum of f(sigma_i, sigma_1) u_i v_i^H for a tall Y, up to the first i where f is 0; returns
/// the number of terms. With a cutoff, singular values near to it are found with care.
template <class T, class F>
index_t function_by_svd(MatrixView<const T> y, double cutoff, const F& f, MatrixView<T> w) {
  SquareInDouble<T> decomposed(y);
  auto svd = small_svd(decomposed.square);
  const bool near = std::any_of(svd.s.begin(), svd.s.end(), [&](double s) {
    return s > cutoff / 4 * svd.s[0] && s < (cutoff + 0x1p-43) * svd.s[0];
  });
  if (cutoff > 0 && near) svd = careful_svd(std::move(decomposed.square));
  const index_t m = y.cols;
  index_t rank = 0;
  for (; rank < m; ++rank) {
    const double value = f(svd.s[static_cast<std::size_t>(rank)], svd.s[0]);
    if (!(value > 0)) break;
    for (index_t i = 0; i < m; ++i) svd.u(i, rank) *= value;
  }
  decomposed.put(svd.u, svd.vh, rank, w);
  return rank;
}

/// The polar factor for singular values above `cutoff` sigma_1; returns their number.
template <class T>
index_t polar_by_svd(MatrixView<const T> y, double cutoff, MatrixView<T> w) {
  return function_by_svd<T>(
      y, cutoff, [=](double s, double top) { return s > cutoff * top ? 1.0 : 0.0; }, w);
}

/// The sign of a Hermitian Y, eigenvalues up to `cutoff` of the largest magnitude going to 0.
template <class T>
index_t sign_by_eigenvectors(MatrixView<const T> y, double cutoff, MatrixView<T> w) {
  using D = wide_t<T>;
  SquareInDouble<T> decomposed(y);
  const Eigen<D> eigen = hermitian_eigen(std::move(decomposed.square));
  const index_t m = y.cols;
  double top = 0;
  for (double v : eigen.values) top = std::max(top, std::abs(v));
  Small<D> left(m, m);
  Small<D> right(m, m);
  index_t rank = 0;
  for (index_t k = 0; k < m; ++k) {
    const double value = eigen.values[static_cast<std::size_t>(k)];
    if (!(std::abs(value) > cutoff * top)) continue;
    for (index_t i = 0; i < m; ++i) {
      left(i, rank) = (value > 0 ? 1.0 : -1.0) * eigen.vectors(i, k);
      right(rank, i) = conjugate(eigen.vectors(i, k));
    }
    ++rank;
  }
  decomposed.put(left, right, rank, w);
  return rank;
}

}  // namespace gramian::detail
