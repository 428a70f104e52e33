// LAPACK on matrices of a few hundred rows, in double, row-major here.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <vector>

#include "lapack.hpp"
#include "thin.hpp"

extern "C" {
void GRAMIAN_LAPACK(dsyevd)(const char*, const char*, const int*, double*, const int*, double*,
                            double*, const int*, int*, const int*, int*, std::size_t, std::size_t);
void GRAMIAN_LAPACK(zheevd)(const char*, const char*, const int*, std::complex<double>*, const int*,
                            double*, std::complex<double>*, const int*, double*, const int*, int*,
                            const int*, int*, std::size_t, std::size_t);
void GRAMIAN_LAPACK(dgesdd)(const char*, const int*, const int*, double*, const int*, double*,
                            double*, const int*, double*, const int*, double*, const int*, int*,
                            int*, std::size_t);
void GRAMIAN_LAPACK(zgesdd)(const char*, const int*, const int*, std::complex<double>*, const int*,
                            double*, std::complex<double>*, const int*, std::complex<double>*,
                            const int*, std::complex<double>*, const int*, double*, int*, int*,
                            std::size_t);
void GRAMIAN_LAPACK(dgeqrf)(const int*, const int*, double*, const int*, double*, double*,
                            const int*, int*);
void GRAMIAN_LAPACK(zgeqrf)(const int*, const int*, std::complex<double>*, const int*,
                            std::complex<double>*, std::complex<double>*, const int*, int*);
void GRAMIAN_LAPACK(dorgqr)(const int*, const int*, const int*, double*, const int*, const double*,
                            double*, const int*, int*);
void GRAMIAN_LAPACK(zungqr)(const int*, const int*, const int*, std::complex<double>*, const int*,
                            const std::complex<double>*, std::complex<double>*, const int*, int*);
}

