// The coupled iteration on one matrix, over a set of products (general_products.hpp or
// small_products.hpp) whose matrices have rows ld apart.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include "gramian/inverse_root.hpp"
#include "inverse_root_ends.hpp"

namespace gramian::detail {

/// ||I - M||_F in double, summed in an order that only the shape decides.
template <class T>
double distance_from_identity(Context& ctx, MatrixView<const T> m, double* partial) {
  constexpr index_t band = 16;
  ctx.run((m.rows + band - 1) / band, [&](index_t b, int) {
    for (index_t i = b * band; i < std::min(m.rows, (b + 1) * band); ++i) {
      const T* row = m.data + i * m.row_stride;
      const double diagonal = static_cast<double>(std::real(row[i])) - 1;
      // The diagonal by itself: 1 is no part of the sum, however small the rest.
      partial[i] = diagonal * diagonal + real_part_of_dot(row, row, i) +
                   real_part_of_dot(row + i + 1, row + i + 1, m.cols - i - 1);
    }
  });
  double sum = 0;
  for (index_t i = 0; i < m.rows; ++i) sum += partial[i];
  return std::sqrt(sum);
}

struct IterationResult {
  bool converged = false;
  int steps = 0;
  double top = 0;  // what the eigenvalues of A were taken to be at most
  // All of them are at least `floor` if it converged: T(m) <= a for small m, and the last m is at
  // least 1 - e.
  double floor = 0;
};

template <class Products>
class InverseRootIteration {
 public:
  using T = typename Products::Scalar;

  /// Matrices of order n lie in `entries` entries, padding included.
  InverseRootIteration(Context& ctx, const Products& products, index_t n, index_t ld,
                       index_t entries, double* partial, Workspace workspace)
      : ctx_(ctx),
        products_(products),
        n_(n),
        ld_(ld),
        entries_(entries),
        partial_(partial),
        workspace_(workspace) {}

  MatrixView<const T> view(const T* p) const { return {p, n_, n_, ld_, 1}; }

  /// z <- z s^p; uses up s and spare.
  void times_power(T*& z, T*& s, T*& spare, int p) const {
    for (;; p >>= 1) {
      if (p & 1) {
        products_.product(z, s, spare, 1.0);
        std::swap(z, spare);
      }
      if (p == 1) return;
      products_.product(s, s, spare, 1.0);
      std::swap(s, spare);
    }
  }

  /// x <- A^(-1/p), of A = m, which is used up as are t and spare. The eigenvalues are at most top
  /// (0: the norm ||A^2||_F^(1/2) is taken) and likely at least lower * top. At the end
  /// ||I - A x^p||_F is at most tol, but for rounding.
  IterationResult run(T*& m, T*& t, T*& x, T*& spare, int p, double top, double lower, double tol,
                      int most_steps) {
    IterationResult result;
    const std::vector<Row>* rows = &inverse_root_rows(p, lower);
    std::size_t next = 0;
    int rounds = 1;
    double growth = 1;
    constexpr int most_rounds = 4;
    while (result.steps < most_steps) {
      const bool first = result.steps == 0;
      const double e = distance_from_identity<T>(ctx_, view(m), partial_);
      if (!std::isfinite(e)) return result;
      Row row;
      bool last = false;
      if (first && top == 0) {
        products_.product(m, m, t, 1.0);
        top = std::sqrt(products_.norm(t));
        row = scaled_row((*rows)[next++], p, top);
        products_.combine(m, t, row.a, row.b, row.c);
      } else {
        if (e <= 0.1 || (e <= 0.5 && next == rows->size())) {
          row = taylor_row(p);
          last = taylor_constant(p) * e * e * e <= tol;
        } else if (next == rows->size()) {
          // Eigenvalues smaller than was thought; among so many near 1 they are soon found.
          if (++rounds > most_rounds) return result;
          SpectrumEnds<T> ends(ctx_, view(m), workspace_);
          ends.advance(1, 24);
          const double smallest = ends.smallest() / 2;
          if (!(smallest > 0) || ends.largest() > 1.5) return result;
          rows = &inverse_root_rows(p, std::min(smallest, 0.25));
          next = 0;
          if (result.steps + static_cast<int>(rows->size()) > most_steps) return result;
          row = scaled_row((*rows)[next++], p, 1 + 0x1p-6);
        } else {
          row = (*rows)[next++];
          if (first) row = scaled_row(row, p, top);
        }
        products_.product(m, m, t, row.c, row.b, m, row.a);
      }
      ++result.steps;
      if (first) result.top = top;
      if (first)
        std::copy_n(t, entries_, x);
      else {
        products_.product(x, t, spare, 1.0);
        std::swap(x, spare);
      }
      if (last) {
        result.converged = true;
        result.floor = (1 - e) / growth;
        return result;
      }
      growth *= std::pow(row.a, p);
      times_power(m, t, spare, p);
    }
    return result;
  }

  /// ||I - B X^p||_F / sqrt(n); b, t and spare are used up, x is kept.
  double residual(T*& b, const T* x, T*& t, T*& spare, int p) const {
    std::copy_n(x, entries_, t);
    times_power(b, t, spare, p);
    return distance_from_identity<T>(ctx_, view(b), partial_) / std::sqrt(static_cast<double>(n_));
  }

 private:
  Context& ctx_;
  const Products& products_;
  index_t n_;
  index_t ld_;
  index_t entries_;
  double* partial_;
  Workspace workspace_;
};

}  // namespace gramian::detail
