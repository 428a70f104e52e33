#include "gramian/random_order.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "gramian/sketch.hpp"
#include "gramian/symmetric_product.hpp"
#include "gramian/workspace.hpp"
#include "small_lapack.hpp"
#include "streamed_rows.hpp"

namespace gramian {

using namespace detail;

namespace {

// Each block is that much longer than the one before: log(n) steps of the power iteration without
// knowing n, and the two last blocks hold more than half of the rows.
constexpr double growth = 1.5;

/// Part of ||A||_F^2 from which a row is heavy: 1 / (d log d).
double heavy_part(index_t features) {
  const double d = static_cast<double>(features);
  return 1 / (d * (1 + std::log(d)));
}

}  // namespace

void RandomOrder::start(std::uint64_t seed, index_t most) {
  // Real also where rows are complex.
  const double entry = 1 / std::sqrt(static_cast<double>(features_));
  const index_t step = reals_ / features_;
  for (index_t j = 0; j < features_; ++j)
    z_[step * j] = entry * sketch_entry(seed, static_cast<std::uint64_t>(j), 0);
  figures_.length = 1;
  figures_.most = static_cast<double>(most);
}

void RandomOrder::update(const ArrayRef& rows, const double* weights) {
  for_each_row(rows, [&](double* x, double top, index_t i) {
    const double weight = weights ? weights[i] : 1.0;
    sketch_.add(x, top, weight);
    const double root = std::sqrt(weight);
    if (root != 1)
      for (index_t j = 0; j < reals_; ++j) x[j] *= root;
    add(x);
  });
}

index_t RandomOrder::lightest() const {
  return std::min_element(heavy_squares_, heavy_squares_ + kept()) - heavy_squares_;
}

void RandomOrder::add(double* row) {
  RandomOrderFigures& f = figures_;
  const double squares = dot(row, row, reals_);
  if (squares == 0) return;
  f.squares += squares;
  const double least = heavy_part(features_) * f.squares;
  // ||A||_F has outgrown some of the rows kept.
  while (kept() > 0) {
    const index_t i = lightest();
    if (heavy_squares_[i] >= least) break;
    drop(i);
  }
  if (squares < least) return take_light(row, squares);
  if (f.kept == f.most) {
    const index_t i = kept() > 0 ? lightest() : 0;
    if (kept() == 0 || heavy_squares_[i] >= squares) return take_light(row, squares);
    drop(i);
  }
  std::copy_n(row, reals_, heavy_ + kept() * reals_);
  heavy_squares_[kept()] = squares;
  f.kept += 1;
}

/// A kept row goes the way of the light ones.
void RandomOrder::drop(index_t i) {
  take_light(heavy_ + i * reals_, heavy_squares_[i]);
  figures_.kept -= 1;
  const index_t end = kept();
  if (i == end) return;
  std::copy_n(heavy_ + end * reals_, reals_, heavy_ + i * reals_);
  heavy_squares_[i] = heavy_squares_[end];
}

void RandomOrder::take_light(const double* row, double squares) {
  RandomOrderFigures& f = figures_;
  if (sketch_.is_complex()) {
    // The adjoint of x^H (x z), a row as z^H is.
    const std::complex<double> part =
        inner(numbers<std::complex<double>>(row), numbers<std::complex<double>>(z_), features_);
    for (index_t j = 0; j < reals_; j += 2) {
      sum_[j] += part.real() * row[j] + part.imag() * row[j + 1];
      sum_[j + 1] += part.real() * row[j + 1] - part.imag() * row[j];
    }
  } else {
    const double part = dot(row, z_, reals_);
    for (index_t j = 0; j < reals_; ++j) sum_[j] += part * row[j];
  }
  f.block_squares += squares;
  f.light_squares += squares;
  f.count += 1;
  if (f.count < f.length) return;
  // A block is full: one step of the power iteration.
  const double norm = std::sqrt(dot(sum_, sum_, reals_));
  if (norm > 0)
    for (index_t j = 0; j < reals_; ++j) z_[j] = sum_[j] / norm;
  std::copy_n(sum_, reals_, last_);
  std::fill_n(sum_, reals_, 0.0);
  f.last_squares = std::exchange(f.block_squares, 0.0);
  f.count = 0;
  f.length = std::ceil(growth * f.length);
}

double RandomOrder::answer(double* v) const {
  const RandomOrderFigures& f = figures_;
  // Of the light rows: the sum of the last two blocks. Its length is what they have of the energy
  // along it, as a part of their own; all light rows have the same part in random order.
  std::vector<double> stacked(static_cast<std::size_t>((kept() + 1) * reals_));
  double* light = stacked.data() + kept() * reals_;
  for (index_t j = 0; j < reals_; ++j) light[j] = sum_[j] + last_[j];
  const double norm = std::sqrt(dot(light, light, reals_));
  index_t rows = kept();
  if (norm > 0) {
    const double energy =
        std::min(norm / (f.block_squares + f.last_squares), 1.0) * f.light_squares;
    for (index_t j = 0; j < reals_; ++j) light[j] *= std::sqrt(energy) / norm;
    ++rows;
  }
  std::fill_n(v, reals_, 0.0);
  if (rows == 0) return 0;
  std::copy_n(heavy_, kept() * reals_, stacked.data());
  if (sketch_.is_complex()) return top_of(stacked.data(), rows, numbers<std::complex<double>>(v));
  return top_of(stacked.data(), rows, v);
}

/// The top right singular vector of a few rows as a row v^H, and its singular value squared.
template <class T>
double RandomOrder::top_of(const double* stacked, index_t rows, T* v) const {
  [[maybe_unused]] static const bool blas_is_quiet = (blas_use_one_thread(), true);
  const T* from = numbers<T>(stacked);
  const WorkspaceMemory room(product_workspace<T>(rows, features_));
  if (!room.ok()) throw std::bad_alloc();
  Context ctx(1, false);
  Small<T> k(rows, rows);
  const auto view = row_major(k.data(), rows, rows);
  gram<T>(ctx, row_major<const T>(from, rows, features_), Side::left, {1, 0, view, 0}, view,
          room.view());
  const Eigen<T> eigen = hermitian_eigen(std::move(k));
  for (index_t i = 0; i < rows; ++i) {
    const T part = conjugate(eigen.vectors(i, 0));
    for (index_t j = 0; j < features_; ++j) v[j] += part * from[i * features_ + j];
  }
  const auto* reals = reinterpret_cast<const double*>(v);
  const double length = std::sqrt(dot(reals, reals, reals_));
  for (index_t j = 0; j < features_; ++j) v[j] /= length;
  turn_to_positive(v, features_);
  return eigen.values[0];
}

}  // namespace gramian
