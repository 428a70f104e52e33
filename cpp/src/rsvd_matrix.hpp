// The randomized SVD of one matrix with at least as many rows as columns (or of any, where start
// vectors are given). A is read by two_sided_pass.hpp and gram_pass.hpp alone.
#pragma once

#include <cmath>
#include <utility>
#include <vector>

#include "gram_pass.hpp"
#include "gramian/rsvd.hpp"
#include "gramian/sketch.hpp"
#include "orthonormalize.hpp"
#include "rsvd_plan.hpp"

namespace gramian::detail {

/// A ~ u diag(s) v^H, scaled by 2^-exponent.
template <class T>
struct MatrixFactors {
  Thin<T> u;
  std::vector<double> s;
  Thin<T> v;
  int exponent = 0;
};

template <class S, class T>
class MatrixRsvd {
 public:
  using D = wide_t<T>;

  MatrixRsvd(Context& ctx, MatrixView<const S> a, MatrixView<const S> start,
             const RsvdOptions& options, Centering centering, RsvdFigures& figures)
      : ctx_(ctx), a_(a), start_(start), options_(options), figures_(figures), rank_(options.rank) {
    state_.centering = centering;
  }

  /// False if A is not finite.
  bool run(MatrixFactors<T>& out) {
    if (!build()) return false;
    finish(out);
    report();
    return true;
  }

  /// An orthonormal basis of the range of A (or of A^H) of `size` columns.
  bool basis(bool of_rows, Thin<T>& q) {
    if (!build()) return false;
    // Of gram, Z is the wanted Ritz vectors already.
    if (figures_.method != RsvdMethod::gram) compress(std::min(rank_, y_.cols));
    q = !of_rows ? std::move(y_) : has_w_ ? std::move(w_) : std::move(z_);
    orthonormalize(ctx_, q, fallbacks_);
    report();
    return true;
  }

  const PassState& state() const { return state_; }

 protected:
  void report() {
    figures_.passes = state_.reads;
    figures_.shifted = fallbacks_.shifted;
    figures_.householder = fallbacks_.householder;
  }

  /// Z, Y = A Z, W = A^H Y and the eigenvalues of Y^H Y, by whichever method.
  bool build() {
    const index_t n = a_.cols;
    const RsvdPlan plan =
        plan_rsvd(a_.rows, n, options_, std::is_same_v<real_t<T>, float>, start_.data != nullptr);
    figures_.method = plan.method;
    return plan.method == RsvdMethod::gram ? by_gram(plan) : by_blocks(plan);
  }

  /// The sketch, or the start vectors with as much of a sketch as is wanted, orthonormal.
  Thin<T> first_block(index_t size) {
    const index_t n = a_.cols;
    Thin<T> z(n, size);
    const index_t given = start_.data ? std::min(start_.cols, size) : 0;
    for (index_t i = 0; i < n; ++i) {
      for (index_t j = 0; j < given; ++j) z(i, j) = to_compute(start_(i, j));
      PhiloxBlock bits{};
      for (index_t j = given; j < size; ++j) {
        if (j == given || j % 128 == 0)
          bits = sketch_bits(options_.seed, static_cast<std::uint64_t>(i),
                             static_cast<std::uint32_t>(j / 128));
        z(i, j) = T(sketch_is_negative(bits, static_cast<std::uint32_t>(j % 128)) ? -1 : 1);
      }
    }
    orthonormalize(ctx_, z, fallbacks_);
    return z;
  }

  static T to_compute(const S& v) { return PowerOfTwo<S, T>(0)(v); }

  bool read(const TestMatrix<T>& z, Thin<T>& y, Thin<T>* w) {
    y = Thin<T>(a_.rows, z.cols);
    if (w) *w = Thin<T>(a_.cols, z.cols);
    return two_sided_pass<S, T>(ctx_, a_, z, y, w, state_, means_);
  }

  /// Z orthonormal, Y and W of the first read. The sketch is only made tile by tile on the way:
  /// with Z = sketch C, Y C and W C are what Z itself would have given. Z is left out unless
  /// something needs it.
  bool first_read(index_t block, bool needs_z) {
    const TestMatrix<T> sketch(options_.seed, a_.cols, block);
    const auto c = start_.data ? std::nullopt : sketch_triangle(ctx_, sketch);
    if (!c) {
      z_ = first_block(block);
      return read(z_, y_, &w_);
    }
    if (!read(sketch, y_, &w_)) return false;
    times_square(ctx_, y_, *c);
    times_square(ctx_, w_, *c);
    if (!needs_z) return true;
    z_ = Thin<T>(a_.cols, block);
    for (index_t k = 0; k < a_.cols; k += pass_depth)
      sketch.fill(k, std::min(pass_depth, a_.cols - k), z_.row(k));
    times_square(ctx_, z_, *c);
    return true;
  }

