// The LAPACK routines in use, on Hermitian matrices that are row-major here and column-major to
// LAPACK: it sees the conjugate, which has the same eigenvalues and Cholesky pivots.
#pragma once

#include <complex>
#include <cstddef>

#include "blas.hpp"
#include "gramian/matrix_view.hpp"

#if defined(GRAMIAN_SCIPY_OPENBLAS)
#define GRAMIAN_LAPACK(name) scipy_##name##_
#else
#define GRAMIAN_LAPACK(name) name##_
#endif

extern "C" {
void GRAMIAN_LAPACK(dpotrf)(const char*, const int*, double*, const int*, int*, std::size_t);
void GRAMIAN_LAPACK(zpotrf)(const char*, const int*, std::complex<double>*, const int*, int*,
                            std::size_t);
void GRAMIAN_LAPACK(dsyevr)(const char*, const char*, const char*, const int*, double*, const int*,
                            const double*, const double*, const int*, const int*, const double*,
                            int*, double*, double*, const int*, int*, double*, const int*, int*,
                            const int*, int*, std::size_t, std::size_t, std::size_t);
void GRAMIAN_LAPACK(zheevr)(const char*, const char*, const char*, const int*,
                            std::complex<double>*, const int*, const double*, const double*,
                            const int*, const int*, const double*, int*, double*,
                            std::complex<double>*, const int*, int*, std::complex<double>*,
                            const int*, double*, const int*, int*, const int*, int*, std::size_t,
                            std::size_t, std::size_t);
}

namespace gramian::detail {

/// A <- its Cholesky factor, in the triangle that LAPACK calls lower. False if a pivot was not
/// positive.
template <class T>
bool cholesky(T* a, index_t order) {
  const int n = static_cast<int>(order);
  int info = 0;
  if constexpr (is_complex_v<T>)
    GRAMIAN_LAPACK(zpotrf)("L", &n, a, &n, &info, 1);
  else
    GRAMIAN_LAPACK(dpotrf)("L", &n, a, &n, &info, 1);
  return info == 0;
}

/// Entries of T and int that top_eigenpair works in, besides the matrix.
constexpr index_t eigenpair_scratch(index_t n) { return 26 * n; }
constexpr index_t eigenpair_integers(index_t n) { return 10 * n + 2; }

/// Approximate eigenvector of the largest eigenvalue of A, which is overwritten; false if LAPACK
/// gives none. `values` holds n doubles, `reals` 24 n.
template <class T>
bool top_eigenvector(T* a, index_t order, double* values, double* reals, T* scratch, int* integers,
                     T* vector) {
  const int n = static_cast<int>(order);
  const int lwork = static_cast<int>(eigenpair_scratch(order));
  const int liwork = 10 * n;
  const double none = 0;
  int found = 0;
  int info = 0;
  int* support = integers + liwork;
  if constexpr (is_complex_v<T>) {
    const int lrwork = 24 * n;
    GRAMIAN_LAPACK(zheevr)("V", "I", "L", &n, a, &n, &none, &none, &n, &n, &none, &found, values,
                           vector, &n, support, scratch, &lwork, reals, &lrwork, integers, &liwork,
                           &info, 1, 1, 1);
    for (int i = 0; i < n; ++i) vector[i] = std::conj(vector[i]);
  } else {
    GRAMIAN_LAPACK(dsyevr)("V", "I", "L", &n, a, &n, &none, &none, &n, &n, &none, &found, values,
                           vector, &n, support, scratch, &lwork, integers, &liwork, &info, 1, 1, 1);
  }
  return info == 0 && found == 1;
}

}  // namespace gramian::detail
