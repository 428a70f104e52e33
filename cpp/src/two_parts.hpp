// Sums over a stream kept in two parts: what many roundings would add up to is not lost.
#pragma once

#include <cmath>

namespace gramian::detail {

/// Adds to a sum: `low` gathers what `high` has lost.
inline void add_to(double& high, double& low, double term) {
  const double sum = high + term;
  const double part = sum - high;
  low += (high - (sum - part)) + (term - part);
  high = sum;
}

/// The same, and `high` is the sum rounded.
inline void add_rounded(double& high, double& low, double term) {
  add_to(high, low, term);
  const double sum = high + low;
  low -= sum - high;
  high = sum;
}

/// Times a factor; `high` is the product rounded.
inline void multiply(double& high, double& low, double factor) {
  const double product = high * factor;
  const double left = low * factor + std::fma(high, factor, -product);
  high = product + left;
  low = left - (high - product);
}

}  // namespace gramian::detail
