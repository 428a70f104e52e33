#include "gramian/cuda/streaming.hpp"

#include <algorithm>
#include <bit>

#include "carver.hpp"
#include "streaming_read.hpp"
#include "streaming_step.hpp"

namespace gramian::cuda {

namespace {

// Entries of the longest block.
constexpr index_t block_entries = index_t{1} << 26;
constexpr index_t least_block = 64;
constexpr index_t most_block = 65536;

index_t longest_block(index_t features) {
  const auto rows = static_cast<std::uint64_t>(block_entries / features);
  return std::clamp<index_t>(static_cast<index_t>(std::bit_floor(rows)), 256, most_block);
}

struct Room {
  double* parts = nullptr;
  double* figures = nullptr;
  double* products = nullptr;
  StepRoom step{};
  std::size_t bytes = 0;

  /// `rows`: that one read may have; 0 where there is none.
  Room(std::byte* base, const StreamLayout& layout, index_t rows) {
    Carver carver(base);
    const index_t side = 2 * layout.live;
    step.gram_parts = carver.take<double>(gram_parts_count * side * side);
    step.gram = carver.take<double>(side * side);
    step.coefficients = carver.take<double>(side * layout.live);
    if (rows > 0) {
      const index_t groups = stream_groups(layout.features);
      parts = carver.take<double>(groups * layout.columns() * layout.features);
      figures = carver.take<double>(3 * groups);
      products = carver.take<double>(rows * (layout.columns() + 1));
    }
    bytes = carver.used();
  }
};

void end_block(const Queue& queue, const StreamLayout& layout, const StreamState& state,
               StreamPosition& position, const StepRoom& room) {
  // Each read adds what it found, and multiplies by the decay.
  const auto roundings = static_cast<double>(position.depth + 10 * position.block_reads);
  take_step(queue, layout, state, roundings, room);
  position.rows += position.block_rows;
  position.block_rows = position.block_reads = 0;
}

Room carved(Workspace& workspace, const StreamLayout& layout, index_t rows) {
  const std::size_t bytes = Room(nullptr, layout, rows).bytes;
  if (bytes > workspace.bytes()) throw Error("the workspace of a stream is too small");
  return {workspace.take<std::byte>(static_cast<index_t>(bytes)), layout, rows};
}

}  // namespace

index_t stream_block(index_t rows, index_t features) {
  const auto eighth = static_cast<index_t>(std::bit_floor(static_cast<std::uint64_t>(rows / 8)));
  return std::clamp(eighth, least_block, longest_block(features));
}

index_t stream_depth(index_t rows, index_t features) {
  // Those of all rows in one part, and of all parts: whatever their number is on a device or on the
  // host, so that a state goes on elsewhere with the same figures.
  return rows + stream_groups(features) + 8;
}

std::size_t stream_workspace(const StreamLayout& layout, const ArrayRef& rows) {
  const index_t most =
      rows.shape.empty() ? 0 : std::min(rows.shape[0], longest_block(layout.features));
  return Room(nullptr, layout, most).bytes;
}

void stream_update(const Queue& queue, const StreamLayout& layout, const StreamState& state,
                   StreamPosition& position, const ArrayRef& rows, const double* weights,
                   Workspace workspace) {
  const DeviceGuard guard(queue.device);
  const index_t count = rows.shape[0];
  const Room room = carved(workspace, layout, std::min(count, longest_block(layout.features)));
  const index_t row_bytes = rows.strides[0] * element_size(rows.dtype);
  for (index_t first = 0; first < count;) {
    const index_t block = stream_block(position.rows, layout.features);
    const index_t taken = std::min(count - first, block - position.block_rows);
    StreamRead read{};
    read.x = static_cast<const std::byte*>(rows.data) + first * row_bytes;
    read.dtype = rows.dtype;
    read.rows = taken;
    read.features = layout.features;
    read.row_stride = rows.strides[0];
    read.col_stride = layout.features == 1 ? 1 : rows.strides[1];
    read.weights = weights ? weights + first : nullptr;
    read.vectors = state.vectors;
    read.columns = layout.columns();
    read.parts = room.parts;
    read.figures = room.figures;
    read.products = room.products;
    const index_t groups = read_rows(queue, read);
    add_parts(queue, layout, state, groups, room.parts, room.figures);
    position.depth = std::max(position.depth, stream_depth(taken, layout.features));
    position.block_rows += taken;
    ++position.block_reads;
    ++position.reads;
    first += taken;
    if (position.block_rows == block) end_block(queue, layout, state, position, room.step);
  }
}

void stream_finish(const Queue& queue, const StreamLayout& layout, const StreamState& state,
                   StreamPosition& position, Workspace workspace) {
  if (position.block_rows == 0) return;
  const DeviceGuard guard(queue.device);
  const Room room = carved(workspace, layout, 0);
  end_block(queue, layout, state, position, room.step);
}

}  // namespace gramian::cuda
