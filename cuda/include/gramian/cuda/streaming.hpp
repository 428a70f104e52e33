// Top eigenvectors of a stream of rows on a GPU: OjaTopEigenvector and BlockOja in large blocks,
// whose rows all meet the same vectors. The mathematics is in docs/streaming.md#on-a-gpu. Frequent
// Directions there: docs/streaming_frequent_directions.md#on-a-gpu.
#pragma once

#include <algorithm>
#include <cstdint>

#include "gramian/array_ref.hpp"
#include "gramian/cuda/queue.hpp"
#include "gramian/workspace.hpp"

namespace gramian::cuda {

enum class StreamStep {
  oja_grid,  // 8 learning rates that follow the rows
  oja_rate,  // one, as it was given
  adaoja     // k vectors with AdaOja's steps
};

/// What is fixed about a stream. Vectors, `columns` of them, begin with the `live` ones that steps
/// move; the others never change. Their products with A^T A prove the certificate.
struct StreamLayout {
  StreamStep step = StreamStep::oja_grid;
  index_t features = 0;
  index_t live = 0;
  double decay = 1;  // of A^T A for each row

  static constexpr index_t group = 16;  // columns that one read of the rows serves
  static constexpr index_t fixed_least = 8;
  static constexpr index_t oja_rates = 8;  // figures of each: OjaFigure
  static constexpr index_t most_live = 56;

  index_t columns() const { return (live + fixed_least + group - 1) / group * group; }

  enum Total : index_t {
    squares,        // |A|_F^2, decayed
    block_squares,  // the same of the block that is not full yet
    largest,        // largest |x|^2
    rows,           // of weight above 0
    block_rows,
    total_count
  };
  enum OjaFigure : index_t {
    rate,          // 0: not in use
    norm,          // of w, as computed
    start,         // norm of w when the rate began, in w's unit
    linear_error,  // bound on what rounding added to w, in w's unit
    square_error,  // bound on what it added to |w|^2
    exponent,      // w has been multiplied by 2^-exponent since the rate began
    energy,        // sum of (x^T v)^2 over all rows: estimates the top eigenvalue
    rows_before,   // rows and their squared norms when the rate began
    squares_before,
    oja_figure_count
  };
  enum AdaFigure : index_t { squared_steps, values, ada_figure_count };
};

/// The state, in device memory: all double, row-major. `figures` is (live, oja_figure_count)
/// or (ada_figure_count, live).
struct StreamState {
  double* vectors;  // (columns, features)
  double*
      gathered;  // A^T A times each: of all rows for the fixed ones, of the block for the others
  double* figures;
  double* totals;
};

/// Where a stream stands; known to the host, of rows of any weight.
struct StreamPosition {
  index_t rows = 0;         // in full blocks
  index_t block_rows = 0;   // in the block that is not full yet
  index_t block_reads = 0;  // calls that those came in
  index_t reads = 0;        // of all rows
  index_t depth = 0;        // additions that an entry of a product with rows passes through at most
};

/// Rows in the block that begins after so many: an eighth of them, within limits.
index_t stream_block(index_t rows, index_t features);

/// Additions that an entry of X^T Y passes through at most within one read.
index_t stream_depth(index_t rows, index_t features);

std::size_t stream_workspace(const StreamLayout& layout, const ArrayRef& rows);

/// Goes on with rows (n, features): float16, bfloat16, float32 or float64, any strides; `weights`
/// (n doubles, or null) multiply their squares.
void stream_update(const Queue& queue, const StreamLayout& layout, const StreamState& state,
                   StreamPosition& position, const ArrayRef& rows, const double* weights,
                   Workspace workspace);

/// Ends a block early: what a reading does to a copy of the state.
void stream_finish(const Queue& queue, const StreamLayout& layout, const StreamState& state,
                   StreamPosition& position, Workspace workspace);

/// decayed <- weights (or 1), each times decay to the power of the rows of weight above 0 that
/// follow among these `count` ones, at most 2^31 - 1.
void stream_decay(const Queue& queue, index_t count, const double* weights, double decay,
                  double* decayed);

std::size_t gather_workspace(const StreamLayout& layout, index_t rows);

/// Rows for steps that are taken elsewhere: `state.gathered` and the totals as stream_update leaves
/// them before the end of a block, `state.figures` unused. `sums`, or null: (features + 1) decayed
/// sums of the rows and of their weights, which grow likewise.
void stream_gather(const Queue& queue, const StreamLayout& layout, const StreamState& state,
                   double* sums, const ArrayRef& rows, const double* weights, Workspace workspace);

/// Frequent Directions. Rows are held as columns, so that what is summed over, features, is long.
struct SketchLayout {
  index_t features = 0;
  index_t size = 0;  // rows of the sketch
  double decay = 1;
  bool decayed = false;  // whether it ever was below 1

  static constexpr index_t most_held = 144;  // one block solves eigenproblems up to there
  static constexpr index_t most_size = 128;

  /// Rows held at most; with so many they are shrunk to `size`.
  index_t held() const { return std::min(2 * size, most_held); }

  enum Figure : index_t {
    delta,     // what shrinking has taken from any direction, at most
    rounding,  // what rounding has done since, at most
    lost,      // what shrinking has taken from |A|_F^2
    rows,      // of weight above 0
    dropped,   // shrinkings that dropped rows, because no eigenvectors were found
    figure_count
  };
};

/// The state, in device memory: all double, row-major.
struct SketchState {
  double* held;     // (features, held()): a row to a column
  double* factors;  // held() numbers, by which those are to be multiplied
  double* totals;   // figure_count of them
};

/// For a sketch that holds `filled` rows and `rows` more to come.
std::size_t sketch_workspace(const Queue& queue, const SketchLayout& layout, index_t filled,
                             index_t rows);

/// Goes on with rows, as stream_update does. Returns how many rows are held then.
index_t sketch_update(const Queue& queue, const SketchLayout& layout, const SketchState& state,
                      index_t filled, const ArrayRef& rows, const double* weights,
                      Workspace workspace);

/// Rows in random order, beside a sketch of their own: heavy ones are kept, the others drive a
/// power iteration, as in cpp/include/gramian/random_order.hpp.
struct HeavyLayout {
  index_t features = 0;
  index_t most = 0;  // rows kept at most

  static constexpr double growth = 1.5;  // of a block over the one before

  /// As in RandomOrderFigures.
  enum Figure : index_t {
    squares,
    most_figure,
    kept,
    count,
    length,
    block_squares,
    last_squares,
    light_squares,
    figure_count
  };
};

/// The state, in device memory: all double, row-major. Room for one row at least.
struct HeavyState {
  double* heavy;          // (most, features)
  double* heavy_squares;  // most
  double* vectors;        // (3, features): z, the sum of this block, that of the block before
  double* figures;        // figure_count of them
};

std::size_t heavy_workspace(const Queue& queue, const HeavyLayout& layout, index_t rows);

/// Goes on with rows, as stream_update does.
void heavy_update(const Queue& queue, const HeavyLayout& layout, const HeavyState& state,
                  const ArrayRef& rows, const double* weights, Workspace workspace);

}  // namespace gramian::cuda
