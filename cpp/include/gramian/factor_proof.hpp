// What a Cholesky factor proves whose product has been compared with the matrix: docs/bounds.md, "A
// factorization that is verified". However the factor came about.
#pragma once

#include <cmath>

#include "gramian/matrix_view.hpp"
#include "gramian/rounding.hpp"

namespace gramian::detail {

/// Of a product of so many terms, summed in any order, and a rounding to spare.
template <class T>
double product_error(index_t terms) {
  return rounding::accumulated<T>(static_cast<double>(terms) + 1);
}

/// What a Cholesky factor L of s I - G proves, given the sum of squares of s I - G - L L^H as
/// computed: an upper bound on lambda_1(G), s > 0. NaN or infinity if nothing.
template <class T>
double upper_by_factor(double s, double squares, index_t m) {
  const double n = static_cast<double>(m);
  // The parts, of 32 x 32 entries, are added up one by one.
  const double residual =
      std::sqrt(squares) * (1 + rounding::accumulated<double>(n * n * 0x1p-11 + n + 128));
  const double rounded = product_error<T>(m + 3) * (n * s + std::sqrt(n) * residual);
  return rounding::raise(s + rounding::raise(residual + rounded));
}

/// By how much that is above s, relatively, where the factorization was a good one: the
/// verification's rounding, and that of the factorization, which is of the same kind.
template <class T>
double factor_error(index_t m) {
  const double n = static_cast<double>(m);
  return n * product_error<T>(m + 3) + 64 * n * rounding::u;
}

}  // namespace gramian::detail
