// Bounds on rounding errors, and directed rounding of results: what every certificate is made of.
// The constants are derived in docs/bounds.md, under the same names. They hold for float64 with
// rounding to nearest, for sums in any order, with or without fused multiply-add.
#pragma once

#include <cmath>
#include <limits>

#include "gramian/matrix_view.hpp"

namespace gramian::rounding {

/// Unit roundoff of float64.
inline constexpr double u = 0x1p-53;

/// g(j): a sum of products in which no term passes through more than j roundings is off by at most
/// g(j) times the sum of the terms' magnitudes. Real: gamma_j = j u / (1 - j u). Complex, in
/// modulus: sqrt(2) gamma_2j. The slack of 1 % also covers every factor 1 + O(u) in the proofs.
template <class T>
constexpr double accumulated(double roundings) {
  return (is_complex_v<T> ? 3.0 : 1.01) * u * roundings;
}

/// Bounds on the results of a few operations, each rounded to nearest.
inline double raise(double v) { return v + 8 * u * std::abs(v); }
inline double reduce(double v) { return v - 8 * u * std::abs(v); }

/// A number of type R at most v 2^exponent, for v >= 0: never infinite.
template <class R>
R round_down(double v, int exponent) {
  const double scaled = std::ldexp(v, exponent);
  R r = static_cast<R>(scaled);
  // Where ldexp has rounded, it is to a subnormal or to infinity: undone it tells which way.
  if (static_cast<double>(r) > scaled || std::ldexp(static_cast<double>(r), -exponent) > v)
    r = std::nextafter(r, R(0));
  return r;
}

/// A number of type R at least v 2^exponent, for v >= 0; infinity where there is no other.
template <class R>
R round_up(double v, int exponent) {
  const double scaled = std::ldexp(v, exponent);
  R r = static_cast<R>(scaled);
  if (static_cast<double>(r) < scaled || std::ldexp(static_cast<double>(r), -exponent) < v)
    r = std::nextafter(r, std::numeric_limits<R>::infinity());
  return r;
}

}  // namespace gramian::rounding
