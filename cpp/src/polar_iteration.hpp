// The iterations of the polar factor, written once over the products they are made of
// (general_products.hpp or small_products.hpp). X is tall or square; G is its Gram matrix on the
// short side m. Besides what newton_schulz_iteration.hpp asks for, Products offers
//
//   current()     the X of now, tall        stride()     row length of its m x m buffers
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "general_products.hpp"
#include "gram_iteration.hpp"
#include "gramian/polar.hpp"
#include "hermitian_inverse.hpp"
#include "polar_estimates.hpp"
#include "polar_lapack.hpp"
#include "small_products.hpp"
#include "thin.hpp"

namespace gramian::detail {

/// A <- (A + A^H) / 2.
template <class T>
void make_hermitian(MatrixView<T> a) {
  constexpr real_t<T> half(0.5);
  for (index_t i = 0; i < a.rows; ++i)
    for (index_t j = 0; j <= i; ++j) {
      const T mean = a(i, j) * half + conjugate(a(j, i)) * half;  // each first: no overflow
      a(i, j) = mean;
      a(j, i) = conjugate(mean);
    }
}

/// A positive definite matrix of the products' order and layout to its inverse; false if it is not.
template <class T>
bool invert_gram(const GeneralProducts<T>& products, T* a) {
  return invert_hermitian(products.ctx, a, products.m, products.m, products.scratch);
}
template <class R>
bool invert_gram(const SmallProducts<R>& products, R* a) {
  return inverse_whole(a, products.m, products.mp);
}

/// Whether there are steps of higher degree, which take one more square of room.
template <class R>
constexpr bool has_octic(const SmallProducts<R>&) {
  return false;
}
template <class T>
constexpr bool has_octic(const GeneralProducts<T>&) {
  return true;
}

/// p <- about (G / s2)^(-1/2), of eigenvalues of G within s2 [1 - r, 1 + r]. g, q and what apply
/// packs into are used up.
template <class R>
void octic(const SmallProducts<R>&, R*, R*, R*, double, double,
           const polar_plan::InverseSquareRoot&) {}
template <class T>
void octic(const GeneralProducts<T>& products, T* g, T* p, T* q, double s2, double r,
           const polar_plan::InverseSquareRoot& f) {
  using R = real_t<T>;
  const index_t m = products.m;
  Workspace packed = products.for_s;
  T* z = packed.take<T>(m * m);
  const auto rows = [&](const auto& row) {
    constexpr index_t band = 32;
    products.ctx.run((m + band - 1) / band, [&](index_t block, int) {
      for (index_t i = block * band; i < std::min(m, (block + 1) * band); ++i) row(i, i * m);
    });
  };
  rows([&](index_t i, index_t first) {
    const R factor = static_cast<R>(-1 / (s2 * r));
    for (index_t e = first; e < first + m; ++e) g[e] *= factor;
    g[first + i] += static_cast<R>(1 / r);
  });
  products.product(g, g, p, 1.0);
  rows([&](index_t, index_t first) {
    const R a = static_cast<R>(f.a);
    for (index_t e = first; e < first + m; ++e) z[e] = p[e] + a * g[e];
  });
  products.product(p, z, q, 1.0);
  rows([&](index_t, index_t first) {
    const R b1 = static_cast<R>(f.b1), b2 = static_cast<R>(f.b2), b3 = static_cast<R>(f.b3);
    const R d2 = static_cast<R>(f.d2), d1 = static_cast<R>(f.d1), d0 = static_cast<R>(f.d0);
    for (index_t e = first; e < first + m; ++e) {
      const T t = g[e];
      const T y1 = p[e];
      const T y2 = q[e];
      z[e] = y2 + b1 * y1 + b2 * t;
      q[e] = y2 + b3 * y1;
      g[e] = d2 * y2 + d1 * y1 + d0 * t;
    }
  });
  products.product(z, q, p, f.scale, 1.0, g, f.c);
}

template <class Products>
class PolarIteration {
 public:
  using T = typename Products::Scalar;
  using R = real_t<T>;

  /// Both are for ||I - G||_F: where to stop, and what is accepted where rounding allows no more.
  /// room: 4 stride() doubles.
  PolarIteration(Products& products, double aim, double accept, double* room)
      : p_(products), aim_(aim), accept_(std::max(aim, accept)), room_(room) {}

  int steps() const { return steps_; }
  double residual() const { return residual_; }  // ||I - G||_F at the end

