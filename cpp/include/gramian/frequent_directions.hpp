// Frequent Directions: a few rows B that stand for all rows A of a stream.
//
//   A^T A = B^T B + E + N,   0 <= E <= delta I,   ||N|| <= rounding,
//
// Liberty 2013; Ghashami, Liberty, Phillips, Woodruff 2016. The proof, with every rounding, is in
// docs/streaming_frequent_directions.md, for A^H A of complex rows too. All computing is in double;
// numbers are kept in units of 2^exponent, so that rows of 1e-300 and of 1e300 are as good as rows
// of 1. Complex numbers are pairs of doubles here, real parts first.
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
  double spared = 0;       // how much less than delta the top direction has lost, about
};
inline constexpr index_t sketch_figures = sizeof(SketchFigures) / sizeof(double);

/// Rows that a sketch holds at most.
index_t sketch_capacity(index_t size);

/// A sketch in memory of the caller's: rows capacity x features, stamps of capacity, mean of
/// features (null: rows are not centred); of pairs, where `is_complex`.
class FrequentDirections {
 public:
  FrequentDirections(index_t features, index_t size, double decay, double* rows, double* stamps,
                     double* mean, SketchFigures* figures, bool is_complex = false)
      : features_(features),
        reals_(is_complex ? 2 * features : features),
        complex_(is_complex),
        size_(size),
        decay_(decay),
        rows_(rows),
        stamps_(stamps),
        mean_(mean),
        figures_(*figures) {}

  /// Adds the rows of a matrix of float or double, complex where the sketch is, in order; `weights`
  /// may be null. All must be finite, weights within 2^-200 to 2^200.
  void update(const ArrayRef& rows, const double* weights);

  bool is_complex() const { return complex_; }

  /// Adds a row; `top` is the largest magnitude in it.
  void add(const double* x, double top, double weight);

  /// As if the other's rows had followed; the other is settled.
  void merge(FrequentDirections& other);

  /// Decays every row to now, in units such that the largest entry is in [1/2, 1).
  void settle();

  /// Settles, and shrinks to at most `size` rows.
  void shrink();

  /// Bound on ||A^H A - B^H B|| of the settled sketch, in units of 4^exponent.
  double error() const;

  /// Of the settled sketch: eigenvalues of B^H B, descending, filled up with zeros, and as many
  /// right singular vectors as orthonormal rows v^H, the largest entry of each real and positive.
  void spectrum(index_t count, double* values, double* vectors) const;

  /// Of the settled sketch: bound on the sine of the angle between v^H, a row, and the top right
  /// singular vector of A, rounding included, or infinity.
  double certificate(const double* v) const;

 private:
  index_t filled() const { return static_cast<index_t>(figures_.filled); }
  double* row(index_t i) const { return rows_ + i * reals_; }
  void rescale(int exponent);
  void decay_totals();
  void store(const double* scaled, double factor);
  void append(const double* scaled, double factor);
  void shrink_if_full();
  double offset_error() const;
  bool blank() const;
  void keep_units();
  int least_exponent() const;
  void age(double steps, int least);
  template <class T>
  void shrink_rows();
  template <class T>
  void read_spectrum(index_t count, double* values, T* vectors) const;
  template <class T>
  double certify(const T* v) const;

  index_t features_;
  index_t reals_;  // doubles in a row
  bool complex_;
  index_t size_;
  double decay_;
  double* rows_;
  double* stamps_;  // the step to which each row is decayed
  double* mean_;
  SketchFigures& figures_;
};

}  // namespace gramian
