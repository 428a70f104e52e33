// The two forms of the iteration, written once over the products they are made of. Products is
// either the general core (newton_schulz_general.cpp) or the one for small matrices
// (newton_schulz_small.cpp); it offers
//
//   gram_into(g)                                 g <- Gram matrix of the current X
//   product(s, z, out, alpha, beta, d, gamma)    out <- alpha S Z + beta D + gamma I
//   combine(g, p, a, b, c)                       p <- a I + b G + c P, entry by entry
//   apply_to_x(s, alpha)                         X <- alpha S X (or X S)
//   norm(p), norm_of_x()                         Frobenius norms
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "gramian/newton_schulz.hpp"

namespace gramian::detail {

template <class Products>
class Iteration {
 public:
  using T = typename Products::Scalar;

  /// X holds 2^-exponent times the input.
  Iteration(Products& products, const NewtonSchulzOptions& options, int exponent)
      : p_(products), options_(options), exponent_(exponent) {}

  /// Two m x m buffers. Returns the s that X was divided by, on the scale of this X.
  double standard(T* g, T* p) {
    p_.gram_into(g);
    const double s = first_polynomial(g, p);
    p_.apply_to_x(p, 1 / s);
    for (std::size_t t = 1; t < options_.table.size(); ++t) {
      p_.gram_into(g);
      polynomial(g, p, t);
      p_.apply_to_x(p, 1.0);
    }
    return s;
  }

  /// Four m x m buffers. A segment runs from one touch of X to the next: within it
  /// P = a I + b G + c G^2,  Q <- Q P,  G <- P G P, and at its end X <- Q X.
  double gram_form(T* g, T* p, T* q, T* spare) {
    const auto steps = options_.table.size();
    p_.gram_into(g);
    double s = 0;
    double x_scale = 1;
    bool q_is_one = true;
    for (std::size_t t = 0; t < steps; ++t) {
      if (restarts_before(t)) {
        p_.apply_to_x(q, x_scale);
        x_scale = 1;
        p_.gram_into(g);
        q_is_one = true;
      }
      double g_scale = 1;
      if (t == 0) {
        s = first_polynomial(g, p);
        x_scale = 1 / s;
        g_scale = 1 / s / s;
      } else {
        polynomial(g, p, t);
      }
      if (t + 1 < steps && !restarts_before(t + 1)) {  // else nobody reads the new G
        p_.product(g, p, spare, g_scale);
        p_.product(spare, p, g, 1.0);
      }
      if (q_is_one) {
        std::swap(q, p);
        q_is_one = false;
      } else {
        p_.product(q, p, spare, 1.0);
        std::swap(q, spare);
      }
    }
    p_.apply_to_x(q, x_scale);
    return s;
  }

 private:
  bool restarts_before(std::size_t t) const {
    const auto& r = options_.plan.restarts;
    return t > 0 && std::find(r.begin(), r.end(), static_cast<int>(t)) != r.end();
  }

  void polynomial(T* g, T* p, std::size_t step) {
    const Row row = options_.table[step];
    p_.product(g, g, p, row.c, row.b, g, row.a);
  }

  /// p <- a I + (b/s^2) G + (c/s^4) G^2 with G of the X not yet divided by s; returns s. The
  /// Schatten-8 norm is that of the G^2 which the polynomial needs anyway.
  double first_polynomial(T* g, T* p) {
    const Row row = options_.table[0];
    if (options_.normalization == Normalization::schatten) {
      p_.product(g, g, p, 1.0);
      const double s = std::sqrt(std::sqrt(p_.norm(p)));
      p_.combine(g, p, row.a, row.b / (s * s), row.c / (s * s) / (s * s));
      return s;
    }
    const double s = options_.normalization == Normalization::frobenius
                         ? p_.norm_of_x()
                         : std::ldexp(options_.bound, -exponent_);
    p_.product(g, g, p, row.c / (s * s) / (s * s), row.b / (s * s), g, row.a);
    return s;
  }

  Products& p_;
  const NewtonSchulzOptions& options_;
  int exponent_;
};

}  // namespace gramian::detail