namespace gramian::detail {

/// Eigenvalues of a Hermitian matrix, descending, and its eigenvectors as columns.
template <class D>
struct Eigen {
  std::vector<double> values;
  Small<D> vectors;
};

template <class D>
Eigen<D> hermitian_eigen(Small<D> a) {
  const int n = static_cast<int>(a.rows);
  Eigen<D> out{std::vector<double>(static_cast<std::size_t>(n)), Small<D>(n, n)};
  if (n == 0) return out;
  int info = 0;
  int lwork = -1;
  int liwork = -1;
  int integer_size = 0;
  D size{};
  if constexpr (is_complex_v<D>) {
    int lrwork = -1;
    double real_size = 0;
    GRAMIAN_LAPACK(zheevd)("V", "L", &n, a.data(), &n, out.values.data(), &size, &lwork, &real_size,
                           &lrwork, &integer_size, &liwork, &info, 1, 1);
    lwork = static_cast<int>(size.real());
    lrwork = static_cast<int>(real_size);
    liwork = integer_size;
    std::vector<D> work(static_cast<std::size_t>(lwork));
    std::vector<double> reals(static_cast<std::size_t>(lrwork));
    std::vector<int> integers(static_cast<std::size_t>(liwork));
    GRAMIAN_LAPACK(zheevd)("V", "L", &n, a.data(), &n, out.values.data(), work.data(), &lwork,
                           reals.data(), &lrwork, integers.data(), &liwork, &info, 1, 1);
  } else {
    GRAMIAN_LAPACK(dsyevd)("V", "L", &n, a.data(), &n, out.values.data(), &size, &lwork,
                           &integer_size, &liwork, &info, 1, 1);
    lwork = static_cast<int>(size);
    liwork = integer_size;
    std::vector<D> work(static_cast<std::size_t>(lwork));
    std::vector<int> integers(static_cast<std::size_t>(liwork));
    GRAMIAN_LAPACK(dsyevd)("V", "L", &n, a.data(), &n, out.values.data(), work.data(), &lwork,
                           integers.data(), &liwork, &info, 1, 1);
  }
  // LAPACK read the transpose, which is the conjugate, and left eigenvector i in our row i.
  std::reverse(out.values.begin(), out.values.end());
  for (index_t i = 0; i < n; ++i)
    for (index_t j = 0; j < n; ++j) out.vectors(j, i) = conjugate(a(n - 1 - i, j));
  return out;
}

/// a = u diag(s) vh of a square matrix.
template <class D>
struct SmallSvd {
  Small<D> u;
  std::vector<double> s;
  Small<D> vh;
};

template <class D>
SmallSvd<D> small_svd(Small<D> a) {
  const int n = static_cast<int>(a.rows);
  SmallSvd<D> out{Small<D>(n, n), std::vector<double>(static_cast<std::size_t>(n)), Small<D>(n, n)};
  if (n == 0) return out;
  int info = 0;
  int lwork = -1;
  D size{};
  std::vector<int> integers(static_cast<std::size_t>(8 * n));
  // Row-major a is a^T to LAPACK: a^T = P S Q gives a = Q^T S P^T, whose factors lie row-major
  // where LAPACK puts Q and P column-major.
  if constexpr (is_complex_v<D>) {
    std::vector<double> reals(static_cast<std::size_t>(5 * n * n + 7 * n));
    GRAMIAN_LAPACK(zgesdd)("A", &n, &n, a.data(), &n, out.s.data(), out.vh.data(), &n, out.u.data(),
                           &n, &size, &lwork, reals.data(), integers.data(), &info, 1);
    lwork = static_cast<int>(size.real());
    std::vector<D> work(static_cast<std::size_t>(lwork));
    GRAMIAN_LAPACK(zgesdd)("A", &n, &n, a.data(), &n, out.s.data(), out.vh.data(), &n, out.u.data(),
                           &n, work.data(), &lwork, reals.data(), integers.data(), &info, 1);
  } else {
    GRAMIAN_LAPACK(dgesdd)("A", &n, &n, a.data(), &n, out.s.data(), out.vh.data(), &n, out.u.data(),
                           &n, &size, &lwork, integers.data(), &info, 1);
    lwork = static_cast<int>(size);
    std::vector<D> work(static_cast<std::size_t>(lwork));
    GRAMIAN_LAPACK(dgesdd)("A", &n, &n, a.data(), &n, out.s.data(), out.vh.data(), &n, out.u.data(),
                           &n, work.data(), &lwork, integers.data(), &info, 1);
  }
  return out;
}

/// Y <- Q of its Householder QR, in double: orthonormal whatever Y holds. Returns R.
template <class T>
Small<wide_t<T>> householder_qr(Thin<T>& y) {
  using D = wide_t<T>;
  const int m = static_cast<int>(y.rows);
  const int n = static_cast<int>(y.cols);
  std::vector<D> a(static_cast<std::size_t>(m) * static_cast<std::size_t>(n));
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < n; ++j)
      a[static_cast<std::size_t>(j * m + i)] = static_cast<D>(y(i, j));
  std::vector<D> tau(static_cast<std::size_t>(n));
  const int lwork = 64 * std::max(n, 1);
  std::vector<D> work(static_cast<std::size_t>(lwork));
  int info = 0;
  if constexpr (is_complex_v<D>)
    GRAMIAN_LAPACK(zgeqrf)(&m, &n, a.data(), &m, tau.data(), work.data(), &lwork, &info);
  else
    GRAMIAN_LAPACK(dgeqrf)(&m, &n, a.data(), &m, tau.data(), work.data(), &lwork, &info);
  Small<D> r(n, n);
  for (index_t i = 0; i < n; ++i)
    for (index_t j = i; j < n; ++j) r(i, j) = a[static_cast<std::size_t>(j * m + i)];
  if constexpr (is_complex_v<D>)
    GRAMIAN_LAPACK(zungqr)(&m, &n, &n, a.data(), &m, tau.data(), work.data(), &lwork, &info);
  else
    GRAMIAN_LAPACK(dorgqr)(&m, &n, &n, a.data(), &m, tau.data(), work.data(), &lwork, &info);
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < n; ++j)
      y(i, j) = static_cast<T>(a[static_cast<std::size_t>(j * m + i)]);
  return r;
}

}  // namespace gramian::detail
