// Frequent Directions: a few rows B that stand for all rows A of a stream.
//
//   A^T A = B^T B + E + N,   0 <= E <= delta I,   ||N|| <= rounding,
//
// Liberty 2013; Ghashami, Liberty, Phillips, Woodruff 2016. The proof, with every rounding, is in
// docs/streaming_frequent_directions.md. All computing is in double; numbers are kept in units of
// 2^exponent, so that rows of 1e-300 and of 1e300 are as good as rows of 1.
#pragma once

#include <vector>

#include "gramian/array_ref.hpp"
#include "gramian/context.hpp"

namespace gramian {

/// All that a sketch is besides its rows. Doubles alone, so that a caller can keep it as an array.
struct SketchFigures {
  double steps = 0;        // rows taken
  double settled = 0;      // the step to which delta and rounding are decayed
  double filled = 0;       // rows held
  double exponent = 0;     // of the units: 2^exponent for rows, 4^exponent for what is squared
  double delta = 0;        // what shrinking has taken from any direction, at most
  double rounding = 0;     // what rounding has done since
  double squares = 0;      // ||A||_F^2, and what its last digits have lost
  double squares_low = 0;  //
  double weight = 0;       // sum of the weights, for the mean, and what its last digits have lost
  double weight_low = 0;   //
  double mean_error = 0;   // bound on the error of the mean
  double offsets = 0;      // bound on the squared norm of what that error did to the rows
};
inline constexpr index_t sketch_figures = sizeof(SketchFigures) / sizeof(double);

/// Rows that a sketch holds at most.
index_t sketch_capacity(index_t size);

/// A sketch in memory of the caller's: rows capacity x features, stamps of capacity, mean of
/// features (null: rows are not centred).
class FrequentDirections {
 public:
  FrequentDirections(index_t features, index_t size, double decay, double* rows, double* stamps,
                     double* mean, SketchFigures* figures)
      : features_(features),
        size_(size),
        decay_(decay),
        rows_(rows),
        stamps_(stamps),
        mean_(mean),
        figures_(*figures) {}

  /// Adds the rows of a matrix of float or double in order; `weights` may be null. All must be
  /// finite, weights within 2^-200 to 2^200.
  void update(const ArrayRef& rows, const double* weights);

  /// Adds a row; `top` is its largest magnitude.
  void add(const double* x, double top, double weight);

  /// As if the other's rows had followed; the other is settled.
  void merge(FrequentDirections& other);

  /// Decays every row to now, in units such that the largest entry is in [1/2, 1).
  void settle();

  /// Settles, and shrinks to at most `size` rows.
  void shrink();

  /// Bound on ||A^T A - B^T B|| of the settled sketch, in units of 4^exponent.
  double error() const;

  /// Of the settled sketch: eigenvalues of B^T B, descending, filled up with zeros, and as many
  /// eigenvectors as orthonormal rows, the largest entry of each positive.
  void spectrum(index_t count, double* values, double* vectors) const;

  /// Of the settled sketch: bound on the sine of the angle between v and the top right singular
  /// vector of A, rounding included, or infinity.
  double certificate(const double* v) const;

 private:
  index_t filled() const { return static_cast<index_t>(figures_.filled); }
  double* row(index_t i) const { return rows_ + i * features_; }
  void rescale(int exponent);
  void decay_totals();
  void store(const double* scaled, double factor);
  void append(const double* scaled, double factor);
  void shrink_if_full();
  double offset_error() const;
  bool blank() const;
  void keep_units();

  index_t features_;
  index_t size_;
  double decay_;
  double* rows_;
  double* stamps_;  // the step to which each row is decayed
  double* mean_;
  SketchFigures& figures_;
};

}  // namespace gramian
