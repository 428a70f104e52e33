// The proved bracket of a matrix, and how its figures are rounded to what is returned: the same
// wherever it was computed. Names as in docs/bounds.md.
#pragma once

#include <algorithm>
#include <cmath>

#include "gramian/rounding.hpp"

namespace gramian::detail {

/// lower <= sigma_1(X) <= upper, proved; the other figures are estimates.
struct Proved {
  double lower;
  double upper;
  double estimate;
  double stable_rank;
  int iterations;
};

/// What a bracket should reach, once it is rounded to the type of the results.
struct Goal {
  double rtol;
  int exponent;  // X is 2^-exponent times the input
  bool single;   // results are float32

  /// An upper bound on 2^-exponent sigma_1 that, rounded outwards, is within rtol of this lower
  /// one rounded outwards, with an ulp to spare for whoever divides the two.
  double upper(double lower) const {
    const double returned = single
                                ? static_cast<double>(rounding::round_down<float>(lower, exponent))
                                : rounding::round_down<double>(lower, exponent);
    return std::ldexp(returned, -exponent) * (1 + rtol) * (1 - (single ? 0x1p-22 : 0x1p-51));
  }
};

/// What is returned of it. R is the type of the results.
template <class R>
struct BracketFigures {
  R lower;
  R upper;
  R converged;  // 1 or 0
  R estimate;
  R stable_rank;
};

template <class R>
bool within(R lower, R upper, double rtol) {
  if (upper == R(0)) return true;
  // As whoever divides them would find, in either precision.
  const double ratio = static_cast<double>(upper) / static_cast<double>(lower);
  return ratio - 1 <= rtol && static_cast<double>(upper / lower - R(1)) <= rtol;
}

/// Of 2^exponent X, rounded outwards. NaN and 0 stay what they are.
template <class R>
BracketFigures<R> returned(const Proved& proved, int exponent, double rtol) {
  const R lower = rounding::round_down<R>(proved.lower, exponent);
  const R upper = rounding::round_up<R>(proved.upper, exponent);
  const R estimate = static_cast<R>(std::ldexp(proved.estimate, exponent));
  return {lower, upper, static_cast<R>(within(lower, upper, rtol)),
          std::clamp(estimate, lower, upper), static_cast<R>(proved.stable_rank)};
}

}  // namespace gramian::detail
