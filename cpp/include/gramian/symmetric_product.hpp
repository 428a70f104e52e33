// The core of the library: products whose result is Hermitian, at half the cost of a full product.
//
//   gram               C = alpha X X^H  or  alpha X^H X
//   hermitian_cross    C = alpha W^H X  or  alpha X W^H,  where that product is Hermitian
//   hermitian_product  C = alpha S Z + beta D + gamma I,  S, Z, D Hermitian, S and Z commuting
//   apply              X <- alpha S X  or  alpha X S,  in place (a full product)
//
// Only tiles that meet the lower triangle are computed; the strict upper triangle is its mirror
// image, so results are Hermitian to the last bit. Every sum runs in an order fixed by the shape:
// the bits do not depend on the number of threads.
//
// Cost: gram m^2 k multiply-adds of the 2 m^2 k that a full product takes, plus the part of the
// tiles on the diagonal that lies above it (about 2 % at m = 1024).
#pragma once

#include <complex>
#include <cstddef>

#include "gramian/context.hpp"
#include "gramian/matrix_view.hpp"
#include "gramian/workspace.hpp"

namespace gramian {

enum class Side {
  left,   // X X^H;  S X
  right,  // X^H X;  X S
};

/// C = alpha * product + beta * D + gamma * I. D is ignored where beta is 0.
template <class T>
struct Update {
  real_t<T> alpha = 1;
  real_t<T> beta = 0;
  MatrixView<const T> d{};
  real_t<T> gamma = 0;
};

/// C (m x m, row-major with adjacent columns) <- update(X X^H or X^H X). X: any strides.
template <class T>
void gram(Context& ctx, MatrixView<const T> x, Side side, const Update<T>& update, MatrixView<T> c,
          Workspace workspace);

/// C <- update(W^H X) (right) or update(X W^H) (left), for W and X of one shape whose product is
/// Hermitian but for rounding, as that of a matrix with its polar factor; X, W: any strides.
template <class T>
void hermitian_cross(Context& ctx, MatrixView<const T> w, MatrixView<const T> x, Side side,
                     const Update<T>& update, MatrixView<T> c, Workspace workspace);

/// C <- update(S Z) for Hermitian m x m matrices that commute, all row-major with adjacent
/// columns; C may be D, but neither S nor Z.
template <class T>
void hermitian_product(Context& ctx, MatrixView<const T> s, MatrixView<const T> z,
                       const Update<T>& update, MatrixView<T> c, Workspace workspace);

/// X <- alpha * S X (left) or alpha * X S (right), S Hermitian; both row-major with adjacent
/// columns. S is packed into `for_s`, which may be memory that its maker no longer needs.
template <class T>
void apply(Context& ctx, MatrixView<const T> s, Side side, real_t<T> alpha, MatrixView<T> x,
           Workspace workspace, Workspace for_s);

/// No term of a sum of length depth passes through more than this many roundings in gram and
/// hermitian_product, if alpha is a power of two: sums are cut into blocks (docs/bounds.md).
index_t product_roundings(index_t depth);

/// Bytes of workspace: of gram, hermitian_cross and hermitian_product for m x m results from sums
/// of length depth or less, of apply, and of apply's for_s.
template <class T>
std::size_t product_workspace(index_t m, index_t depth);
template <class T>
std::size_t apply_workspace(index_t m, index_t long_side, int threads);
template <class T>
std::size_t packed_hermitian_bytes(index_t m);

#define GRAMIAN_DECLARE_PRODUCTS(T)                                                             \
  extern template void gram<T>(Context&, MatrixView<const T>, Side, const Update<T>&,           \
                               MatrixView<T>, Workspace);                                       \
  extern template void hermitian_cross<T>(Context&, MatrixView<const T>, MatrixView<const T>,   \
                                          Side, const Update<T>&, MatrixView<T>, Workspace);    \
  extern template void hermitian_product<T>(Context&, MatrixView<const T>, MatrixView<const T>, \
                                            const Update<T>&, MatrixView<T>, Workspace);        \
  extern template void apply<T>(Context&, MatrixView<const T>, Side, real_t<T>, MatrixView<T>,  \
                                Workspace, Workspace);                                          \
  extern template std::size_t packed_hermitian_bytes<T>(index_t);                               \
  extern template std::size_t product_workspace<T>(index_t, index_t);                           \
  extern template std::size_t apply_workspace<T>(index_t, index_t, int);

GRAMIAN_DECLARE_PRODUCTS(float)
GRAMIAN_DECLARE_PRODUCTS(double)
GRAMIAN_DECLARE_PRODUCTS(std::complex<float>)
GRAMIAN_DECLARE_PRODUCTS(std::complex<double>)
#undef GRAMIAN_DECLARE_PRODUCTS

}  // namespace gramian