  bool by_blocks(const RsvdPlan& plan) {
    const bool grow = plan.method == RsvdMethod::krylov;
    std::vector<double> before;
    has_w_ = true;
    Thin<T> z;
    for (int pass = 1;; ++pass) {
      Thin<T> y;
      Thin<T> w;
      if (pass == 1) {
        if (!first_read(plan.block, grow || plan.passes == 1)) return false;
        gram_ = gram_of(ctx_, y_);
      } else {
        if (!read(z, y, &w)) return false;
        if (grow) {
          append(std::move(z), std::move(y), std::move(w));
        } else {
          z_ = std::move(z);
          y_ = std::move(y);
          w_ = std::move(w);
          gram_ = gram_of(ctx_, y_);
        }
      }
      ritz_ = hermitian_eigen(gram_);
      const bool settled = pass > 1 && stagnated(before, remaining_growth(plan.method, pass));
      before = ritz_.values;
      if (pass >= plan.passes || (options_.passes == 0 && settled)) return true;
      if (grow && z_.cols == a_.cols) return true;  // all of A
      z = grow ? next_krylov(std::min(plan.block, a_.cols - z_.cols)) : next_subspace();
    }
  }

  /// Whether what the Ritz values may still grow by is too little, one by one and in all, the
  /// latter beside the error that is left (plan: remaining_growth).
  bool stagnated(const std::vector<double>& before, double still) const {
    const auto wanted = static_cast<std::size_t>(std::min<index_t>(
        rank_, static_cast<index_t>(std::min(before.size(), ritz_.values.size()))));
    const double noise = 16 * unit_roundoff<real_t<T>> * std::max(ritz_.values[0], 0.0);
    const double next = ritz_.values[std::min(wanted, ritz_.values.size() - 1)];
    double grown = 0;
    double kept = 0;
    for (std::size_t i = 0; i < wanted; ++i) {
      const double growth = ritz_.values[i] - before[i];
      if (still * growth > stagnation * next + noise) return false;
      grown += std::max(growth, 0.0);
      kept += ritz_.values[i];
    }
    return still * grown <=
           stagnation * std::max(state_.squares - kept, 0.0) + static_cast<double>(wanted) * noise;
  }

  /// orth(W E), E the Ritz vectors in descending order: the columns of the next Y are then graded,
  /// which keeps small singular values (the scaling in orthonormalize).
  Thin<T> next_subspace() {
    Thin<T> z(a_.cols, w_.cols);
    times_small(ctx_, w_, ritz_.vectors, real_t<T>(1), real_t<T>(0), z, 0);
    orthonormalize(ctx_, z, fallbacks_);
    return z;
  }

  /// The part of the newest W that is orthogonal to all of Z, orthonormal. Projected twice, and
  /// again where Householder QR had to fill in directions of its own.
  Thin<T> next_krylov(index_t block) {
    Thin<T> z(a_.cols, block);
    const index_t from = w_.cols - block;
    for (index_t i = 0; i < a_.cols; ++i) std::copy_n(w_.row(i) + from, block, z.row(i));
    for (int round = 0; round < 3; ++round) {
      const Small<D> c = cross_gram(ctx_, z_, 0, z_.cols, z, 0, block);
      double worst = 0;
      for (const D& v : c.entries) worst = std::max(worst, std::abs(v));
      if (round > 0 && worst < 50 * unit_roundoff<real_t<T>>) return z;
      times_small(ctx_, z_, c, real_t<T>(-1), real_t<T>(1), z, 0);
      orthonormalize(ctx_, z, fallbacks_);
    }
    // W holds nothing new, and what QR fills in lies anywhere: so all columns together.
    Thin<T> all = z_;
    join(all, z);
    householder_qr(all);
    ++fallbacks_.householder;
    for (index_t i = 0; i < a_.cols; ++i) std::copy_n(all.row(i) + z_.cols, block, z.row(i));
    return z;
  }

