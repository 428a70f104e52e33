// The least rank whose error is proved to be at most a tolerance, in double whatever the input. The
// proof, line for line: docs/rsvd.md.
#pragma once

#include "rsvd_matrix.hpp"

namespace gramian::detail {

// Up to here A^H A and all its eigenvectors are cheaper than growing a basis.
inline constexpr index_t gram_side = 2048;

template <class S, class T>
class CertifiedRsvd : private MatrixRsvd<S, T> {
  using Base = MatrixRsvd<S, T>;
  using D = typename Base::D;
  using Base::a_, Base::ctx_, Base::figures_, Base::finish, Base::gram_, Base::options_,
      Base::rank_, Base::ritz_, Base::state_, Base::y_, Base::z_;
  static_assert(std::is_same_v<real_t<T>, double>);

 public:
  using Base::Base;
  using Base::state;

  bool run(MatrixFactors<T>& out) {
    const index_t cap = options_.rank;
    const bool use_gram = options_.method == RsvdMethod::gram ||
                          (options_.method == RsvdMethod::automatic && a_.cols <= gram_side);
    figures_.method = use_gram ? RsvdMethod::gram : RsvdMethod::krylov;
    const bool finite = use_gram ? gram_first() : grow(cap);
    if (!finite) return false;
    for (index_t more : {1, 2, 4, 8}) {
      rank_ = chosen_rank_;
      if (use_gram && !vectors(rank_)) return false;
      const Thin<T> y = y_;
      const Thin<T> z = z_;
      const Eigen<D> ritz = ritz_;
      columns_ = z_.cols;
      Base::has_w_ = false;
      finish(out);
      certify(out);
      if (figures_.reached || rank_ >= cap || figures_.floor > options_.tolerance) break;
      y_ = y;
      z_ = z;
      ritz_ = ritz;
      chosen_rank_ = std::min({cap, chosen_rank_ + more, use_gram ? cap : z_.cols});
    }
    Base::report();
    return true;
  }

 private:
  bool gram_first() {
    bool memory = true;
    Small<D> g;
    if (!gram_pass<S, T>(ctx_, a_, state_, Base::means_, g, memory)) {
      if (!memory) throw std::bad_alloc();
      return false;
    }
    ritz_ = hermitian_eigen(std::move(g));
    chosen_rank_ = choose(options_.rank);
    return true;
  }

  bool vectors(index_t size) {
    z_ = Thin<T>(a_.cols, size);
    for (index_t i = 0; i < a_.cols; ++i)
      for (index_t j = 0; j < size; ++j) z_(i, j) = ritz_.vectors(i, j);
    orthonormalize(ctx_, z_, Base::fallbacks_);
    return Base::read(z_, y_, nullptr);
  }

  /// The least rank that Ritz values promise to be enough; cap + 1 if none.
  index_t choose(index_t cap) const {
    const double target = 0.999 * options_.tolerance * options_.tolerance * state_.squares;
    double left = state_.squares;
    index_t k = 0;
    while (k < static_cast<index_t>(ritz_.values.size()) && k < cap && (left > target || k < 1))
      left -= std::max(ritz_.values[static_cast<std::size_t>(k++)], 0.0);
    settled_ = left <= target;
    return std::clamp<index_t>(std::max(k, options_.least_rank), 1, cap);
  }

  /// Block Krylov with a basis that doubles, until the rank it asks for stays the same.
  bool grow(index_t cap) {
    const index_t n = a_.cols;
    Base::has_w_ = true;
    index_t block = std::min<index_t>(n, 32);
    Thin<T> z = Base::first_block(block);
    index_t before = -1;
    for (bool first = true;; first = false) {
      Thin<T> y;
      Thin<T> w;
      if (!Base::read(z, y, &w)) return false;
      if (first) {
        z_ = std::move(z);
        y_ = std::move(y);
        Base::w_ = std::move(w);
        gram_ = gram_of(ctx_, y_);
      } else {
        Base::append(std::move(z), std::move(y), std::move(w));
      }
      ritz_ = hermitian_eigen(gram_);
      chosen_rank_ = choose(cap);
      const bool enough = settled_ || z_.cols >= cap + options_.oversample;
      if ((enough && before >= 0 && before - chosen_rank_ <= 1) || z_.cols >= n) return true;
      before = enough ? chosen_rank_ : -1;
      // All of W so far may be taken: twice the basis for one more read.
      block = std::min({n - z_.cols, enough ? std::min<index_t>(z_.cols, 2 * block) : z_.cols});
      z = Base::next_krylov(std::min(block, Base::w_.cols));
    }
  }

