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
#include "gramian/start_vector.hpp"
#include "gramian/tridiagonal.hpp"
#include "gramian/workspace.hpp"

namespace gramian::detail {

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

  bool settled(double tolerance) {
    const bool close =
        ritz_settled({a_, b_, steps_}, b_[steps_ - 1], tolerance, y_, pivots_, theta_);
    return close || invariant_ || steps_ == n_;
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
