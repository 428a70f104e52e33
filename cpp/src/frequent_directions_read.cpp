// What is read off a settled sketch, line for line as in docs/streaming_frequent_directions.md.
#include <cmath>
#include <limits>

#include "frequent_directions_proof.hpp"
#include "gramian/frequent_directions.hpp"
#include "streamed_rows.hpp"

namespace gramian {

using namespace detail;

double FrequentDirections::offset_error() const {
  // 1e-6 covers the rounding of the sum of squares.
  const double p = std::sqrt(figures_.offsets);
  return (1 + 1e-6) * (2 * std::sqrt(figures_.squares + figures_.squares_low) * p + p * p);
}

double FrequentDirections::error() const {
  double trace = 0;
  for (index_t i = 0; i < filled(); ++i) trace += dot(row(i), row(i), reals_);
  return rounding::raise(figures_.delta + figures_.rounding + offset_error() +
                         (1 + 1e-6) * row_rounding * trace);
}

void FrequentDirections::spectrum(index_t count, double* values, double* vectors) const {
  if (complex_)
    read_spectrum(count, values, numbers<std::complex<double>>(vectors));
  else
    read_spectrum(count, values, vectors);
}

template <class T>
void FrequentDirections::read_spectrum(index_t count, double* values, T* vectors) const {
  Context ctx(1, false);
  const index_t held = filled();
  std::fill_n(values, count, 0.0);
  Thin<T> basis(features_, count);
  if (held > 0) {
    const T* rows = numbers<T>(rows_);
    const ProvedEigen<T> k = proved_eigen<T>(ctx, rows, held, features_);
    Small<T> w(std::min(held, count), held);
    for (index_t i = 0; i < w.rows; ++i) {
      values[i] = std::max(k.eigen.values[static_cast<std::size_t>(i)], 0.0);
      for (index_t j = 0; j < held; ++j) w(i, j) = conjugate(k.eigen.vectors(j, i));
    }
    rotate_rows<T>(w, rows, features_, vectors);
    for (index_t i = 0; i < w.rows; ++i) {
      const T* v = vectors + i * features_;
      const auto* reals = reinterpret_cast<const double*>(v);
      const double length = std::sqrt(dot(reals, reals, reals_));
      if (length > 0)
        for (index_t j = 0; j < features_; ++j) basis(j, i) = v[j] / length;
    }
  }
  // Orthonormal whatever is in it: directions that no row has are filled up.
  householder_qr(basis);
  for (index_t i = 0; i < count; ++i) {
    T* v = vectors + i * features_;
    for (index_t j = 0; j < features_; ++j) v[j] = basis(j, i);
    turn_to_positive(v, features_);
  }
}

double FrequentDirections::certificate(const double* v) const {
  return complex_ ? certify(numbers<std::complex<double>>(v)) : certify(v);
}

template <class T>
double FrequentDirections::certify(const T* v) const {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const index_t held = filled();
  const auto* reals = reinterpret_cast<const double*>(v);
  const double squares = dot(reals, reals, reals_);
  if (held == 0 || !(squares > 0)) return infinity;
  if (features_ == 1) return 0;
  Context ctx(1, false);
  const T* rows = numbers<T>(rows_);
  const ProvedEigen<T> k = proved_eigen<T>(ctx, rows, held, features_);
  std::vector<T> image(static_cast<std::size_t>(features_));
  double energy = 0;
  for (index_t i = 0; i < held; ++i) {
    const T* row = rows + i * features_;
    const T part = inner(row, v, features_);
    energy += squared(part);
    // The adjoint of M^H (M v), a row as v^H is.
    const T along = conjugate(part);
    for (index_t j = 0; j < features_; ++j) image[static_cast<std::size_t>(j)] += along * row[j];
  }
  const double quotient = energy / squares;
  double left = 0;
  for (index_t j = 0; j < features_; ++j)
    left += squared(image[static_cast<std::size_t>(j)] - quotient * v[j]);
  const double residual = std::sqrt(left / squares);
  const EigenProof& p = k.proof;
  const double slack = rounding::accumulated<T>(6 * static_cast<double>(features_) +
                                                4 * static_cast<double>(held) + 64) *
                       p.trace;
  const double first = k.eigen.values[0] + p.error;
  const double second = held > 1 ? std::max(k.eigen.values[1], 0.0) + p.error : 0.0;
  const double rounded = figures_.rounding + offset_error() + row_rounding * p.trace;
  const double taken = figures_.delta + 2 * rounded + 2 * (residual + slack);
  const double gap = 2 * (quotient - slack) - first - second;
  return half_angle_sine(rounding::raise(taken), gap - 8 * rounding::u * p.norm);
}

}  // namespace gramian
