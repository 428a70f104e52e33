// The top right singular vector of rows in random order, some of which may be heavy.
//
// Kacham, Woodruff, "Approximating the Top Eigenvector in Random Order Streams", NeurIPS 2024:
// rows of much of the energy are kept, the rest drive block power iteration, and the answer is the
// top right singular vector of the rows kept stacked on sqrt(lambda) z^H. A small Frequent
// Directions sketch of all rows proves what can be proved (docs/streaming_random_order.md).
#pragma once

#include "gramian/frequent_directions.hpp"

namespace gramian {

/// Counters of the stream, as doubles, so that a caller can keep them as an array.
struct RandomOrderFigures {
  double squares = 0;        // ||row||^2 of all rows
  double most = 0;           // heavy rows kept at most
  double kept = 0;           // heavy rows held
  double count = 0;          // light rows in this block
  double length = 0;         // of this block
  double block_squares = 0;  // of the light rows in this block
  double last_squares = 0;   // of those in the block before
  double light_squares = 0;  // of all light rows
};
inline constexpr index_t random_order_figures = sizeof(RandomOrderFigures) / sizeof(double);

/// In memory of the caller's: heavy, as many rows of features as are kept at most, or more; as many
/// heavy_squares; and of features each, as rows: z^H, the sum of this block, that of the block
/// before. Where the sketch is complex, rows are of pairs of doubles.
class RandomOrder {
 public:
  RandomOrder(FrequentDirections sketch, index_t features, double* heavy, double* heavy_squares,
              double* z, double* sum, double* last, RandomOrderFigures* figures)
      : sketch_(sketch),
        features_(features),
        reals_(sketch.is_complex() ? 2 * features : features),
        heavy_(heavy),
        heavy_squares_(heavy_squares),
        z_(z),
        sum_(sum),
        last_(last),
        figures_(*figures) {}

  /// z of random signs, which depend on the seed alone; how many rows are kept.
  void start(std::uint64_t seed, index_t most);

  /// Adds the rows of a matrix of float or double, complex where the sketch is, in order; `weights`
  /// may be null.
  void update(const ArrayRef& rows, const double* weights);

  /// The answer v^H, of norm 1, and its singular value squared; zeros before any row was nonzero.
  double answer(double* v) const;

 private:
  index_t kept() const { return static_cast<index_t>(figures_.kept); }
  void add(double* row);
  void take_light(const double* row, double squares);
  void drop(index_t i);
  index_t lightest() const;
  template <class T>
  double top_of(const double* stacked, index_t rows, T* v) const;

  FrequentDirections sketch_;
  index_t features_;
  index_t reals_;  // doubles in a row
  double* heavy_;
  double* heavy_squares_;
  double* z_;
  double* sum_;
  double* last_;
  RandomOrderFigures& figures_;
};

}  // namespace gramian
