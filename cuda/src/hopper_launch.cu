#include "hopper_launch.hpp"

#include <array>
#include <limits>
#include <mutex>

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

// Microseconds on an H100 for 64 summed terms of one tile, and for writing the tile: see
// docs/notes/symmetric_product_gpu.md.
struct Cost {
  int tile;
  double multiply;
  double write;
};
constexpr std::array<Cost, 4> costs{
    {{64, 0.27, 0.6}, {128, 0.42, 1.0}, {192, 0.59, 1.4}, {256, 0.75, 1.8}}};

// Clusters read half of B, and wait for each other. The former counts once the operands outgrow the
// L2 cache.
constexpr double cache_bytes = 48e6;
constexpr double cost_of_clusters = 1.06;
constexpr double cost_of_missing = 1.15;

}  // namespace

Shape choose_shape(const Queue& queue, int rows, int cols, int depth, int batch, bool hermitian) {
  const double bytes = 2.0 * batch * (hermitian ? rows : 1.0 * rows + cols) * depth;
  const double deep = (depth + block_depth - 1) / block_depth;
  Shape best;
  double least = std::numeric_limits<double>::infinity();
  for (const int cluster : {1, 2})
    for (const Cost& cost : costs) {
      const Tiling tiling(rows, cols, cost.tile, cluster, hermitian);
      const long long units = static_cast<long long>(tiling.units()) * batch;
      const long long at_once = multiprocessors(queue.device) / cluster;
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

}  // namespace gramian::cuda::hopper
