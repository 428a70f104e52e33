// Frequent Directions with few rows (Liberty, KDD 2013; Ghashami, Liberty, Phillips, Woodruff, SIAM
// J. Comput. 45, 2016), with a bound that counts every rounding: docs/streaming.md#the-sketch.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gramian/rounding.hpp"
#include "small_lapack.hpp"

namespace gramian::detail {

// What products of entries and weights lose to underflow, with much room: where decay has brought
// the energy near it, nothing is certified.
inline constexpr double underflowed = 0x1p-760;

/// Eigenvalues and vectors of a Gram matrix K of n rows in d dimensions as computed, and how far
/// from those of the exact K they may be.
struct GramEigen {
  Eigen<double> eigen;
  double trace = 0;  // at least that of K
  double slack = 0;  // bounds every effect of rounding on what is made of the eigenvectors

  GramEigen(const Small<double>& k, index_t d) : eigen(hermitian_eigen(k)) {
    const index_t n = k.rows;
    const Small<double>& v = eigen.vectors;
    for (index_t i = 0; i < n; ++i) trace += k(i, i);
    trace *= 1 + 1e-6;
    Small<double> kv(n, n);
    Small<double> vv(n, n);
    gemm(false, false, n, n, n, 1.0, k.data(), n, v.data(), n, 0.0, kv.data(), n);
    gemm(true, false, n, n, n, 1.0, v.data(), n, v.data(), n, 0.0, vv.data(), n);
    double residual = 0;
    double skew = 0;
    for (index_t i = 0; i < n; ++i)
      for (index_t j = 0; j < n; ++j) {
        const double off = kv(i, j) - v(i, j) * eigen.values[static_cast<std::size_t>(j)];
        residual += off * off;
        const double turn = vv(i, j) - (i == j ? 1.0 : 0.0);
        skew += turn * turn;
      }
    const double roundings = static_cast<double>(d + 10 * n * (n + 4));
    slack = 2 * std::sqrt(residual) +
            (5 * std::sqrt(skew) + rounding::accumulated<double>(roundings)) * trace +
            underflowed * static_cast<double>(n * d);
  }
};

/// How B, of m rows, and new rows X become the next B: coefficients (m, n) of the n rows (B, X),
/// and what that adds to the bounds.
struct Shrinking {
  Small<double> coefficients;
  double above = 0;
  double below = 0;

  Shrinking(const Small<double>& gram, index_t m, index_t d) : coefficients(m, gram.rows) {
    const index_t n = gram.rows;
    const GramEigen g(gram, d);
    const std::vector<double>& values = g.eigen.values;
    const double cut = n > m ? std::max(values[static_cast<std::size_t>(m)], 0.0) : 0.0;
    double dropped = cut;
    for (index_t i = 0; i < std::min(m, n); ++i) {
      const double value = values[static_cast<std::size_t>(i)];
      if (!(value > cut)) {
        dropped = std::max(dropped, value);
        continue;
      }
      const double kept = (value - cut) / value;
      dropped = std::max(dropped, value * (1 - kept));
      const double factor = std::sqrt(kept);
      for (index_t j = 0; j < n; ++j) coefficients(i, j) = factor * g.eigen.vectors(j, i);
    }
    above = dropped + g.slack;
    below = g.slack;
  }
};

/// What B, of m rows, says about A: both eigenvalues on top, and B's own top direction.
struct SketchReading {
  double top = 0;
  double second = 0;
  double slack = 0;
  std::vector<double> direction;  // of norm 1; 0 where B is

  SketchReading(const double* b, index_t m, index_t d) : direction(static_cast<std::size_t>(d)) {
    Small<double> gram(m, m);
    gemm(false, true, m, m, d, 1.0, b, d, b, d, 0.0, gram.data(), m);
    const GramEigen g(gram, d);
    slack = g.slack;
    top = std::max(g.eigen.values[0], 0.0);
    second = m > 1 ? std::max(g.eigen.values[1], 0.0) : 0.0;
    std::vector<double> p(static_cast<std::size_t>(m));
    for (index_t i = 0; i < m; ++i) p[static_cast<std::size_t>(i)] = g.eigen.vectors(i, 0);
    gemm(false, false, 1, d, m, 1.0, p.data(), m, b, d, 0.0, direction.data(), d);
    double norm = 0;
    for (const double v : direction) norm += v * v;
    norm = std::sqrt(norm);
    if (norm > 0)
      for (double& v : direction) v /= norm;
  }

  /// Of the sine of the angle between the direction and A's top eigenvector, where
  /// -below I <= A^T A - B^T B <= above I.
  double bound(double above, double below) const {
    constexpr double slop = 1e-13;  // all the operations that are not counted one by one
    const double half = (above + below) / 2 * (1 + slop);
    const double gap = top - second - half - 3 * slack - slop * top;
    if (!(gap > 0)) return std::numeric_limits<double>::infinity();
    const double roundings = static_cast<double>(direction.size() + 16);
    return (half + 2 * slack) / gap * (1 + slop) + rounding::accumulated<double>(roundings);
  }
};

/// Bounds from here on say nothing: where the top eigenvalue is repeated one of Oja's method can be
/// sqrt(1/2), never less.
inline constexpr double vacuous_bound = 0.7;

}  // namespace gramian::detail
