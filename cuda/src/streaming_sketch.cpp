#include "streaming_sketch.hpp"

#include <algorithm>

#include "carver.hpp"
#include "tall_float64.hpp"

namespace gramian::cuda {

static_assert(SketchLayout::most_held <= one_block_limit);

namespace {

// Rows of R are turned until they are orthogonal to so many digits. What is left is measured.
constexpr double turned_enough = 1e-13;

// The shift of scale_gram leaves no pivot below 2^-25, so that these are for what is no number.
constexpr double least_pivot = 0x1p-40;
constexpr double second_shift = 0x1p-20;

struct Room {
  double* coefficients = nullptr;
  ShrinkRoom shrink{};
  std::size_t bytes = 0;

  Room(std::byte* base, const Queue& queue, const SketchLayout& layout, bool shrinks) {
    Carver carver(base);
    const index_t m = layout.held();
    coefficients = carver.take<double>(m);
    if (shrinks) {
      const index_t d = layout.features;
      for (double** square : {&shrink.gram, &shrink.scaled, &shrink.shifted, &shrink.triangle,
                              &shrink.vectors, &shrink.inner, &shrink.image})
        *square = carver.take<double>(m * m);
      shrink.values = carver.take<double>(m);
      shrink.weights = carver.take<double>(m * layout.size);
      shrink.made = carver.take<double>(d * layout.size);
      shrink.notes = carver.take<double>(3);
      shrink.small = carver.take<SmallFigures>(1);
      shrink.scratch = carver.take<double>(
          std::max(tall_gram_scratch(queue, d, m, m), tall_gram_scratch(queue, m, m, m)));
    }
    bytes = carver.used();
  }
};

/// One launch after the other; nobody waits. What failed is seen by plan_shrink.
void shrink(const Queue& queue, const SketchLayout& layout, const SketchState& state,
            const ShrinkRoom& room) {
  const index_t m = layout.held();
  const TallMatrix held{state.held, layout.features, m, false};
  tall_gram(queue, held, held, room.gram, room.scratch);
  scale_gram(queue, layout, state, room);
  CholeskyRequest factor{};
  factor.size = m;
  factor.gram = room.shifted;
  factor.least = least_pivot;
  factor.shift = second_shift;
  factor.triangle = room.triangle;
  cholesky(queue, factor, room.small);
  JacobiRequest turn{};
  turn.size = m;
  turn.triangle = room.triangle;
  turn.tolerance = turned_enough;
  turn.values = room.values;
  turn.vectors = room.vectors;
  jacobi(queue, turn, room.small);
  const TallMatrix vectors{room.vectors, m, m, false};
  tall_gram(queue, vectors, vectors, room.inner, room.scratch);
  TallProduct image{};
  image.x = {room.scaled, m, m, false};
  image.e = room.vectors;
  image.e_row = m;
  image.e_col = 1;
  image.cols = m;
  image.c = room.image;
  tall_product(queue, image);
  plan_shrink(queue, layout, state, room);
  TallProduct rows{};
  rows.x = held;
  rows.e = room.weights;
  rows.e_row = layout.size;
  rows.e_col = 1;
  rows.cols = layout.size;
  rows.c = room.made;
  tall_product(queue, rows);
  keep_made(queue, layout, state, room);
}

}  // namespace

std::size_t sketch_workspace(const Queue& queue, const SketchLayout& layout, index_t filled,
                             index_t rows) {
  return Room(nullptr, queue, layout, filled + rows >= layout.held()).bytes;
}

index_t sketch_update(const Queue& queue, const SketchLayout& layout, const SketchState& state,
                      index_t filled, const ArrayRef& rows, const double* weights,
                      Workspace workspace) {
  const DeviceGuard guard(queue.device);
  const index_t count = rows.shape[0];
  const index_t held = layout.held();
  const bool shrinks = filled + count >= held;
  const std::size_t bytes = Room(nullptr, queue, layout, shrinks).bytes;
  if (bytes > workspace.bytes()) throw Error("the workspace of a sketch is too small");
  const Room room(workspace.take<std::byte>(static_cast<index_t>(bytes)), queue, layout, shrinks);
  const index_t row_bytes = rows.strides[0] * element_size(rows.dtype);
  for (index_t first = 0; first < count;) {
    SketchRows taken{};
    taken.x = static_cast<const std::byte*>(rows.data) + first * row_bytes;
    taken.dtype = rows.dtype;
    taken.rows = std::min(count - first, held - filled);
    taken.features = layout.features;
    taken.row_stride = rows.strides[0];
    taken.col_stride = rows.strides[1];
    taken.weights = weights ? weights + first : nullptr;
    taken.decay = layout.decay;
    taken.filled = filled;
    taken.held = held;
    taken.coefficients = room.coefficients;
    append_rows(queue, taken, state);
    filled += taken.rows;
    first += taken.rows;
    if (filled == held) {
      shrink(queue, layout, state, room.shrink);
      filled = layout.size;
    }
  }
  return filled;
}

}  // namespace gramian::cuda
