// The largest eigenvalue of a Hermitian matrix and a vector that shows it (Lanczos 1950). Nothing
// here is a certificate: the vector's Rayleigh quotient is bounded, and an upper bound proved,
// afterwards. So neither lost orthogonality nor a stop that came too early can make a bound wrong.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>

#include "blas.hpp"
#include "gramian/context.hpp"
#include "gramian/matrix_view.hpp"
#include "gramian/workspace.hpp"

namespace gramian::detail {

/// Uniform in (-1, 1), from a counter (SplitMix64): the same on every machine.
inline double random_entry(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t z = seed * 0xd1342543de82ef95ull + (index + 1) * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1p-52 - 1.0 + 0x1p-53;
}

/// y <- G x for a Hermitian G, row-major; cut into rows by n alone, so that the bits do not depend
/// on the number of threads.
template <class T>
void hermitian_times_vector(Context& ctx, const T* g, index_t n, const T* x, T* y) {
  constexpr index_t band = 64;
  ctx.run((n + band - 1) / band, [&](index_t b, int) {
    const index_t first = b * band;
    const int rows = static_cast<int>(std::min(band, n - first));
    const int cols = static_cast<int>(n);
    if constexpr (is_complex_v<T>) {
      const T one = 1;
      const T zero = 0;
      GRAMIAN_BLAS(cblas_zgemv)(CblasRowMajor, CblasNoTrans, rows, cols, &one, g + first * n, cols,
                                x, 1, &zero, y + first, 1);
    } else {
      GRAMIAN_BLAS(cblas_dgemv)(CblasRowMajor, CblasNoTrans, rows, cols, 1.0, g + first * n, cols,
                                x, 1, 0.0, y + first, 1);
    }
  });
}

/// Real part of x^H y, summed in 8 lanes.
template <class T>
double real_dot(const T* x, const T* y, index_t n) {
  const auto* a = reinterpret_cast<const double*>(x);
  const auto* b = reinterpret_cast<const double*>(y);
  const index_t count = n * (is_complex_v<T> ? 2 : 1);
  double lane[8] = {};
  index_t j = 0;
  for (; j + 8 <= count; j += 8)
    for (int l = 0; l < 8; ++l) lane[l] += a[j + l] * b[j + l];
  double sum =
      ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
  for (; j < count; ++j) sum += a[j] * b[j];
  return sum;
}

/// y <- y + a x.
template <class T>
void add_multiple(double a, const T* x, index_t n, T* y) {
  const auto* from = reinterpret_cast<const double*>(x);
  auto* to = reinterpret_cast<double*>(y);
  const index_t count = n * (is_complex_v<T> ? 2 : 1);
  for (index_t j = 0; j < count; ++j) to[j] += a * from[j];
}

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
      const double norm = std::sqrt(real_dot(y, y, n));
      for (index_t i = 0; i < n; ++i) y[i] /= norm;
    }
  }
};

template <class T>
class Lanczos {
 public:
  static std::size_t workspace(index_t n) {
    const index_t steps = most_steps(n);
    return Workspace::bytes_for<T>((steps + 1) * n) + 4 * Workspace::bytes_for<double>(steps);
  }

  Lanczos(Context& ctx, const T* g, index_t n, std::uint64_t seed, Workspace workspace)
      : ctx_(ctx), g_(g), n_(n), most_(most_steps(n)) {
    basis_ = workspace.take<T>((most_ + 1) * n);
    for (double** p : {&a_, &b_, &y_, &pivots_}) *p = workspace.take<double>(most_);
    auto* start = reinterpret_cast<double*>(basis_);
    const index_t count = n * (is_complex_v<T> ? 2 : 1);
    for (index_t i = 0; i < count; ++i)
      start[i] = random_entry(seed, static_cast<std::uint64_t>(i));
    normalize(basis_, std::sqrt(real_dot(basis_, basis_, n)));
  }

  /// Goes on until the largest Ritz value is likely within tolerance times itself of the largest
  /// eigenvalue; false if the basis is full before that.
  bool advance(double tolerance) {
    index_t next_check = steps_ + 8;
    while (steps_ < most_ && !invariant_) {
      step();
      if (steps_ < next_check && steps_ < most_ && !invariant_) continue;
      next_check = steps_ + std::max<index_t>(4, steps_ / 8);
      if (settled(tolerance)) return true;
    }
    return settled(tolerance);
  }

  /// The Ritz vector that belongs to the largest Ritz value.
  void vector(T* v) const {
    std::fill_n(v, n_, T{});
    for (index_t j = 0; j < steps_; ++j) add_multiple(y_[j], basis_ + j * n_, n_, v);
  }

  int steps() const { return static_cast<int>(steps_); }

 private:
  // Beyond this LAPACK's eigenvalues are cheaper.
  static index_t most_steps(index_t n) { return std::min(n, std::max<index_t>(400, n / 4)); }

  void normalize(T* q, double norm) {
    auto* entries = reinterpret_cast<double*>(q);
    const index_t count = n_ * (is_complex_v<T> ? 2 : 1);
    for (index_t i = 0; i < count; ++i) entries[i] /= norm;
  }

  void step() {
    const index_t j = steps_++;
    const T* q = basis_ + j * n_;
    T* w = basis_ + (j + 1) * n_;
    hermitian_times_vector(ctx_, g_, n_, q, w);
    if (j > 0) add_multiple(-b_[j - 1], q - n_, n_, w);
    a_[j] = real_dot(q, w, n_);
    add_multiple(-a_[j], q, n_, w);
    b_[j] = std::sqrt(real_dot(w, w, n_));
    size_ = std::max(size_, std::abs(a_[j]) + b_[j]);
    invariant_ = b_[j] <= 0x1p-48 * size_;
    if (!invariant_) normalize(w, b_[j]);
  }

  /// Residual r = ||G v - theta v|| = b |y_last|. An eigenvalue lies within r of theta, and within
  /// r^2 / gap if the others keep away by gap (Kato-Temple); the Ritz values stand for them.
  bool settled(double tolerance) {
    const Tridiagonal t{a_, b_, steps_};
    const double above = t.largest();
    t.eigenvector(above, y_, pivots_);
    theta_ = std::max(theta_, above * (1 - 0x1p-44));
    if (invariant_ || steps_ == n_) return true;
    const double residual = b_[steps_ - 1] * std::abs(y_[steps_ - 1]);
    const double wanted = tolerance * theta_;
    if (residual <= wanted) return true;
    const double gap = residual * residual / wanted;
    return gap < theta_ && t.count_above(theta_ - gap) <= 1;
  }

  Context& ctx_;
  const T* g_;
  index_t n_;
  index_t most_;
  index_t steps_ = 0;
  T* basis_;
  double *a_, *b_, *y_, *pivots_;
  double theta_ = 0;
  double size_ = 0;
  bool invariant_ = false;
};

}  // namespace gramian::detail
