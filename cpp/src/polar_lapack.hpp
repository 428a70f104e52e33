// LAPACK for the polar factor, in all four types, on row-major matrices: LAPACK sees the transpose,
// whose inverse, LQ and Cholesky factors are those wanted, transposed again.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>

#include "lapack.hpp"

#define GRAMIAN_DECLARE_POLAR_LAPACK(c, T, orglq)                                                  \
  extern "C" {                                                                                     \
  void GRAMIAN_LAPACK(c##getrf)(const int*, const int*, T*, const int*, int*, int*);               \
  void GRAMIAN_LAPACK(c##getri)(const int*, T*, const int*, const int*, T*, const int*, int*);     \
  void GRAMIAN_LAPACK(c##gelqf)(const int*, const int*, T*, const int*, T*, T*, const int*, int*); \
  void GRAMIAN_LAPACK(orglq)(const int*, const int*, const int*, T*, const int*, const T*, T*,     \
                             const int*, int*);                                                    \
  void GRAMIAN_LAPACK(c##trtri)(const char*, const char*, const int*, T*, const int*, int*,        \
                                std::size_t, std::size_t);                                         \
  void GRAMIAN_LAPACK(c##potri)(const char*, const int*, T*, const int*, int*, std::size_t);       \
  }                                                                                                \
  namespace gramian::detail {                                                                      \
  inline void getrf(int n, T* a, int lda, int* pivots, int* info) {                                \
    GRAMIAN_LAPACK(c##getrf)(&n, &n, a, &lda, pivots, info);                                       \
  }                                                                                                \
  inline void getri(int n, T* a, int lda, const int* pivots, T* work, int size, int* info) {       \
    GRAMIAN_LAPACK(c##getri)(&n, a, &lda, pivots, work, &size, info);                              \
  }                                                                                                \
  inline void gelqf(int m, int n, T* a, int lda, T* tau, T* work, int size, int* info) {           \
    GRAMIAN_LAPACK(c##gelqf)(&m, &n, a, &lda, tau, work, &size, info);                             \
  }                                                                                                \
  inline void unglq(int m, int n, T* a, int lda, const T* tau, T* work, int size, int* info) {     \
    GRAMIAN_LAPACK(orglq)(&m, &n, &m, a, &lda, tau, work, &size, info);                            \
  }                                                                                                \
  inline void trtri(int n, T* a, int lda, int* info) {                                             \
    GRAMIAN_LAPACK(c##trtri)("L", "N", &n, a, &lda, info, 1, 1);                                   \
  }                                                                                                \
  inline void potri(int n, T* a, int lda, int* info) {                                             \
    GRAMIAN_LAPACK(c##potri)("L", &n, a, &lda, info, 1);                                           \
  }                                                                                                \
  }

GRAMIAN_DECLARE_POLAR_LAPACK(s, float, sorglq)
GRAMIAN_DECLARE_POLAR_LAPACK(d, double, dorglq)
GRAMIAN_DECLARE_POLAR_LAPACK(c, std::complex<float>, cunglq)
GRAMIAN_DECLARE_POLAR_LAPACK(z, std::complex<double>, zunglq)
#undef GRAMIAN_DECLARE_POLAR_LAPACK

extern "C" {
void GRAMIAN_LAPACK(spotrf)(const char*, const int*, float*, const int*, int*, std::size_t);
void GRAMIAN_LAPACK(cpotrf)(const char*, const int*, std::complex<float>*, const int*, int*,
                            std::size_t);
}

namespace gramian::detail {

/// What the routines below work in: LAPACK's blocks are at most 64 wide.
template <class T>
struct LapackRoom {
  T* work;
  T* tau;
  int* pivots;
  int size;

  static std::size_t bytes(index_t n) {
    return Workspace::bytes_for<T>(64 * n) + Workspace::bytes_for<T>(n) +
           Workspace::bytes_for<int>(n);
  }
  LapackRoom(index_t n, Workspace& workspace)
      : work(workspace.take<T>(64 * n)),
        tau(workspace.take<T>(n)),
        pivots(workspace.take<int>(n)),
        size(static_cast<int>(64 * n)) {}
};

/// A <- A^-1, rows ld apart; false if it has none.
template <class T>
bool invert(T* a, index_t order, index_t ld, const LapackRoom<T>& room) {
  const int n = static_cast<int>(order);
  int info = 0;
  getrf(n, a, static_cast<int>(ld), room.pivots, &info);
  if (info == 0) getri(n, a, static_cast<int>(ld), room.pivots, room.work, room.size, &info);
  return info == 0;
}

/// The Cholesky factor of a Hermitian G, in the upper triangle as we read it; the rest is left as
/// it was. False if a pivot was not positive.
template <class T>
bool cholesky_factor(T* g, int n, int lda) {
  int info = 0;
  if constexpr (std::is_same_v<T, float>)
    GRAMIAN_LAPACK(spotrf)("L", &n, g, &lda, &info, 1);
  else if constexpr (std::is_same_v<T, double>)
    GRAMIAN_LAPACK(dpotrf)("L", &n, g, &lda, &info, 1);
  else if constexpr (std::is_same_v<T, std::complex<float>>)
    GRAMIAN_LAPACK(cpotrf)("L", &n, g, &lda, &info, 1);
  else
    GRAMIAN_LAPACK(zpotrf)("L", &n, g, &lda, &info, 1);
  return info == 0;
}

/// For G = L L^H: the inverse of L (or its conjugate), in the same triangle.
template <class T>
bool inverse_cholesky(T* g, index_t order, index_t ld) {
  const int n = static_cast<int>(order);
  const int lda = static_cast<int>(ld);
  int info = 0;
  if (!cholesky_factor(g, n, lda)) return false;
  trtri(n, g, lda, &info);
  return info == 0;
}

/// G^-1, in the same triangle.
template <class T>
bool cholesky_inverse(T* g, index_t order, index_t ld) {
  const int n = static_cast<int>(order);
  const int lda = static_cast<int>(ld);
  int info = 0;
  if (!cholesky_factor(g, n, lda)) return false;
  potri(n, g, lda, &info);
  return info == 0;
}

/// Y = Q R for a tall Y with rows ld apart: Y <- Q, and R into r (rows r_ld apart, zeros below).
template <class T>
bool qr(MatrixView<T> y, T* r, index_t r_ld, const LapackRoom<T>& room) {
  const int m = static_cast<int>(y.cols);
  const int n = static_cast<int>(y.rows);
  const int ld = static_cast<int>(y.row_stride);
  int info = 0;
  gelqf(m, n, y.data, ld, room.tau, room.work, room.size, &info);
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < m; ++j) r[i * r_ld + j] = j < i ? T{} : y(i, j);
  if (info == 0) unglq(m, n, y.data, ld, room.tau, room.work, room.size, &info);
  return info == 0;
}

}  // namespace gramian::detail