  /// What a Gram matrix tells at once. With tau the mean of the eigenvalues of G, they lie in
  /// tau [1 - d, 1 + d], d = ||I - G / tau||_F.
  struct Spread {
    double mean;   // tau
    double width;  // d, or infinity where rounding hides it
    double upper;  // ||G||_F^(1/2) >= sigma_1
  };
  Spread spread(const T* g) const {
    const double m = static_cast<double>(p_.m);
    const double mean = trace<T>(square_view(g)) / m;
    const double norm = p_.norm(g);
    const double excess = (norm / mean) * (norm / mean) - m;
    return {mean, std::sqrt(std::max(0.0, excess)), std::sqrt(norm)};
  }

  /// An estimate of the largest singular value from G, at most a given bound. The Newton steps'
  /// scaling is the better for it, and nothing else rests on it.
  double largest(const T* g, double bound) const {
    const double estimate = std::sqrt(largest_eigenvalue(g, p_.m, p_.stride(), room_));
    return estimate > 0 ? std::min(bound, 1.1 * estimate) : bound;
  }

  /// Steps on X itself, whose singular values lie in [lower, upper], until I - G is small. g holds
  /// G; the others are room.
  bool standard(T* g, T* p, T* spare, double lower, double upper) {
    const double s = tighten(g, p, spare, lower, upper);
    return standard_from(g, p, s, polar_plan::steps(lower / s), unknown, true);
  }

  /// The same after Newton steps, which leave singular values in [1, upper], but that upper rests
  /// on an estimate: Halley's step first, which maps what lies above to little above 1.
  bool after_newton(T* g, T* p, T* spare, double upper) {
    constexpr double unbounded = std::numeric_limits<double>::infinity();
    if (p_.m < polar_plan::halley_from || upper < polar_plan::halley_above)
      return standard(g, p, spare, 1.0, unbounded);
    const auto h = polar_plan::halley(1 / upper);
    affine(g, p, 1.0, h.c / upper / upper);
    if (!invert_gram(p_, p)) return false;
    const double rest = h.b / h.c;
    affine(p, p, rest, h.a - rest);
    p_.apply_to_x(p, 1 / upper);
    ++steps_;
    p_.gram_into(g);
    if (!has_octic(p_))
      return standard_from(g, p, 1.0, polar_plan::steps(h.mapped), defect(g), false);
    // All at once from here: 3 products, where two quintic steps take 4.
    const double least = h.mapped * h.mapped;
    const double s2 = (1 + least) / 2;
    const double r = std::max((1 - least) / (1 + least), polar_plan::octic_from);
    const auto f = polar_plan::inverse_square_root(r);
    octic(p_, g, p, spare, s2, r, f);
    p_.apply_to_x(p, 1 / std::sqrt(s2));
    ++steps_;
    p_.gram_into(g);
    return standard_from(g, p, 1.0, {}, defect(g), false, f.defect);
  }

  /// The same where the spread d is under 1/2: X / tau^(1/2) is near enough for Taylor's rows.
  bool close(T* g, T* p, const Spread& spread) {
    return standard_from(g, p, std::sqrt(spread.mean), {}, spread.width, false);
  }

  /// Steps on G and on the product Q of their polynomials, X <- X Q, and steps on X as they are
  /// needed. For lower / upper above 1 / gram_form_below.
  bool gram_form(T* g, T* p, T* q, T* spare, double lower, double upper) {
    double s = 1;
    if (!gram_steps(g, p, q, spare, lower, upper, std::sqrt(aim_), s)) return false;
    p_.apply_to_x(q, 1 / s);
    p_.gram_into(g);
    return standard_from(g, p, 1.0, {}, defect(g), false);
  }

  /// Q / s = G^(-1/2) up to about `enough` and rounding, for any positive definite G in g: the
  /// steps on G and Q alone. All four buffers are used, q is left with Q. False also where the
  /// bound on sigma_1 that is found is above `most`.
  bool gram_steps(T*& g, T*& p, T*& q, T*& spare, double lower, double upper, double enough,
                  double& s, double most = unknown) {
    s = tighten(g, p, spare, lower, upper);
    if (!(s <= most)) return false;
    const auto table = polar_plan::steps(lower / s);
    double e = unknown;
    bool squared = true;
    for (std::size_t t = 0;; ++t) {
      const double scale = t == 0 ? s : 1.0;
      const double next = polynomial(g, p, scale, table, t, e, squared, enough, unknown);
      squared = false;
      if (t == 0) {
        p_.product(g, p, spare, 1 / s / s);
        p_.product(spare, p, g, 1.0);
        std::swap(q, p);
      } else {
        p_.product(q, p, spare, 1.0);
        std::swap(q, spare);
        if (next <= enough || steps_ >= polar_plan::most_steps) break;
        p_.product(g, p, spare, 1.0);
        p_.product(spare, p, g, 1.0);
      }
      e = defect(g);
      if (!std::isfinite(e)) return false;
      if (e <= enough) break;
    }
    return true;
  }

