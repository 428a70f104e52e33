// The coupled iteration on one matrix, over a set of products (general_products.hpp or
// small_products.hpp) whose matrices have rows ld apart.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include "gramian/inverse_root.hpp"
#include "hermitian_inverse.hpp"
#include "inverse_root_ends.hpp"
#include "inverse_root_matrix.hpp"

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

template <class Products>
class InverseRootIteration {
 public:
  using T = typename Products::Scalar;

  /// Matrices of order n lie in `entries` entries, padding included. rational: steps by way of an
  /// inverse, which is worth it for what does not stay in cache.
  InverseRootIteration(Context& ctx, const Products& products, index_t n, index_t ld,
                       index_t entries, double* partial, Workspace workspace, bool rational = false)
      : ctx_(ctx),
        products_(products),
        n_(n),
        ld_(ld),
        entries_(entries),
        partial_(partial),
        workspace_(workspace),
        rational_(rational) {}

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
    const auto rows_for = [&](double least) {
      return rational_ ? &inverse_root_rational_rows(p, least) : &inverse_root_rows(p, least);
    };
    const auto scaled = [&](const Row& of, double by) {
      return rational_ ? scaled_rational_row(of, p, by) : scaled_row(of, p, by);
    };
    const std::vector<Row>* rows = rows_for(lower);
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
      bool tabulated = true;
      if (first && top == 0) {
        products_.product(m, m, t, 1.0);
        top = std::sqrt(products_.norm(t));
        row = scaled_row((*rows)[next++], p, top);
        products_.combine(m, t, row.a, row.b, row.c);
      } else {
        if (e <= 0.1 || (e <= 0.5 && next == rows->size())) {
          row = taylor_row(p);
          tabulated = false;
          last = taylor_constant(p) * e * e * e <= tol;
          // With e^2 within tol the linear polynomial is enough.
          if (e <= 0.1 && taylor_square(p) * e * e <= tol) row = {1 + 1.0 / p, -1.0 / p, 0};
        } else if (next == rows->size()) {
          // Eigenvalues smaller than was thought; among so many near 1 they are soon found.
          if (++rounds > most_rounds) return result;
          SpectrumEnds<T> ends(ctx_, view(m), workspace_);
          ends.advance(1, 24);
          const double smallest = ends.smallest() / 2;
          if (!(smallest > 0) || ends.largest() > 1.5) return result;
          rows = rows_for(std::min(smallest, 0.25));
          next = 0;
          if (result.steps + static_cast<int>(rows->size()) > most_steps) return result;
          row = scaled((*rows)[next++], 1 + 0x1p-6);
        } else {
          row = (*rows)[next++];
          if (first) row = scaled(row, top);
        }
        if (row.c == 0)
          map_squares(
              m, t, [b = R(row.b)](const T& v, const T&, const T&) { return b * v; }, t, t, row.a);
        else if (!(rational_ && tabulated))
          products_.product(m, m, t, row.c, row.b, m, row.a);
      }
      ++result.steps;
      if (first) result.top = top;
      if (rational_ && tabulated) {
        if (!rational_step(m, t, x, spare, p, row, first)) return result;
        growth *= std::pow(row.a, p);
        continue;
      }
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

  /// The step of a rational row: with F = (I + c M)^-1, T = alpha I + beta F. M F is (I - F) / c,
  /// so that M T and M T^2 take no product with M. False if I + c M has no Cholesky factor.
  bool rational_step(T*& m, T*& t, T*& x, T*& spare, int p, const Row& row, bool first) const {
    const double alpha = row.b / row.c;
    const double beta = row.a - alpha;
    map_squares(m, t, [c = R(row.c)](const T& v, const T&, const T&) { return c * v; }, t, t, 1);
    if (!invert_hermitian(ctx_, t, n_, ld_, workspace_)) return false;
    if (first) {
      map_squares(
          t, x, [b = R(beta)](const T& v, const T&, const T&) { return b * v; }, t, t, alpha);
    } else {
      products_.product(x, t, spare, beta, alpha, x);
      std::swap(x, spare);
    }
    const bool odd = p % 2 == 1;
    const int squares = (p - (odd ? 1 : 2)) / 2;  // factors T^2 that are left
    if (!odd || squares > 0) products_.product(t, t, spare, 1.0);
    const double linear = (odd ? 1 : 2 * alpha) * beta / row.c;
    if (odd)
      map_squares(
          m, m,
          [a = R(alpha), b = R(linear)](const T& v, const T& f, const T&) { return a * v - b * f; },
          t, t, linear);
    else
      map_squares(
          m, m,
          [a = R(alpha * alpha), b = R(beta * beta / row.c - linear), c = R(beta * beta / row.c)](
              const T& v, const T& f, const T& ff) { return a * v + b * f - c * ff; },
          t, spare, linear);
    if (squares == 0) return true;
    map_squares(
        t, t,
        [a = R(2 * alpha * beta), b = R(beta * beta)](const T& f, const T& ff, const T&) {
          return a * f + b * ff;
        },
        spare, spare, alpha * alpha);
    times_power(m, t, spare, squares);
    return true;
  }

  /// ||I - B X^p||_F / sqrt(n); b, t and spare are used up, x is kept.
  double residual(T*& b, const T* x, T*& t, T*& spare, int p) const {
    std::copy_n(x, entries_, t);
    times_power(b, t, spare, p);
    return distance_from_identity<T>(ctx_, view(b), partial_) / std::sqrt(static_cast<double>(n_));
  }

 private:
  using R = real_t<T>;

  /// to <- fn(u, v, w) entry by entry, and so much onto the diagonal.
  template <class F>
  void map_squares(const T* u, T* to, const F& fn, const T* v, const T* w, double diagonal) const {
    constexpr index_t band = 32;
    ctx_.run((n_ + band - 1) / band, [&](index_t block, int) {
      for (index_t i = block * band; i < std::min(n_, (block + 1) * band); ++i) {
        for (index_t e = i * ld_; e < i * ld_ + n_; ++e) to[e] = fn(u[e], v[e], w[e]);
        to[i * ld_ + i] += static_cast<R>(diagonal);
      }
    });
  }

  Context& ctx_;
  const Products& products_;
  index_t n_;
  index_t ld_;
  index_t entries_;
  double* partial_;
  Workspace workspace_;
  bool rational_;
};

}  // namespace gramian::detail