  static void join(Thin<T>& all, const Thin<T>& more) {
    Thin<T> out(all.rows, all.cols + more.cols);
    for (index_t i = 0; i < all.rows; ++i) {
      std::copy_n(all.row(i), all.cols, out.row(i));
      std::copy_n(more.row(i), more.cols, out.row(i) + all.cols);
    }
    all = std::move(out);
  }

  void append(Thin<T>&& z, Thin<T>&& y, Thin<T>&& w) {
    const index_t old = y_.cols;
    const Small<D> side = cross_gram(ctx_, y_, 0, old, y, 0, y.cols);
    const Small<D> corner = gram_of(ctx_, y);
    Small<D> g(old + y.cols, old + y.cols);
    for (index_t i = 0; i < old; ++i) {
      for (index_t j = 0; j < old; ++j) g(i, j) = gram_(i, j);
      for (index_t j = 0; j < y.cols; ++j) {
        g(i, old + j) = side(i, j);
        g(old + j, i) = conjugate(side(i, j));
      }
    }
    for (index_t i = 0; i < y.cols; ++i)
      for (index_t j = 0; j < y.cols; ++j) g(old + i, old + j) = corner(i, j);
    gram_ = std::move(g);
    join(z_, z);
    join(y_, y);
    join(w_, w);
  }

  bool by_gram(const RsvdPlan& plan) {
    bool memory = true;
    Small<D> g;
    if (!gram_pass<S, T>(ctx_, a_, state_, means_, g, memory)) {
      if (!memory) throw std::bad_alloc();
      return false;
    }
    ritz_ = hermitian_eigen(std::move(g));
    return eigenvectors(plan.block);
  }

  /// Z: the top eigenvectors of A^H A, as far as A^H A in double tells them apart.
  bool eigenvectors(index_t block) {
    const index_t n = a_.cols;
    const auto last = static_cast<std::size_t>(std::min(rank_, n) - 1);
    // Below, an eigenvector may be off by 1e-16 lambda_1 / lambda: another half step with W mends
    // it.
    has_w_ = ritz_.values[last] < 1e-9 * ritz_.values[0];
    const index_t size = has_w_ ? std::min(n, block) : std::min(n, rank_);
    z_ = Thin<T>(n, size);
    for (index_t i = 0; i < n; ++i)
      for (index_t j = 0; j < size; ++j) z_(i, j) = static_cast<T>(ritz_.vectors(i, j));
    orthonormalize(ctx_, z_, fallbacks_);
    return read(z_, y_, has_w_ ? &w_ : nullptr);
  }

  /// Z, Y and W onto the `size` Ritz vectors with the largest values, in descending order.
  void compress(index_t size) {
    Small<D> e(y_.cols, size);
    for (index_t i = 0; i < e.rows; ++i)
      for (index_t j = 0; j < size; ++j) e(i, j) = ritz_.vectors(i, j);
    const auto rotate = [&](Thin<T>& x) {
      Thin<T> out(x.rows, size);
      times_small(ctx_, x, e, real_t<T>(1), real_t<T>(0), out, 0);
      x = std::move(out);
    };
    rotate(z_);
    rotate(y_);
    if (has_w_) rotate(w_);
  }