  enum class Newton { done, singular };

  /// Newton steps on a square X until its singular values lie in [1, upper], upper at most
  /// newton_above or newton_above_halley; `upper` comes in as a bound on those of X. Singular: the
  /// bound on the smallest is not above `least`, in which case X is as it was; so it is where
  /// `smallest` tells what it is.
  Newton newton(T* room_for_inverse, double& upper, double least, const LapackRoom<T>& room,
                bool hermitian, double& smallest) {
    T* inverse = room_for_inverse;
    copy_current(inverse);
    bool good = invert(inverse, p_.m, p_.stride(), room);
    const double norm = window_norm(inverse, p_.m, p_.m, p_.stride(), false);
    smallest = good && norm > 0 && std::isfinite(norm) ? 1 / norm : 0.0;
    if (!(smallest > least)) return Newton::singular;
    const double enough =
        p_.m < polar_plan::halley_from ? polar_plan::newton_above : polar_plan::newton_above_halley;
    double condition = upper / smallest;
    double mu = 1 / std::sqrt(smallest) / std::sqrt(upper);
    for (;;) {
      average(inverse, mu);
      // The inverse of an ill-conditioned Hermitian matrix comes out Hermitian to u kappa only; the
      // rest would stay in W and keep W^2 from I once W is made Hermitian.
      if (hermitian) make_hermitian(p_.current());
      ++steps_;
      upper = (std::sqrt(condition) + 1 / std::sqrt(condition)) / 2;
      if (upper <= enough) return Newton::done;
      condition = upper;
      mu = 1 / std::sqrt(upper);
      copy_current(inverse);
      if (!invert(inverse, p_.m, p_.stride(), room)) return Newton::singular;
    }
  }

 private:
  static constexpr double unknown = std::numeric_limits<double>::infinity();

  MatrixView<const T> square_view(const T* g) const { return {g, p_.m, p_.m, p_.stride(), 1}; }

  /// What X is divided by: a bound on sigma_1, the Schatten-8 norm, or where a few powers of G^2
  /// tell that a closer one might save a step, the Schatten-16 norm. (The powers' own estimate will
  /// not do: with 5 % added, steps diverged for 38 of 834 Gaussian matrices.) Leaves G^2 in p.
  double tighten(T* g, T* p, T* spare, double lower, double upper) {
    p_.product(g, g, p, 1.0);
    const double norm = p_.norm(p);
    const double bound = std::min(upper, std::sqrt(std::sqrt(norm)));
    const double estimate = std::sqrt(std::sqrt(largest_eigenvalue(p, p_.m, p_.stride(), room_)));
    if (polar_plan::steps(lower / bound).size() <=
        polar_plan::steps(std::min(1.0, lower / estimate)).size())
      return bound;
    // Scaled by a power of two, so that G^4 cannot overflow.
    const int e = std::ilogb(norm);
    p_.product(p, p, spare, std::ldexp(1.0, -2 * e));
    const double root = std::sqrt(std::ldexp(std::sqrt(p_.norm(spare)), e));
    return std::min(bound, std::sqrt(root));
  }

  /// ||I - G||_F.
  double defect(T* g) const {
    const index_t m = p_.m;
    const index_t ld = p_.stride();
    for (index_t i = 0; i < m; ++i) g[i * ld + i] -= R(1);
    const double norm = p_.norm(g);
    for (index_t i = 0; i < m; ++i) g[i * ld + i] += R(1);
    return norm;
  }