  /// error: an upper bound of ||A - U S V^H||_F / ||A||_F for the factors as they will be returned.
  void certify(const MatrixFactors<T>& out) {
    const double u = unit_roundoff<double>;
    const double unit = is_complex_v<T> ? 3 * u : 1.01 * u;
    const auto n = static_cast<double>(a_.cols);
    const auto m = static_cast<double>(a_.rows);
    const auto k = static_cast<double>(out.s.size());
    const auto r = static_cast<double>(z_.cols);
    const auto l = static_cast<double>(columns_);
    const double depth = is_complex_v<T> ? n + 4 : pass_roundings(a_.cols);
    // ||A V - P||_F <= slip ||A||_F, with P = Y right_ as computed.
    const double slip = 1.1 * unit *
                        (std::sqrt(l) * (depth + 2 * (l + 4) * std::sqrt(r)) +
                         2 * (r + 4) * std::sqrt(r) * std::sqrt(k));
    Thin<T> p(a_.rows, out.u.cols);
    times_small(ctx_, Base::product_, Base::right_, 1.0, 0.0, p, 0);
    double inner = 0;
    double x2 = 0;
    double p2 = 0;
    for (index_t j = 0; j < out.u.cols; ++j) {
      double dot = 0;
      double length = 0;
      for (index_t i = 0; i < a_.rows; ++i) {
        dot += std::real(conjugate(out.u(i, j)) * p(i, j));
        length += squared(out.u(i, j));
        p2 += squared(p(i, j));
      }
      const double s = out.s[static_cast<std::size_t>(j)];
      inner += s * dot;
      x2 += s * s * length;
    }
    Small<D> v = gram_of(ctx_, out.v);
    double skew = 0;
    for (index_t i = 0; i < v.rows; ++i)
      for (index_t j = 0; j < v.rows; ++j) skew += squared(v(i, j) - (i == j ? D(1) : D(0)));
    skew = std::sqrt(skew) + 1.1 * unit * (n + 8) * k;
    const double all = state_.squares;
    const double x = std::sqrt(x2);
    const double sums = 1.1 * unit * (m + n + k + 64);
    const double slack = sums * all + (skew + sums) * x2 + 2 * slip * x * std::sqrt(all) +
                         2 * sums * x * std::sqrt(p2);
    const double squares = std::max(all - 2 * inner + x2, 0.0) + slack;
    // Rounding U, S and V to the types that are returned, where they may over- or underflow.
    // Of complex factors, making the largest entries real too.
    const double rounding = 2.1 * returned_roundoff() * x +
                            1.1 * returned_least() * (std::sqrt(m) + std::sqrt(n)) * x +
                            1.1 * moved(out) + (is_complex_v<T> ? 20 * u * x : 0.0);
    figures_.error = all > 0 ? 1.000001 * (std::sqrt(squares) + rounding) / std::sqrt(all) : 0;
    figures_.floor = all > 0 ? 1.000001 * (std::sqrt(slack) + rounding) / std::sqrt(all) : 0;
    double z2 = 0;
    for (const T& entry : z_.entries) z2 += squared(entry);
    figures_.certified = state_.centering == Centering::none && z2 <= 1.1 * r;
    figures_.reached = figures_.error <= options_.tolerance;
  }

  /// ||S - S as returned||_F, infinite where that has infinities.
  static double moved(const MatrixFactors<T>& out) {
    using Figure = std::conditional_t<sizeof(real_t<S>) == 8, double, float>;
    double sum = 0;
    for (double s : out.s) {
      const auto figure = static_cast<Figure>(std::ldexp(s, out.exponent));
      const double away = s - std::ldexp(static_cast<double>(figure), -out.exponent);
      sum += away * away;
    }
    return std::sqrt(sum);
  }

  /// Of the type of U and V: the unit roundoff, and half its least positive number.
  static constexpr double returned_roundoff() {
    if constexpr (std::is_same_v<S, Half>) return 0x1p-11;
    if constexpr (std::is_same_v<S, BFloat16>) return 0x1p-8;
    return sizeof(real_t<S>) < 8 ? 0x1p-24 : 0.0;
  }
  static constexpr double returned_least() {
    if constexpr (std::is_same_v<S, Half>) return 0x1p-25;
    if constexpr (std::is_same_v<S, BFloat16>) return 0x1p-134;
    return sizeof(real_t<S>) < 8 ? 0x1p-150 : 0.0;
  }

  index_t chosen_rank_ = 1;
  index_t columns_ = 0;
  mutable bool settled_ = false;
};

}  // namespace gramian::detail
