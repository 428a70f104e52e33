// The two forms of the iteration, over the products they are made of. The host only queues: what
// depends on the numbers (the norm, and the first row divided by its powers) is read by the kernels
// from device memory.
//
// As on the CPU, but for one thing: the first polynomial also does the division by s,
//   P = (a/s) I + (b/s^3) G + (c/s^5) G^2,   G of the X not yet divided,
// so that P X and P G P are those of X / s.
#pragma once

#include <algorithm>
#include <functional>
#include <utility>

#include "figures.hpp"
#include "gramian/cuda/newton_schulz.hpp"
#include "products.hpp"

namespace gramian::cuda {

/// Memory that an iteration works in.
struct IterationMemory {
  Matrices square[4];  // m x m; the standard form uses two
  Matrices x[2];       // m x n; X starts in the first
  NormParts norm;
  double* scalars;  // [batch][3]
};

class Iteration {
 public:
  /// `fold` queues the making of the first row's scalars.
  Iteration(Products& products, const NewtonSchulzOptions& options, const IterationMemory& memory,
            std::function<void()> fold)
      : p_(products), options_(options), memory_(memory), fold_(std::move(fold)) {}

  /// How often X is multiplied, the last time included.
  static int applications(const NewtonSchulzOptions& options) {
    if (options.plan.method != NewtonSchulzMethod::gram)
      return static_cast<int>(options.table.size());
    int count = 1;
    for (std::size_t t = 1; t < options.table.size(); ++t) count += restarts_before(options, t);
    return count;
  }

  static int squares(const NewtonSchulzOptions& options) {
    return options.plan.method == NewtonSchulzMethod::gram ? 4 : 2;
  }

  /// Queues everything up to the last product with X, whose factors it returns: {S, X}.
  std::pair<Matrices, Matrices> run() {
    return options_.plan.method == NewtonSchulzMethod::gram ? gram_form() : standard();
  }

 private:
  std::pair<Matrices, Matrices> standard() {
    const Matrices g = memory_.square[0];
    const Matrices p = memory_.square[1];
    for (std::size_t t = 0;; ++t) {
      p_.gram(x(), g, {}, {});
      polynomial(g, p, t);
      if (t + 1 == options_.table.size()) return {p, x()};
      apply_to_x(p);
    }
  }

  /// A segment runs from one touch of X to the next: within it P = a I + b G + c G^2, Q <- Q P,
  /// G <- P G P, and at its end X <- Q X.
  std::pair<Matrices, Matrices> gram_form() {
    Matrices g = memory_.square[0];
    Matrices p = memory_.square[1];
    Matrices q = memory_.square[2];
    Matrices spare = memory_.square[3];
    const std::size_t steps = options_.table.size();
    bool q_is_one = true;
    for (std::size_t t = 0; t < steps; ++t) {
      if (t == 0 || restarts_before(t)) {
        if (t > 0) apply_to_x(q);
        p_.gram(x(), g, {}, {});
        q_is_one = true;
      }
      polynomial(g, p, t);
      if (t + 1 < steps && !restarts_before(t + 1)) {  // else nobody reads the new G
        p_.product(g, p, {}, spare, {}, {});
        p_.product(spare, p, {}, g, {}, {});
      }
      if (q_is_one) {
        std::swap(q, p);
        q_is_one = false;
      } else {
        p_.product(q, p, {}, spare, {}, {});
        std::swap(q, spare);
      }
    }
    return {q, x()};
  }

  void polynomial(Matrices g, Matrices p, std::size_t t) {
    const Row row = options_.table[t];
    if (t > 0) return p_.product(g, g, g, p, {row.c, row.b, row.a, nullptr}, {});
    const Scalars folded{0, 0, 0, memory_.scalars};
    if (options_.normalization == Normalization::schatten) {
      // The norm is that of the G^2 which the polynomial needs anyway.
      p_.product(g, g, {}, p, {}, memory_.norm);
      fold_();
      p_.combine(g, p, folded);
    } else {
      fold_();
      p_.product(g, g, g, p, folded, {});
    }
  }

  bool restarts_before(std::size_t t) const { return restarts_before(options_, t); }

  static bool restarts_before(const NewtonSchulzOptions& options, std::size_t t) {
    const auto& r = options.plan.restarts;
    return t > 0 && std::find(r.begin(), r.end(), static_cast<int>(t)) != r.end();
  }

  Matrices x() const { return memory_.x[current_]; }

  void apply_to_x(Matrices s) {
    p_.apply(s, x(), memory_.x[1 - current_]);
    current_ = 1 - current_;
  }

  Products& p_;
  const NewtonSchulzOptions& options_;
  const IterationMemory& memory_;
  std::function<void()> fold_;
  int current_ = 0;
};

}  // namespace gramian::cuda
