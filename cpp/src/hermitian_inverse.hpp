// The inverse of a Hermitian positive definite matrix, most of it on the symmetric core:
//
//   A = [A11 A12]    A11 = R11^H R11,  K = R11^-1,  R12 = K^H A12,  S = A22 - R12^H R12,
//       [A21 A22]    Y = K R12,  Z = Y S^-1:
//
//   A^-1 = [K K^H + Z Y^H   -Z ]
//          [    -Z^H       S^-1],
//
// R11 and K by LAPACK, S^-1 likewise. 0.65 n^3 multiply-adds instead of Cholesky's 0.5, at twice
// LAPACK's rate and on all threads. S comes of Cholesky's factor: from B A11^-1 B^H, which would
// save some products, the error was a hundred times larger where A11 is ill-conditioned.
#pragma once

#include <algorithm>

#include "elementwise.hpp"
#include "gramian/symmetric_product.hpp"
#include "polar_lapack.hpp"
#include "thin.hpp"

namespace gramian::detail {

// Blocks up to this order are LAPACK's.
inline constexpr index_t inverted_whole = 128;

/// The inverse by Cholesky's factors, both triangles; false if a pivot was not positive.
template <class T>
bool inverse_whole(T* a, index_t n, index_t ld) {
  if (!cholesky_inverse(a, n, ld)) return false;
  for (index_t i = 0; i < n; ++i) {
    a[i * ld + i] = std::real(a[i * ld + i]);
    for (index_t j = 0; j < i; ++j) a[i * ld + j] = conjugate(a[j * ld + i]);
  }
  return true;
}

/// Bytes of workspace, threads included.
template <class T>
std::size_t inverse_workspace(index_t n, int threads) {
  if (n <= inverted_whole) return 0;
  const index_t half = n - n / 2;
  return Workspace::bytes_for<T>(half * half) + packed_hermitian_bytes<T>(half) +
         std::max(product_workspace<T>(half, half), apply_workspace<T>(half, half, threads));
}

/// A <- A^-1, rows ld apart; false if it is not positive definite in this arithmetic, and then it
/// is lost.
template <class T>
bool invert_hermitian(Context& ctx, T* a, index_t n, index_t ld, Workspace workspace) {
  if (n <= inverted_whole) return inverse_whole(a, n, ld);
  Workspace mine = workspace;  // the second half works in the same
  const index_t first = n / 2;
  const index_t rest = n - first;
  T* room = mine.take<T>(rest * rest);
  const std::size_t bytes = packed_hermitian_bytes<T>(rest);
  const Workspace packed(mine.take<std::byte>(static_cast<index_t>(bytes)), bytes);
  const MatrixView<T> top{a, first, first, ld, 1};
  const MatrixView<T> low{a + first * ld + first, rest, rest, ld, 1};
  const MatrixView<T> x{a + first, first, rest, ld, 1};

  if (!inverse_cholesky(top.data, first, ld)) return false;
  for (index_t i = 1; i < first; ++i) std::fill_n(&top(i, 0), i, T{});
  apply<T>(ctx, top, Side::left, real_t<T>(1), x, mine, packed);  // K^H A12
  Update<T> minus;
  minus.alpha = -1;
  minus.beta = 1;
  minus.d = low;
  gram<T>(ctx, x, Side::right, minus, low, mine);
  const MatrixView<T> adjoint = row_major(room, first, first);
  map_entries<T, T>(ctx, top, adjoint.transposed(), [](const T& v) { return conjugate(v); });
  apply<T>(ctx, adjoint, Side::left, real_t<T>(1), x, mine, packed);  // Y
  gram<T>(ctx, adjoint, Side::right, {}, top, mine);
  if (!invert_hermitian(ctx, low.data, rest, ld, workspace)) return false;

  const MatrixView<T> y = row_major(room, first, rest);
  map_entries<T, T>(ctx, x, y, [](const T& v) { return v; });
  apply<T>(ctx, low, Side::right, real_t<T>(-1), x, mine, packed);  // -Z
  Update<T> plus;
  plus.alpha = -1;
  plus.beta = 1;
  plus.d = top;
  hermitian_cross<T>(ctx, y, x, Side::left, plus, top, mine);
  const MatrixView<T> below{a + first * ld, rest, first, ld, 1};
  map_entries<T, T>(ctx, x, below.transposed(), [](const T& v) { return conjugate(v); });
  return true;
}

}  // namespace gramian::detail
