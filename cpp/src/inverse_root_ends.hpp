// Estimates of both ends of a Hermitian matrix' spectrum, in the type of the matrix. Nothing is
// proved with them: a largest eigenvalue that was missed makes the iteration diverge, a smallest
// one makes it longer, and either is seen.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>

#include "blas.hpp"
#include "gramian/context.hpp"
#include "gramian/dtype.hpp"
#include "gramian/matrix_view.hpp"
#include "gramian/start_vector.hpp"
#include "gramian/tridiagonal.hpp"
#include "gramian/workspace.hpp"

namespace gramian::detail {

/// y <- H x; cut into rows by n alone, so that the bits do not depend on the number of threads.
template <class T>
void hermitian_gemv(Context& ctx, MatrixView<const T> h, const T* x, T* y) {
  constexpr index_t band = 64;
  const int cols = static_cast<int>(h.cols);
  const int ld = static_cast<int>(h.row_stride);
  ctx.run((h.rows + band - 1) / band, [&](index_t b, int) {
    const index_t first = b * band;
    const int rows = static_cast<int>(std::min(band, h.rows - first));
    const T* a = h.data + first * h.row_stride;
    T* to = y + first;
    const T one = 1;
    const T zero = 0;
    if constexpr (std::is_same_v<T, float>)
      GRAMIAN_BLAS(cblas_sgemv)(CblasRowMajor, CblasNoTrans, rows, cols, one, a, ld, x, 1, zero, to,
                                1);
    else if constexpr (std::is_same_v<T, double>)
      GRAMIAN_BLAS(cblas_dgemv)(CblasRowMajor, CblasNoTrans, rows, cols, one, a, ld, x, 1, zero, to,
                                1);
    else if constexpr (std::is_same_v<T, std::complex<float>>)
      GRAMIAN_BLAS(cblas_cgemv)(CblasRowMajor, CblasNoTrans, rows, cols, &one, a, ld, x, 1, &zero,
                                to, 1);
    else
      GRAMIAN_BLAS(cblas_zgemv)(CblasRowMajor, CblasNoTrans, rows, cols, &one, a, ld, x, 1, &zero,
                                to, 1);
  });
}

/// Real part of x^H y, in double and 8 lanes.
template <class T>
double real_part_of_dot(const T* x, const T* y, index_t n) {
  const auto* a = reinterpret_cast<const real_t<T>*>(x);
  const auto* b = reinterpret_cast<const real_t<T>*>(y);
  const index_t count = n * (is_complex_v<T> ? 2 : 1);
  double lane[8] = {};
  index_t j = 0;
  for (; j + 8 <= count; j += 8)
    for (int l = 0; l < 8; ++l)
      lane[l] += static_cast<double>(a[j + l]) * static_cast<double>(b[j + l]);
  double sum =
      ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
  for (; j < count; ++j) sum += static_cast<double>(a[j]) * static_cast<double>(b[j]);
  return sum;
}

/// Lanczos' recurrence, of which only the tridiagonal matrix is kept. Lost orthogonality repeats
/// eigenvalues that have been found, and harms none.
template <class T>
class SpectrumEnds {
 public:
  static constexpr index_t most_steps = 300;
  // The decision to stop takes a cluster of eigenvalues for one. An eigenvalue is within the
  // residual of the Ritz value, so this is how far that may lie below the top of its cluster.
  static constexpr double cluster = std::is_same_v<real_t<T>, float> ? 0x1p-17 : 0x1p-24;

  static std::size_t workspace(index_t n) {
    return 3 * Workspace::bytes_for<T>(n) + 5 * Workspace::bytes_for<double>(most_steps);
  }

  SpectrumEnds(Context& ctx, MatrixView<const T> h, Workspace workspace) : ctx_(ctx), h_(h) {
    for (T** p : {&before_, &now_, &next_}) *p = workspace.take<T>(h.rows);
    for (double** p : {&a_, &b_, &y_, &pivots_, &turned_}) *p = workspace.take<double>(most_steps);
    auto* start = reinterpret_cast<real_t<T>*>(now_);
    const index_t count = h.rows * (is_complex_v<T> ? 2 : 1);
    constexpr std::uint64_t seed = 0x67726d6e;  // any
    for (index_t i = 0; i < count; ++i)
      start[i] = static_cast<real_t<T>>(random_entry(seed, static_cast<std::uint64_t>(i)));
    scale(now_, 1 / std::sqrt(real_part_of_dot(now_, now_, h.rows)));
  }

