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
  for (index_t i = 0; i < filled(); ++i) trace += dot(row(i), row(i), features_);
  return rounding::raise(figures_.delta + figures_.rounding + offset_error() +
                         (1 + 1e-6) * row_rounding * trace);
}

void FrequentDirections::spectrum(index_t count, double* values, double* vectors) const {
  Context ctx(1, false);
  const index_t held = filled();
  std::fill_n(values, count, 0.0);
  Thin<double> basis(features_, count);
  if (held > 0) {
    const ProvedEigen k = proved_eigen(ctx, rows_, held, features_);
    Small<double> w(std::min(held, count), held);
    for (index_t i = 0; i < w.rows; ++i) {
      values[i] = std::max(k.eigen.values[static_cast<std::size_t>(i)], 0.0);
      for (index_t j = 0; j < held; ++j) w(i, j) = k.eigen.vectors(j, i);
    }
    rotate_rows(w, rows_, features_, vectors);
    for (index_t i = 0; i < w.rows; ++i) {
      const double* v = vectors + i * features_;
      const double length = std::sqrt(dot(v, v, features_));
      if (length > 0)
        for (index_t j = 0; j < features_; ++j) basis(j, i) = v[j] / length;
    }
  }
  // Orthonormal whatever is in it: directions that no row has are filled up.
  householder_qr(basis);
  for (index_t i = 0; i < count; ++i) {
    double top = 0;
    for (index_t j = 0; j < features_; ++j)
      if (std::abs(basis(j, i)) > std::abs(top)) top = basis(j, i);
    const double sign = top < 0 ? -1 : 1;
    for (index_t j = 0; j < features_; ++j) vectors[i * features_ + j] = sign * basis(j, i);
  }
}

double FrequentDirections::certificate(const double* v) const {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const index_t held = filled();
  const double squares = dot(v, v, features_);
  if (held == 0 || !(squares > 0)) return infinity;
  if (features_ == 1) return 0;
  Context ctx(1, false);
  const ProvedEigen k = proved_eigen(ctx, rows_, held, features_);
  std::vector<double> image(static_cast<std::size_t>(features_));
  double energy = 0;
  for (index_t i = 0; i < held; ++i) {
    const double part = dot(row(i), v, features_);
    energy += part * part;
    for (index_t j = 0; j < features_; ++j) image[static_cast<std::size_t>(j)] += part * row(i)[j];
  }
  const double quotient = energy / squares;
  double left = 0;
  for (index_t j = 0; j < features_; ++j) {
    const double r = image[static_cast<std::size_t>(j)] - quotient * v[j];
    left += r * r;
  }
  const double residual = std::sqrt(left / squares);
  const EigenProof& p = k.proof;
  const double slack = rounding::accumulated<double>(6 * static_cast<double>(features_) +
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
