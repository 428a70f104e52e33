// Top eigenvectors of A^T A for rows that come one after the other, in any order, with a bound
// on the angle to it. The mathematics, with every constant, is in docs/streaming.md.
#pragma once

#include <cstdint>
#include <limits>

#include "gramian/array_ref.hpp"
#include "gramian/status.hpp"

namespace gramian {

/// Shapes of the state and what its numbers are: the same on every device.
struct OjaLayout {
  static constexpr index_t block =
      64;  // rows taken at a time; the state depends on where they begin
  static constexpr index_t leaf = 16;   // and as many of them between two steps of the rates
  static constexpr index_t rates = 8;   // learning rates live at most, each half the one before
  static constexpr index_t sketch = 4;  // rows of the Frequent Directions sketch

  // Norms of w stay below 2^40 at the ends of blocks, by exact factors. A block adds 2^16 at most.
  static constexpr int norm_exponent = 40;

  // Logarithm of the growth at which the smallest rate is followed by one half as large.
  static constexpr double next_rate_growth = 6;

  // Where a rate has grown by e^13, and by d e^3, those before it, whose bounds are larger by
  // then, are given up.
  static constexpr double certain_growth = 13;

  // Columns of `figures`, a row for each rate.
  enum Figure : index_t {
    rate,          // falling; 0: not in use
    norm,          // of w, as computed
    start,         // norm of w when the rate began, in w's unit
    linear_error,  // bound on what rounding added to w, in w's unit
    square_error,  // bound on what it added to |w|^2
    exponent,      // w has been multiplied by 2^-exponent since the rate began
    energy,        // sum of (x^T v)^2 over all rows: estimates the top eigenvalue
    rows_before,   // rows and their squared norms when the rate began
    squares_before,
    figure_count
  };

  // Entries of `totals`.
  enum Total : index_t {
    squares,  // |A|_F^2
    above,    // A^T A <= B^T B + above I, B the sketch
    below,    // A^T A >= B^T B - below I
    largest,  // squared norm of the largest row
    blocks,
    rows,
    total_count
  };
};

/// Views of the state: vectors (rates + sketch, d), figures (rates, figure_count) and totals, all
/// double and row-major. The first `rates` vectors are the w of Oja's method, then comes B.
struct OjaState {
  double* vectors;
  double* figures;
  double* totals;
  index_t features;
  bool grid;  // rates follow the rows; otherwise the first alone is in use, as it was given
  bool is_complex = false;  // rows and vectors have two doubles an entry; a vector v lies as v^H
};

/// Goes on with rows (n, d) in blocks, real ones by up to two threads. Squared norms of
/// rows, as weighted, are to be below `limit`: Status::not_finite where one is not, or is NaN, and
/// then the state is of no use any more.
Status oja_update(const OjaState& state, const ArrayRef& rows, const double* weights,
                  double limit = std::numeric_limits<double>::infinity());

struct OjaResult {
  double certificate = 0;  // bound on the sine of the angle to the top eigenvector; may be infinite
  double eigenvalue = 0;   // estimate of the largest eigenvalue of A^T A
  bool grew = false;       // whether some rate grew enough
  int rate = -1;           // whose vector it is; -1: the sketch's
};

/// The vector with the best certificate, of norm 1, to `vector` (d entries).
Status oja_result(const OjaState& state, double* vector, OjaResult& result);

/// Block Oja: k orthonormal vectors, one step for each block of rows.
struct BlockOjaLayout {
  static constexpr index_t block = 64;
  static constexpr index_t sketch = 4;

  // Rows of `figures`, a column for each vector.
  enum Figure : index_t {
    squared_steps,  // AdaOja: sum of the squared norms of the steps
    values,         // estimates of the eigenvalues
    figure_count
  };

  enum Total : index_t {
    squares,
    above,
    below,
    weight,
    mean_error,  // bound on the norm of the mean's error
    weight_low,  // what the last digits of the weight have lost
    total_count
  };
};

/// Views: vectors (k + sketch + 1, d), figures (figure_count, k), totals, all double and row-major.
/// After the k vectors come the rows of the sketch and the mean of the rows.
struct BlockOjaState {
  double* vectors;
  double* figures;
  double* totals;
  index_t features;
  index_t components;
  bool history;  // steps by history PCA; otherwise AdaOja's
  bool center;
  double decay;             // of A^H A for each row
  bool is_complex = false;  // rows, vectors and components have two doubles an entry
};

Status block_oja_update(const BlockOjaState& state, const ArrayRef& rows, const double* weights);

/// Components (k, d), by falling value, and the values. Returns the bound on the first one's angle.
Status block_oja_result(const BlockOjaState& state, double* components, double* values,
                        double& certificate);

}  // namespace gramian
