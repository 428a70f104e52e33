#include "hopper_launch.hpp"

#include <array>
#include <limits>
#include <mutex>
#include <utility>

namespace gramian::cuda::hopper {

int multiprocessors(int device) {
  static std::mutex mutex;
  static std::array<int, 64> known{};
  const std::lock_guard lock(mutex);
  int& count = known.at(static_cast<std::size_t>(device));
  if (count == 0)
    check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
          "counting multiprocessors");
  return count;
}

namespace {

// Microseconds on an H100 for 64 summed terms of one tile, with every multiprocessor at work, and
// for what cannot be hidden of writing it: see docs/notes/symmetric_product_gpu.md.
struct Cost {
  int tile;
  double multiply;
  double write;
};
constexpr std::array<Cost, 4> hermitian_costs{
    {{64, 0.31, 0.6}, {128, 0.46, 0.5}, {192, 0.68, 1.4}, {256, 0.92, 2.0}}};
constexpr std::array<Cost, 4> general_costs{
    {{64, 0.34, 0.6}, {128, 0.42, 0.5}, {192, 0.62, 1.4}, {256, 0.73, 2.0}}};

// Clusters read half of B, and wait for each other. The former counts once the operands outgrow the
// L2 cache.
constexpr double cache_bytes = 48e6;
constexpr double cost_of_clusters = 1.06;
constexpr double cost_of_missing = 1.15;

struct Problem {
  int rows, cols, depth, batch, multiprocessors;
  bool hermitian;
  bool operator==(const Problem&) const = default;
};

Shape search(const Problem& q) {
  const double bytes = 2.0 * q.batch * (q.hermitian ? q.rows : 1.0 * q.rows + q.cols) * q.depth;
  const double deep = (q.depth + block_depth - 1) / block_depth;
  Shape best;
  double least = std::numeric_limits<double>::infinity();
  for (const int cluster : {1, 2})
    for (const Cost& cost : q.hermitian ? hermitian_costs : general_costs) {
      const Tiling tiling(q.rows, q.cols, cost.tile, cluster, q.hermitian);
      const long long units = static_cast<long long>(tiling.units()) * q.batch;
      const long long at_once = q.multiprocessors / cluster;
      const double rounds = static_cast<double>((units + at_once - 1) / at_once);
      const double factor = cluster == 2          ? cost_of_clusters
                            : bytes > cache_bytes ? cost_of_missing
                                                  : 1.0;
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