  /// At least `least` steps, then on until the largest Ritz value is likely within tolerance times
  /// itself of the largest eigenvalue.
  void advance(double tolerance, index_t least) {
    index_t next_check = std::min(least, most_steps);
    while (steps_ < most_steps && !invariant_) {
      step();
      if (steps_ < next_check && !invariant_) continue;
      next_check = steps_ + std::max<index_t>(4, steps_ / 8);
      if (ritz_settled({a_, b_, steps_}, b_[steps_ - 1], tolerance, y_, pivots_, theta_) &&
          b_[steps_ - 1] * std::abs(y_[steps_ - 1]) <= std::max(tolerance, cluster) * theta_)
        break;
    }
    refine(tolerance);
  }

  double largest() const { return largest_; }

  /// The smallest Ritz value, which is never far below the smallest eigenvalue.
  double smallest() const {
    const double c = largest_ * (1 + 0x1p-20) + 0x1p-500;
    for (index_t i = 0; i < steps_; ++i) turned_[i] = c - a_[i];
    return c - Tridiagonal{turned_, b_, steps_}.largest();
  }

 private:
  /// next <- next - q (q^H next).
  void take_out(const T* q) {
    using Wide = std::conditional_t<is_complex_v<T>, std::complex<double>, double>;
    Wide sum{};
    for (index_t i = 0; i < h_.rows; ++i) {
      if constexpr (is_complex_v<T>)
        sum += std::conj(Wide(q[i])) * Wide(next_[i]);
      else
        sum += Wide(q[i]) * Wide(next_[i]);
    }
    const T c = static_cast<T>(sum);
    for (index_t i = 0; i < h_.rows; ++i) next_[i] -= c * q[i];
  }

  void scale(T* q, double factor) {
    const auto f = static_cast<real_t<T>>(factor);
    for (index_t i = 0; i < h_.rows; ++i) q[i] *= f;
  }

  /// Laguerre's iteration is slow where lost orthogonality has repeated the eigenvalue; counting is
  /// not, and it is accurate to the last bits.
  void refine(double tolerance) {
    const Tridiagonal t{a_, b_, steps_};
    double high = t.largest();
    double width = 0x1p-30 * high;
    double low = high - width;
    while (low > 0 && t.count_above(low) == 0) {
      high = low;
      width *= 4;
      low = high - width;
    }
    while (high - low > tolerance / 2 * high) {
      const double middle = low + (high - low) / 2;
      if (middle <= low || middle >= high) break;
      (t.count_above(middle) ? low : high) = middle;
    }
    largest_ = high;
  }

  void step() {
    const index_t n = h_.rows;
    const index_t j = steps_++;
    hermitian_gemv<T>(ctx_, h_, now_, next_);
    a_[j] = real_part_of_dot(now_, next_, n);
    const auto a = static_cast<real_t<T>>(a_[j]);
    const auto b = static_cast<real_t<T>>(j > 0 ? b_[j - 1] : 0.0);
    if (j == 0)
      for (index_t i = 0; i < n; ++i) next_[i] -= a * now_[i];
    else
      for (index_t i = 0; i < n; ++i) next_[i] -= a * now_[i] + b * before_[i];
    b_[j] = std::sqrt(real_part_of_dot(next_, next_, n));
    size_ = std::max(size_, std::abs(a_[j]) + b_[j]);
    if (b_[j] < 0x1p-4 * size_) {
      // What is left is in good part rounding, and along its neighbours, which would count twice.
      take_out(now_);
      if (j > 0) take_out(before_);
      b_[j] = std::sqrt(real_part_of_dot(next_, next_, n));
    }
    invariant_ = b_[j] <= 4 * unit_roundoff<real_t<T>> * size_ || steps_ >= 2 * n + 8;
    if (!invariant_) scale(next_, 1 / b_[j]);
    T* free = before_;
    before_ = now_;
    now_ = next_;
    next_ = free;
  }

  Context& ctx_;
  MatrixView<const T> h_;
  index_t steps_ = 0;
  T *before_, *now_, *next_;
  double *a_, *b_, *y_, *pivots_, *turned_;
  double theta_ = 0;  // lowered a little, for the decision to stop
  double largest_ = 0;
  double size_ = 0;
  bool invariant_ = false;
};

}  // namespace gramian::detail
