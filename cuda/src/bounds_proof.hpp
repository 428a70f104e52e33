// The proof of docs/bounds.md on a GPU: what follows from the figures of a Gram matrix computed
// there, under the names of that page. Runs on the host.
#pragma once

#include <algorithm>
#include <cmath>

#include "bounds_passes.hpp"
#include "gramian/bracket_figures.hpp"
#include "gramian/factor_proof.hpp"

namespace gramian::cuda {

using detail::factor_error;
using detail::product_error;
using detail::upper_by_factor;

/// Above the root of a sum of squares that came in parts and was added up by follow().
inline double norm_above(double squares, index_t m) {
  const double n = static_cast<double>(m);
  return std::sqrt(squares) *
         (1 + rounding::accumulated<double>(n * n * 0x1p-18 + n * 0x1p-10 + 128));
}

/// Bounds on sigma_1^2 of an m x n matrix X, from the figures of its Gram matrix G.
template <class T>
class SquaredBounds {
 public:
  SquaredBounds(const SquareFigures& g, index_t m, index_t n)
      : m_(static_cast<double>(m)),
        trace_(g.trace),
        error_(product_error<T>(n) * g.trace),
        lower_(g.top - error_),
        estimate_(g.top),
        upper_(g.trace * (1 + rounding::accumulated<double>(m_)) + error_) {}

  double trace() const { return trace_; }
  double error() const { return error_; }
  double lower() const { return lower_; }
  double estimate() const { return estimate_; }

  /// v^H G v / v^H v as computed, for any v. What is above the trace came of under- or overflow.
  void use_quotient(double quotient) {
    if (!(quotient > estimate_ && quotient <= 1.001 * trace_)) return;
    estimate_ = quotient;
    const double rounded = rounding::accumulated<T>(3 * m_ + 8) * trace_;
    lower_ = std::max(lower_, rounding::reduce(quotient - rounded) - error_);
  }

  /// An upper bound on lambda_1(G).
  void use_upper(double top) { upper_ = std::min(upper_, rounding::raise(top + error_)); }

  detail::Proved proved(int iterations) const {
    const double lower = std::max(lower_, 0.0);
    const double estimate = std::clamp(estimate_, lower, upper_);
    return {rounding::reduce(std::sqrt(lower)), rounding::raise(std::sqrt(upper_)),
            std::sqrt(estimate), std::max(1.0, trace_ / estimate), iterations};
  }

 private:
  double m_, trace_;
  double error_;  // of G, in the spectral norm
  double lower_, estimate_, upper_;
};

/// A quotient from its parts.
inline double quotient_of(const double* parts, index_t blocks) {
  double above = 0;
  double below = 0;
  for (index_t i = 0; i < blocks; ++i) {
    above += parts[2 * i];
    below += parts[2 * i + 1];
  }
  return above / below;
}

/// How far tr(H^2) / tr(H) <= lambda_1(H) <= ||H||_F leave lambda_1(G) open, H its t-th square.
inline double spread(const SquareFigures& h, index_t m, int t) {
  return std::ldexp(h.trace / norm_above(h.squares, m) - 1, -t);
}

/// An upper bound on lambda_1(G) from the figures of G and its squares:
/// ||H_t||^2 <= 4^e ||H_{t+1}|| + rounding ||H_t||_F^2, from the last back to the first.
template <class T, class Figures>
double upper_by_squares(Figures&& figures, index_t m, int squarings) {
  double top = norm_above(figures(squarings).squares, m);
  for (int t = squarings; t-- > 0;) {
    const SquareFigures h = figures(t);
    const double size = norm_above(h.squares, m);
    top = rounding::raise(std::sqrt(rounding::raise(
        std::ldexp(top, 2 * static_cast<int>(h.exponent)) + product_error<T>(m) * size * size)));
  }
  return top;
}

}  // namespace gramian::cuda