  /// U, S, V of Q B with Y = Q R, B = R Z^H + (R^-H W_perp^H): the part of B within span(Z) is
  /// known to rounding, as A Z is. The rest, one half step more, is kept row by row where it stands
  /// above the noise that the division by R makes of the rounding of W.
  void finish(MatrixFactors<T>& out) {
    const index_t rank = rank_;
    // The Gram matrix tells Ritz vectors apart down to sqrt(u) sigma_1; below, all are kept.
    const index_t most = std::min(a_.rows, rank + options_.oversample);
    // After a single read the columns of Y follow the sketch, in no order: one that is all rounding
    // could come first and spoil every row of R^-1. Later reads have Y in order already.
    if (state_.reads == 1 || y_.cols > a_.rows ||
        (y_.cols > most &&
         ritz_.values[static_cast<std::size_t>(most - 1)] > 1e-10 * ritz_.values[0]))
      compress(std::min(most, y_.cols));
    const index_t r_size = y_.cols;
    if (options_.tolerance > 0) product_ = y_;
    Small<D> r = orthonormalize(ctx_, y_, fallbacks_);
    if (has_w_ && r_size < a_.cols) {
      Small<D> inverse = inverse_of_upper(r);
      const Small<D> c = cross_gram(ctx_, z_, 0, r_size, w_, 0, r_size);
      times_small(ctx_, z_, c, real_t<T>(-1), real_t<T>(1), w_, 0);
      std::vector<double> noise(static_cast<std::size_t>(r_size));
      const double u = unit_roundoff<real_t<T>>;
      for (index_t j = 0; j < r_size; ++j) {
        double sum = 0;
        for (index_t i = 0; i <= j; ++i) sum += std::abs(inverse(i, j));
        noise[static_cast<std::size_t>(j)] = 24 * u * ritz_.values[0] * sum;
        if (!(sum * std::sqrt(ritz_.values[0]) < 0.1 / u))
          for (index_t i = 0; i < r_size; ++i) inverse(i, j) = D(0);
      }
      Thin<T> b(a_.cols, r_size);
      times_small(ctx_, w_, inverse, real_t<T>(1), real_t<T>(0), b, 0);
      const Small<D> g = gram_of(ctx_, b);
      for (index_t j = 0; j < r_size; ++j)
        if (!(std::sqrt(std::real(g(j, j))) > noise[static_cast<std::size_t>(j)]))
          for (index_t i = 0; i < a_.cols; ++i) b(i, j) = T(0);
      times_small(ctx_, z_, adjoint(r), real_t<T>(1), real_t<T>(1), b, 0);
      r = adjoint(orthonormalize(ctx_, b, fallbacks_));
      z_ = std::move(b);
    }
    const SmallSvd<D> svd = small_svd(r);
    const index_t k = std::min(rank, r_size);
    Small<D> left(r_size, k);
    Small<D>& right = right_;
    right = Small<D>(r_size, k);
    for (index_t i = 0; i < r_size; ++i)
      for (index_t j = 0; j < k; ++j) {
        left(i, j) = svd.u(i, j);
        right(i, j) = conjugate(svd.vh(j, i));
      }
    out.u = Thin<T>(a_.rows, k);
    out.v = Thin<T>(a_.cols, k);
    times_small(ctx_, y_, left, real_t<T>(1), real_t<T>(0), out.u, 0);
    times_small(ctx_, z_, right, real_t<T>(1), real_t<T>(0), out.v, 0);
    out.s.assign(svd.s.begin(), svd.s.begin() + k);
    out.exponent = state_.exponent;
    estimate(out.s);
    figures_.rank = k;
  }

  /// ||A||_F^2 - ||S||_F^2, which rounding leaves unknown below a few u of ||A||_F^2: that much is
  /// added, so that what cannot be told from zero is not called zero.
  void estimate(const std::vector<double>& s) {
    double kept = 0;
    for (double v : s) kept += v * v;
    const double all = state_.squares;
    const double unknown = 4 * unit_roundoff<real_t<T>> * all;
    figures_.error = all > 0 ? std::sqrt((std::max(all - kept, 0.0) + unknown) / all) : 0.0;
    figures_.certified = false;
  }

  static Small<D> adjoint(const Small<D>& a) {
    Small<D> out(a.cols, a.rows);
    for (index_t i = 0; i < a.rows; ++i)
      for (index_t j = 0; j < a.cols; ++j) out(j, i) = conjugate(a(i, j));
    return out;
  }

  /// Columns that a zero on the diagonal spoils are left infinite.
  static Small<D> inverse_of_upper(const Small<D>& r) {
    const index_t n = r.rows;
    Small<D> x(n, n);
    for (index_t j = 0; j < n; ++j)
      for (index_t i = j; i >= 0; --i) {
        D sum = i == j ? D(1) : D(0);
        for (index_t k = i + 1; k <= j; ++k) sum -= r(i, k) * x(k, j);
        x(i, j) = r(i, i) == D(0) ? D(std::numeric_limits<double>::infinity()) : sum / r(i, i);
      }
    return x;
  }

  Context& ctx_;
  MatrixView<const S> a_;
  MatrixView<const S> start_;
  const RsvdOptions& options_;
  RsvdFigures& figures_;
  index_t rank_;
  PassState state_;
  Fallbacks fallbacks_;
  std::vector<D> means_;
  Thin<T> z_;
  Thin<T> y_;
  Thin<T> w_;
  bool has_w_ = true;
  Small<D> gram_;
  Eigen<D> ritz_;
  Small<D> right_;   // V = Z right_
  Thin<T> product_;  // A Z, kept where an error is to be certified
};

}  // namespace gramian::detail
