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
  const double entry = 1 / std::sqrt(static_cast<double>(features_));
  for (index_t j = 0; j < features_; ++j)
    z_[j] = entry * sketch_entry(seed, static_cast<std::uint64_t>(j), 0);
  figures_.length = 1;
  figures_.most = static_cast<double>(most);
}

void RandomOrder::update(const ArrayRef& rows, const double* weights) {
  for_each_row(rows, [&](double* x, double top, index_t i) {
    const double weight = weights ? weights[i] : 1.0;
    sketch_.add(x, top, weight);
    const double root = std::sqrt(weight);
    if (root != 1)
      for (index_t j = 0; j < features_; ++j) x[j] *= root;
    add(x);
  });
}

index_t RandomOrder::lightest() const {
  return std::min_element(heavy_squares_, heavy_squares_ + kept()) - heavy_squares_;
}

void RandomOrder::add(double* row) {
  RandomOrderFigures& f = figures_;
  const double squares = dot(row, row, features_);
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
  std::copy_n(row, features_, heavy_ + kept() * features_);
  heavy_squares_[kept()] = squares;
  f.kept += 1;
}

/// A kept row goes the way of the light ones.
void RandomOrder::drop(index_t i) {
  take_light(heavy_ + i * features_, heavy_squares_[i]);
  figures_.kept -= 1;
  const index_t end = kept();
  if (i == end) return;
  std::copy_n(heavy_ + end * features_, features_, heavy_ + i * features_);
  heavy_squares_[i] = heavy_squares_[end];
}

void RandomOrder::take_light(const double* row, double squares) {
  RandomOrderFigures& f = figures_;
  const double part = dot(row, z_, features_);
  for (index_t j = 0; j < features_; ++j) sum_[j] += part * row[j];
  f.block_squares += squares;
  f.light_squares += squares;
  f.count += 1;
  if (f.count < f.length) return;
  // A block is full: one step of the power iteration.
  const double norm = std::sqrt(dot(sum_, sum_, features_));
  if (norm > 0)
    for (index_t j = 0; j < features_; ++j) z_[j] = sum_[j] / norm;
  std::copy_n(sum_, features_, last_);
  std::fill_n(sum_, features_, 0.0);
  f.last_squares = std::exchange(f.block_squares, 0.0);
  f.count = 0;
  f.length = std::ceil(growth * f.length);
}

double RandomOrder::answer(double* v) const {
  const RandomOrderFigures& f = figures_;
  // Of the light rows: the sum of the last two blocks. Its length is what they have of the energy
  // along it, as a part of their own; all light rows have the same part in random order.
  std::vector<double> stacked(static_cast<std::size_t>((kept() + 1) * features_));
  double* light = stacked.data() + kept() * features_;
  for (index_t j = 0; j < features_; ++j) light[j] = sum_[j] + last_[j];
  const double norm = std::sqrt(dot(light, light, features_));
  index_t rows = kept();
  if (norm > 0) {
    const double energy =
        std::min(norm / (f.block_squares + f.last_squares), 1.0) * f.light_squares;
    for (index_t j = 0; j < features_; ++j) light[j] *= std::sqrt(energy) / norm;
    ++rows;
  }
  std::fill_n(v, features_, 0.0);
  if (rows == 0) return 0;
  std::copy_n(heavy_, kept() * features_, stacked.data());
  const WorkspaceMemory room(product_workspace<double>(rows, features_));
  if (!room.ok()) throw std::bad_alloc();
  Context ctx(1, false);
  Small<double> k(rows, rows);
  const auto view = row_major(k.data(), rows, rows);
  gram<double>(ctx, row_major<const double>(stacked.data(), rows, features_), Side::left,
               {1, 0, view, 0}, view, room.view());
  const Eigen<double> eigen = hermitian_eigen(std::move(k));
  for (index_t i = 0; i < rows; ++i)
    for (index_t j = 0; j < features_; ++j)
      v[j] += eigen.vectors(i, 0) * stacked[static_cast<std::size_t>(i * features_ + j)];
  const double length = std::sqrt(dot(v, v, features_));
  double top = 0;
  for (index_t j = 0; j < features_; ++j)
    if (std::abs(v[j]) > std::abs(top)) top = v[j];
  for (index_t j = 0; j < features_; ++j) v[j] /= std::copysign(length, top);
  return eigen.values[0];
}

}  // namespace gramian
