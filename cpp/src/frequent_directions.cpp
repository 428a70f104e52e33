// Frequent Directions: rows in, shrinking, merging. What is read off: frequent_directions_read.cpp.
#include "gramian/frequent_directions.hpp"

#include <algorithm>
#include <cmath>

#include "frequent_directions_proof.hpp"
#include "streamed_rows.hpp"
#include "two_parts.hpp"

namespace gramian {

using namespace detail;

// Gram product and eigenproblem together cost least per row near twice the sketch, but three times
// are little more and lose far less: docs/streaming_frequent_directions.md.
index_t sketch_capacity(index_t size) { return 3 * size; }

namespace {

/// values <- 2^shift values, exactly but for underflow.
void times_power(double* values, index_t count, int shift) {
  const PowerOfTwo<double, double> power(shift);
  for (index_t j = 0; j < count; ++j) values[j] = power(values[j]);
}

}  // namespace

void FrequentDirections::rescale(int exponent) {
  SketchFigures& f = figures_;
  const int shift = static_cast<int>(f.exponent) - exponent;
  f.exponent = exponent;
  if (shift == 0 || f.steps == 0) return;
  times_power(rows_, filled() * reals_, shift);
  if (mean_) times_power(mean_, reals_, shift);
  f.mean_error = scaled_up(f.mean_error, shift);
  f.delta = scaled_up(f.delta, 2 * shift);
  f.rounding = scaled_up(f.rounding, 2 * shift);
  f.offsets = scaled_up(f.offsets, 2 * shift);
  f.spared = std::ldexp(f.spared, 2 * shift);
  f.squares = std::ldexp(f.squares, 2 * shift);
  f.squares_low = std::ldexp(f.squares_low, 2 * shift);
}

void FrequentDirections::decay_totals() {
  if (decay_ == 1) return;
  figures_.squares *= decay_;
  figures_.squares_low *= decay_;
  if (mean_) multiply(figures_.weight, figures_.weight_low, decay_);
  figures_.offsets = rounding::raise(figures_.offsets * decay_);
}

/// Rows so far decayed must not vanish beside units that were made for rows long gone.
void FrequentDirections::keep_units() {
  SketchFigures& f = figures_;
  constexpr double small = 0x1p-400;
  if (decay_ == 1 || !(f.squares > 0) || f.squares > small) return;
  settle();
  if (f.squares > 0 && f.squares < small)
    rescale(std::max(static_cast<int>(f.exponent) + std::ilogb(f.squares) / 2, least_exponent()));
}

/// The least exponent of units that hold the square of the mean: the scatter may decay far below.
int FrequentDirections::least_exponent() const {
  constexpr int large = 400;
  int relative = 0;
  if (mean_) std::frexp(largest_of(mean_, reals_), &relative);
  return mean_ && relative != 0 ? static_cast<int>(figures_.exponent) + relative - large
                                : -1000000000;
}

/// As if `steps` rows of zeros had come, in parts that leave no row without digits: each rescales.
/// Rows that end up below `least` are nothing beside what comes, and then the rest goes at once.
void FrequentDirections::age(double steps, int least) {
  SketchFigures& f = figures_;
  if (decay_ == 1) {
    f.steps += steps;
    return;
  }
  const double most = std::max(1.0, std::floor(-400 / std::log2(decay_)));
  while (steps > 0) {
    const double part = f.exponent < least ? steps : std::min(steps, most);
    const double factor = std::pow(decay_, part);
    f.steps += part;
    f.squares *= factor;
    f.squares_low *= factor;
    multiply(f.weight, f.weight_low, factor);
    f.offsets = rounding::raise(f.offsets * factor);
    settle();
    steps -= part;
  }
}

/// Nothing but zeros was seen: there is no unit yet.
bool FrequentDirections::blank() const {
  if (figures_.squares != 0 || filled() > 0) return false;
  return !mean_ || largest_of(mean_, reals_) == 0;
}

void FrequentDirections::store(const double* scaled, double factor) {
  double* to = row(filled());
  for (index_t j = 0; j < reals_; ++j) to[j] = factor * scaled[j];
  stamps_[filled()] = figures_.steps;
  figures_.filled += 1;
}

void FrequentDirections::append(const double* scaled, double factor) {
  const double* to = row(filled());
  store(scaled, factor);
  add_to(figures_.squares, figures_.squares_low, dot(to, to, reals_));
}

void FrequentDirections::shrink_if_full() {
  if (filled() == sketch_capacity(size_)) shrink();
}

void FrequentDirections::update(const ArrayRef& rows, const double* weights) {
  for_each_row(rows, [&](const double* x, double top, index_t i) {
    add(x, top, weights ? weights[i] : 1.0);
  });
}

void FrequentDirections::add(const double* x, double top, double weight) {
  SketchFigures& f = figures_;
  int exponent = 0;
  int weight_exponent = 0;
  const double root = std::sqrt(weight);
  std::frexp(top, &exponent);
  std::frexp(root, &weight_exponent);
  const int needed = exponent + std::max(weight_exponent, 0);
  f.steps += 1;
  decay_totals();
  keep_units();
  if (top > 0 && (needed > f.exponent || (f.squares == 0 && !mean_))) rescale(needed);
  if (!mean_) {
    if (top == 0) return;
    const PowerOfTwo<double, double> power(-static_cast<int>(f.exponent));
    double* to = row(filled());
    for (index_t j = 0; j < reals_; ++j) to[j] = power(x[j]);
    append(to, root);
    shrink_if_full();
    return;
  }
  // Welford: A^T A of centred rows grows by w W / (W + w) y y^T, y the row less the mean before.
  const double before = f.weight;
  add_rounded(f.weight, f.weight_low, weight);
  const double part = weight / f.weight;
  const PowerOfTwo<double, double> power(-static_cast<int>(f.exponent));
  double* to = row(filled());
  for (index_t j = 0; j < reals_; ++j) to[j] = power(x[j]) - mean_[j];
  for (index_t j = 0; j < reals_; ++j) mean_[j] += part * to[j];
  const double moved = std::sqrt(dot(to, to, reals_));
  const double length = std::sqrt(dot(mean_, mean_, reals_));
  const double factor = std::sqrt(before * part);
  const double off = factor * f.mean_error;
  f.offsets = rounding::raise(f.offsets + off * off);
  f.mean_error = rounding::raise((before / f.weight) * f.mean_error +
                                 rounding::u * (8 * part * moved + 2 * length));
  if (moved == 0 || factor == 0) return;
  append(to, factor);
  shrink_if_full();
}

void FrequentDirections::settle() {
  SketchFigures& f = figures_;
  double top = 0;
  bool decayed = false;
  for (index_t i = 0; i < filled(); ++i) {
    double* r = row(i);
    if (stamps_[i] != f.steps && decay_ != 1) {
      decayed = true;
      const double factor = std::pow(decay_, 0.5 * (f.steps - stamps_[i]));
      for (index_t j = 0; j < reals_; ++j) r[j] *= factor;
    }
    stamps_[i] = f.steps;
    top = std::max(top, largest_of(r, reals_));
  }
  if (decay_ != 1 && f.settled != f.steps) {
    const double factor = rounding::raise(std::pow(decay_, f.steps - f.settled));
    for (double* bound : {&f.delta, &f.rounding})
      if (*bound > 0) *bound = std::max(rounding::raise(*bound * factor), 0x1p-1000);
    f.spared *= factor;
  }
  f.settled = f.steps;
  if (decayed) f.rounding = rounding::raise(f.rounding + row_rounding * f.squares);
  if (top > 0) {
    int relative = 0;
    std::frexp(top, &relative);
    rescale(std::max(static_cast<int>(f.exponent) + relative, least_exponent()));
  }
}

void FrequentDirections::shrink() {
  settle();
  if (filled() <= size_) return;
  if (complex_)
    shrink_rows<std::complex<double>>();
  else
    shrink_rows<double>();
}

template <class T>
void FrequentDirections::shrink_rows() {
  SketchFigures& f = figures_;
  const index_t held = filled();
  Context ctx(1, false);
  T* rows = numbers<T>(rows_);
  const ProvedEigen<T> k = proved_eigen<T>(ctx, rows, held, features_);
  const auto value = [&](index_t i) {
    return std::max(k.eigen.values[static_cast<std::size_t>(i)], 0.0);
  };
  // No direction loses more than delta. The bound asks that size + 1 times that is lost in all:
  // what the directions dropped have not is taken from each one kept. From those it takes little
  // that stand out, and as much as it may from those that do not.
  const double delta = value(size_);
  double dropped = 0;
  for (index_t i = size_; i < held; ++i) dropped += value(i);
  const double size = static_cast<double>(size_);
  const double least = std::clamp(((size + 1) * delta - dropped) / size, 0.0, delta);
  const auto taken = [&](index_t i) {
    return std::max(least, value(i) > delta ? delta * (delta / value(i)) : delta);
  };
  // B <- S U^H B, S_i^2 = 1 - taken_i / lambda_i.
  index_t kept = 0;
  while (kept < size_ && value(kept) > taken(kept)) ++kept;
  Small<T> w(kept, held);
  for (index_t i = 0; i < kept; ++i) {
    const double s = std::sqrt((value(i) - taken(i)) / value(i));
    for (index_t j = 0; j < held; ++j) w(i, j) = s * conjugate(k.eigen.vectors(j, i));
  }
  rotate_rows<T>(w, rows, features_, rows);
  for (index_t i = 0; i < kept; ++i) stamps_[i] = f.steps;
  f.filled = static_cast<double>(kept);
  const ShrinkCost cost =
      shrink_cost<T>(k.proof, delta, static_cast<double>(held), static_cast<double>(kept));
  f.delta = rounding::raise(f.delta + cost.delta);
  f.spared += delta - taken(0);
  f.rounding = rounding::raise(f.rounding + (cost.rounding + row_rounding * k.proof.trace));
}

void FrequentDirections::merge(FrequentDirections& other) {
  SketchFigures& f = figures_;
  SketchFigures& g = other.figures_;
  if (g.steps == 0) return;
  other.settle();
  const bool empty = f.steps == 0 || blank();
  settle();
  if (mean_ && f.weight > 0 && g.weight > 0) {
    if (other.blank()) other.rescale(static_cast<int>(f.exponent));
    // Room for one bit more, which the difference of two means may need.
    rescale(1 + static_cast<int>(empty ? g.exponent : std::max(f.exponent, g.exponent)));
    const int shift = static_cast<int>(g.exponent - f.exponent);
    const PowerOfTwo<double, double> power(shift);
    const double its_error = scaled_up(g.mean_error, shift);
    double* to = row(filled());
    for (index_t j = 0; j < reals_; ++j) to[j] = power(other.mean_[j]) - mean_[j];
    // The row between the means decays with those before it, which may be all that is left.
    const double fade = decay_ == 1 ? 1 : std::pow(decay_, g.steps);
    const double part = g.weight / (f.weight * fade + g.weight);
    const double between = std::sqrt(f.weight * part);
    const double moved = std::sqrt(dot(to, to, reals_));
    for (index_t j = 0; j < reals_; ++j) mean_[j] += part * to[j];
    const double length = std::sqrt(dot(mean_, mean_, reals_));
    const double off = between * (f.mean_error + its_error);
    f.offsets = rounding::raise(f.offsets + off * off);
    f.mean_error = rounding::raise((1 - part) * f.mean_error + part * its_error +
                                   rounding::u * (8 * part * moved + 2 * length));
    // Where the means agree there is nothing between them, and no row to spend on it.
    if (moved > 0 && between > 0) {
      append(to, between);
      shrink_if_full();
    }
  } else if (mean_ && g.weight > 0) {
    rescale(static_cast<int>(g.exponent));
    std::copy_n(other.mean_, reals_, mean_);
    f.mean_error = g.mean_error;
  }
  // Entries of rows yet to come are above 2^-1074, their weights above 2^-200.
  age(g.steps, (other.blank() ? -1200 : static_cast<int>(g.exponent)) - 1100);
  if (other.blank()) other.rescale(static_cast<int>(f.exponent));
  // Units that hold both; those of rows long gone say nothing.
  if (empty || f.exponent < g.exponent) rescale(static_cast<int>(g.exponent));
  other.rescale(static_cast<int>(f.exponent));
  add_rounded(f.weight, f.weight_low, g.weight);
  add_rounded(f.weight, f.weight_low, g.weight_low);
  f.offsets = rounding::raise(f.offsets + g.offsets);
  f.delta = rounding::raise(f.delta + g.delta);
  f.rounding = rounding::raise(f.rounding + g.rounding);
  f.spared += g.spared;
  f.squares_low += g.squares_low;
  add_to(f.squares, f.squares_low, g.squares);
  for (index_t i = 0; i < other.filled(); ++i) {
    if (f.exponent < g.exponent) rescale(static_cast<int>(g.exponent));
    const PowerOfTwo<double, double> power(static_cast<int>(g.exponent - f.exponent));
    double* to = row(filled());
    for (index_t j = 0; j < reals_; ++j) to[j] = power(other.row(i)[j]);
    store(to, 1);
    shrink_if_full();
  }
}

}  // namespace gramian
