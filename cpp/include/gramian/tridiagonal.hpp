// What Lanczos needs of its tridiagonal matrix: the largest Ritz value, its vector, and whether to
// go on. The same on the CPU and beside a GPU.
#pragma once

#include <algorithm>
#include <cmath>

#include "gramian/matrix_view.hpp"

namespace gramian::detail {

/// Symmetric tridiagonal matrix: diagonal a, next to it b.
struct Tridiagonal {
  const double* a;
  const double* b;
  index_t n;

  /// Eigenvalues above x, by the signs of the pivots of T - x I (Sylvester).
  index_t count_above(double x) const {
    index_t count = 0;
    double pivot = 1;
    for (index_t i = 0; i < n; ++i) {
      pivot = a[i] - x - (i ? b[i - 1] * b[i - 1] / pivot : 0.0);
      if (pivot == 0) pivot = 0x1p-500;
      count += pivot > 0;
    }
    return count;
  }

  /// The largest eigenvalue, from above, by Laguerre's iteration on det(x I - T): monotone and
  /// cubic, some five steps where bisection takes fifty. With q_i the pivots of x I - T and t_i
  /// their logarithmic derivatives, the sums of t_i and of -t_i' are those of 1 / (x - theta) and
  /// of its square over the eigenvalues.
  double largest() const {
    double x = 0;
    for (index_t i = 0; i < n; ++i)
      x = std::max(x, a[i] + (i ? b[i - 1] : 0.0) + (i + 1 < n ? b[i] : 0.0));
    x += 0x1p-40 * x;
    const auto order = static_cast<double>(n);
    for (int step = 0; step < 50; ++step) {
      double sum = 0;
      double squares = 0;
      double q = 1;
      double t = 0;
      double dt = 0;
      for (index_t i = 0; i < n; ++i) {
        const double r = i ? b[i - 1] * b[i - 1] / q : 0.0;
        q = x - a[i] - r;
        if (!(q > 0)) return x;  // there, but for rounding
        const double du = r * (dt - t * t);
        t = (1 + r * t) / q;
        dt = du / q - t * t;
        sum += t;
        squares -= dt;
      }
      const double root = std::sqrt(std::max(0.0, (order - 1) * (order * squares - sum * sum)));
      const double next = x - order / (sum + root);
      if (!(x - next > 0x1p-46 * x)) return x;
      x = next;
    }
    return x;
  }

  /// Unit eigenvector of the largest eigenvalue, by two steps of inverse iteration with x just
  /// above it: x I - T is positive definite there, and elimination needs no exchange of rows.
  void eigenvector(double x, double* y, double* pivots) const {
    for (index_t i = 0; i < n; ++i) {
      pivots[i] = x - a[i] - (i ? b[i - 1] * b[i - 1] / pivots[i - 1] : 0.0);
      if (!(pivots[i] > 0)) pivots[i] = 0x1p-52 * x + 0x1p-500;
      y[i] = 1;
    }
    for (int step = 0; step < 2; ++step) {
      for (index_t i = 1; i < n; ++i) y[i] += b[i - 1] / pivots[i - 1] * y[i - 1];
      for (index_t i = n; i-- > 0;) y[i] = (y[i] + (i + 1 < n ? b[i] * y[i + 1] : 0.0)) / pivots[i];
      double squares = 0;
      for (index_t i = 0; i < n; ++i) squares += y[i] * y[i];
      const double norm = std::sqrt(squares);
      for (index_t i = 0; i < n; ++i) y[i] /= norm;
    }
  }
};

/// Whether the largest Ritz value is likely within tolerance times itself of the largest
/// eigenvalue. `next` is what lies beside the last diagonal entry, towards the step not taken yet.
/// Fills y with the Ritz vector's coefficients and raises theta to the Ritz value.
///
/// With the residual r = ||G v - theta v|| = next |y_last|, an eigenvalue lies within r of theta,
/// and within r^2 / gap if the others keep away by gap (Kato-Temple); the Ritz values stand for
/// them.
inline bool ritz_settled(const Tridiagonal& t, double next, double tolerance, double* y,
                         double* pivots, double& theta) {
  const double above = t.largest();
  t.eigenvector(above, y, pivots);
  theta = std::max(theta, above * (1 - 0x1p-44));
  const double residual = next * std::abs(y[t.n - 1]);
  const double wanted = tolerance * theta;
  if (residual <= wanted) return true;
  const double gap = residual * residual / wanted;
  return gap < theta && t.count_above(theta - gap) <= 1;
}

}  // namespace gramian::detail
