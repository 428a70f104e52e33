#include "hopper_launch.hpp"

#include <array>
#include <limits>
#include <utility>

#include "device_properties.hpp"

namespace gramian::cuda::hopper {

namespace {

// Microseconds on an H100 under sustained load for 64 summed terms of one tile, for what cannot be
// hidden of writing it, and by how much clusters change the former: fitted to whole calls, see
// docs/notes/symmetric_product_gpu.md. (Alone, in bursts, the widest tiles do better than here:
// what counts in a row of products is how much they ask of the caches, and of the power supply.)
struct Cost {
  int tile;
  double multiply;
  double write;
  double clustered;
};
constexpr std::array<Cost, 4> hermitian_costs{
    {{64, 0.31, 0.6, 1.15}, {128, 0.52, 0.5, 1.0}, {192, 0.62, 1.4, 1.04}, {256, 0.96, 2.0, 0.92}}};
constexpr std::array<Cost, 4> general_costs{
    {{64, 0.34, 0.6, 1.25}, {128, 0.42, 0.5, 1.05}, {192, 0.62, 1.4, 1.0}, {256, 0.73, 2.0, 0.98}}};

// Single blocks read all of B for themselves, which costs more once the operands crowd the L2
// cache.
constexpr double cache_bytes = 40e6;
constexpr double cache_bytes_of_batch = 24e6;
constexpr double cost_of_missing = 1.03;
constexpr double far_beyond_cache = 110e6;
constexpr double cost_far_beyond = 1.2;
constexpr double far_beyond_cache_of_batch = 60e6;
constexpr double large_in_batch = 4e6;  // smaller ones are found in the cache again, many at a time
constexpr double cost_far_beyond_of_batch = 1.25;

/// bytes: of one matrix's operands.
double cost_of_single_blocks(double bytes, int batch) {
  if (batch == 1)
    return bytes > far_beyond_cache ? cost_far_beyond : bytes > cache_bytes ? cost_of_missing : 1.0;
  if (batch * bytes > far_beyond_cache_of_batch && bytes > large_in_batch)
    return cost_far_beyond_of_batch;
  return batch * bytes > cache_bytes_of_batch ? cost_of_missing : 1.0;
}

struct Problem {
  int rows, cols, depth, batch, multiprocessors;
  bool hermitian;
  bool operator==(const Problem&) const = default;
};

Shape search(const Problem& q) {
  const double bytes = 2.0 * (q.hermitian ? q.rows : 1.0 * q.rows + q.cols) * q.depth;
  const double deep = (q.depth + block_depth - 1) / block_depth;
  Shape best;
  double least = std::numeric_limits<double>::infinity();
  for (const int cluster : {1, 2})
    for (const Cost& cost : q.hermitian ? hermitian_costs : general_costs) {
      const Tiling tiling(q.rows, q.cols, cost.tile, cluster, q.hermitian);
      const long long units = static_cast<long long>(tiling.units()) * q.batch;
      const long long at_once = q.multiprocessors / cluster;
      const double rounds = static_cast<double>((units + at_once - 1) / at_once);
      const double factor = cluster == 2 ? cost.clustered : cost_of_single_blocks(bytes, q.batch);
      const double time = rounds * (deep * cost.multiply * factor + cost.write);
      if (time < least) {
        least = time;
        best = {cost.tile, cluster};
      }
    }
  return best;
}

}  // namespace

Shape choose_shape(const Queue& queue, int rows, int cols, int depth, int batch, bool hermitian) {
  const Problem problem{rows, cols, depth, batch, multiprocessors(queue.device), hermitian};
  // An optimizer asks the same few questions at every step.
  thread_local std::array<std::pair<Problem, Shape>, 16> known{};
  thread_local std::size_t next = 0;
  for (const auto& [asked, answer] : known)
    if (asked == problem) return answer;
  const Shape shape = search(problem);
  known[next++ % known.size()] = {problem, shape};
  return shape;
}

}  // namespace gramian::cuda::hopper