  /// p <- the polynomial of step t in G / s^2, where ||I - G/s^2||_F is e: the table's row, or
  /// Taylor's of degree 5 or, where that reaches `enough`, 3. `squared`: p holds G^2. `largest`:
  /// the 2-norm of I - G/s^2 as far as it is known, where e is the Frobenius norm. Returns a bound
  /// on the next e.
  double polynomial(T* g, T* p, double s, std::span<const polar_plan::Step> table, std::size_t t,
                    double e, bool squared, double enough, double largest) {
    ++steps_;
    largest = std::min(largest, e);
    const double s2 = s * s;
    const double cubic = (0.75 + 0.25 * largest) * largest * e;
    if (cubic <= enough) {
      affine(g, p, 1.5, -0.5 / s2);
      return cubic;
    }
    // I - Y^2 after the step is E^3 (5/8 + O(E)) with E = I - G/s^2, at most E^3 for |E| <= 1/2.
    const double taylor = e <= 0.5 ? e * largest * largest : unknown;
    Row row{15.0 / 8.0, -10.0 / 8.0, 3.0 / 8.0};
    double next = taylor;
    if (t < table.size()) {
      const double minimax = std::sqrt(static_cast<double>(p_.m)) * table[t].defect;
      if (minimax < taylor) {
        row = table[t].row;
        next = minimax;
      }
    }
    if (squared)
      p_.combine(g, p, row.a, row.b / s2, row.c / s2 / s2);
    else
      p_.product(g, g, p, row.c / s2 / s2, row.b / s2, g, row.a);
    return next;
  }

  /// What may be left of one eigenvalue of I - G, where aim is left of all.
  double each() const { return aim_ / std::sqrt(static_cast<double>(p_.m)); }

  /// Whether I - G is spread over all directions, as rounding is. In one that has most of X it
  /// would cost X - U P more than the tolerance.
  bool even(T* g) const {
    const index_t ld = p_.stride();
    for (index_t i = 0; i < p_.m; ++i) g[i * ld + i] -= R(1);
    const double largest = largest_eigenvalue(g, p_.m, ld, room_);
    for (index_t i = 0; i < p_.m; ++i) g[i * ld + i] += R(1);
    return !(largest > each());
  }

  bool standard_from(T* g, T* p, double s, std::span<const polar_plan::Step> table, double e,
                     bool squared, double largest = unknown) {
    double before = unknown;
    bool certain = false;
    for (std::size_t t = 0;; ++t) {
      residual_ = e;
      if (std::isnan(e) || (t > 0 && !std::isfinite(e))) return false;
      if (t > 0 || s == 1.0) {
        if (e <= aim_ && (certain || even(g))) return true;
        // Where steps gain no more, rounding is what is left.
        if (e > before / 4 && t >= table.size()) return e <= accept_;
        if (steps_ >= polar_plan::most_steps) return e <= accept_;
      }
      polynomial(g, p, s, table, t, e, squared, aim_ / 4, largest);
      largest = unknown;
      // By Taylor's bound, and not by a table's, which rests on estimates of the spectrum.
      certain = e <= 0.1 && e * e <= each();
      squared = false;
      p_.apply_to_x(p, 1 / s);
      s = 1.0;
      p_.gram_into(g);
      before = e;
      e = defect(g);
    }
  }

  /// p <- a I + b G; p may be g.
  void affine(const T* g, T* p, double a, double b) const {
    const index_t m = p_.m;
    const index_t ld = p_.stride();
    const R rb = static_cast<R>(b);
    for (index_t e = 0; e < m * ld; ++e) p[e] = rb * g[e];
    for (index_t i = 0; i < m; ++i) p[i * ld + i] += static_cast<R>(a);
  }

  void copy_current(T* to) const {
    const MatrixView<T> x = p_.current();
    for (index_t i = 0; i < p_.m; ++i)
      std::copy_n(x.data + i * x.row_stride, p_.m, to + i * p_.stride());
  }

  /// X <- (mu X + inverse^H / mu) / 2, by blocks that suit both layouts.
  void average(const T* inverse, double mu) const {
    const MatrixView<T> x = p_.current();
    const index_t ld = p_.stride();
    const R near = static_cast<R>(mu / 2);
    const R far = static_cast<R>(0.5 / mu);
    constexpr index_t band = 16;
    for (index_t i0 = 0; i0 < p_.m; i0 += band)
      for (index_t j0 = 0; j0 < p_.m; j0 += band)
        for (index_t i = i0; i < std::min(p_.m, i0 + band); ++i)
          for (index_t j = j0; j < std::min(p_.m, j0 + band); ++j)
            x(i, j) = near * x(i, j) + far * conjugate(inverse[j * ld + i]);
  }

  Products& p_;
  double aim_;
  double accept_;
  double* room_;
  int steps_ = 0;
  double residual_ = 0;
};

}  // namespace gramian::detail
