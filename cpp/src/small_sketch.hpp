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
template <class D>
struct GramEigen {
  Eigen<D> eigen;
  double trace = 0;  // at least that of K
  double slack = 0;  // bounds every effect of rounding on what is made of the eigenvectors

  GramEigen(const Small<D>& k, index_t d) : eigen(hermitian_eigen(k)) {
    const index_t n = k.rows;
    const Small<D>& v = eigen.vectors;
    for (index_t i = 0; i < n; ++i) trace += std::real(k(i, i));
    trace *= 1 + 1e-6;
    Small<D> kv(n, n);
    Small<D> vv(n, n);
    gemm(false, false, n, n, n, D(1), k.data(), n, v.data(), n, D(0), kv.data(), n);
    gemm(true, false, n, n, n, D(1), v.data(), n, v.data(), n, D(0), vv.data(), n);
    double residual = 0;
    double skew = 0;
    for (index_t i = 0; i < n; ++i)
      for (index_t j = 0; j < n; ++j) {
        residual += std::norm(kv(i, j) - v(i, j) * eigen.values[static_cast<std::size_t>(j)]);
        skew += std::norm(vv(i, j) - (i == j ? 1.0 : 0.0));
      }
    const double roundings = static_cast<double>(d + 10 * n * (n + 4));
    slack = 2 * std::sqrt(residual) +
            (5 * std::sqrt(skew) + rounding::accumulated<D>(roundings)) * trace +
            underflowed * static_cast<double>(n * d);
  }
};

/// How B, of m rows, and new rows X become the next B: coefficients (m, n) of the n rows (B, X),
/// and what that adds to the bounds.
template <class D>
struct Shrinking {
  Small<D> coefficients;
  double above = 0;
  double below = 0;

  Shrinking(const Small<D>& gram, index_t m, index_t d) : coefficients(m, gram.rows) {
    const index_t n = gram.rows;
    const GramEigen<D> g(gram, d);
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
      for (index_t j = 0; j < n; ++j)
        coefficients(i, j) = factor * conjugate(g.eigen.vectors(j, i));
    }
    above = dropped + g.slack;
    below = g.slack;
  }
};

/// Rows b (m, d) and new rows x (count, d) become the next b. `room` holds m rows.
template <class D>
class SketchStep {
 public:
  double above = 0;
  double below = 0;

  SketchStep(D* b, index_t m, const D* x, index_t count, index_t d, D* room) {
    const index_t n = m + count;
    Small<D> gram(n, n);
    D* corner = gram.data() + m * n;
    gemm(false, true, m, m, d, D(1), b, d, b, d, D(0), gram.data(), n);
    gemm(false, true, count, m, d, D(1), x, d, b, d, D(0), corner, n);
    gemm(false, true, count, count, d, D(1), x, d, x, d, D(0), corner + m, n);
    for (index_t i = 0; i < m; ++i)
      for (index_t j = m; j < n; ++j) gram(i, j) = conjugate(gram(j, i));
    const Shrinking<D> next(gram, m, d);
    const D* p = next.coefficients.data();
    gemm(false, false, m, d, m, D(1), p, n, b, d, D(0), room, d);
    gemm(false, false, m, d, count, D(1), p + m, n, x, d, D(1), room, d);
    std::copy(room, room + m * d, b);
    above = next.above;
    below = next.below;
  }
};

/// What B, of m rows, says about A: both eigenvalues on top, and B's own top direction as a row.
struct SketchReading {
  double top = 0;
  double second = 0;
  double slack = 0;
  std::vector<double> direction;  // of norm 1; 0 where B is; real and imaginary parts in turn

  template <class D>
  SketchReading(const D* b, index_t m, index_t d)
      : direction(static_cast<std::size_t>(d) * sizeof(D) / sizeof(double)) {
    Small<D> gram(m, m);
    gemm(false, true, m, m, d, D(1), b, d, b, d, D(0), gram.data(), m);
    const GramEigen<D> g(gram, d);
    slack = g.slack;
    top = std::max(g.eigen.values[0], 0.0);
    second = m > 1 ? std::max(g.eigen.values[1], 0.0) : 0.0;
    std::vector<D> p(static_cast<std::size_t>(m));
    for (index_t i = 0; i < m; ++i)
      p[static_cast<std::size_t>(i)] = conjugate(g.eigen.vectors(i, 0));
    gemm(false, false, 1, d, m, D(1), p.data(), m, b, d, D(0),
         reinterpret_cast<D*>(direction.data()), d);
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
