// The constants of Frequent Directions and its certificate, one place for every device. Names and
// proofs: docs/streaming_frequent_directions.md.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "gramian/rounding.hpp"

namespace gramian::detail {

/// Relative roundings that a row meets in being weighted, centred and decayed: |dB^H B| <= this
/// times ||B||_F^2 each time the rows are settled.
inline constexpr double row_rounding = 32 * rounding::u;

/// What is proved of computed eigenpairs of K = M M^H: K = O Lambda O^H up to `error`, and the
/// computed U is within `skew` of the unitary O.
struct EigenProof {
  double trace = 0;  // ||M||_F^2, from above
  double norm = 0;   // ||K||, from above
  double error = 0;
  double skew = 0;
};

/// delta and rounding that one shrinking adds; `lambda` is the largest eigenvalue dropped, of which
/// no more is taken off the others.
struct ShrinkCost {
  double delta;
  double rounding;
};

template <class T>
ShrinkCost shrink_cost(const EigenProof& p, double lambda, double held, double kept) {
  const double norm = p.norm + p.error;
  const double delta = lambda + 5 * rounding::u * norm + p.error;
  const double product =
      rounding::accumulated<T>(held + 2) * std::sqrt(kept) * (1 + p.skew) * std::sqrt(p.trace);
  const double rounded =
      2.1 * p.skew * norm + 2 * (1 + p.skew) * std::sqrt(norm) * product + product * product;
  return {delta * (1 + 64 * rounding::u), rounded * (1 + 64 * rounding::u)};
}

/// sin(theta) from sin(2 theta) <= taken / gap with theta below 45 degrees; infinity if unknown.
inline double half_angle_sine(double taken, double gap) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (!(gap > 0) || !(taken < gap)) return infinity;
  const double s = std::min(rounding::raise(taken / gap), 1.0);
  if (s >= 1) return infinity;
  const double c = std::sqrt((1 - s) * (1 + s));
  return rounding::raise(s / std::sqrt(2 * (1 + c)));
}

/// v 2^exponent for v >= 0, never rounded to zero.
inline double scaled_up(double v, int exponent) {
  const double r = std::ldexp(v, exponent);
  return v > 0 ? std::max(r, 0x1p-1000) : r;
}

}  // namespace gramian::detail
