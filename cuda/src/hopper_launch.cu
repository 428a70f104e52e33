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

// Relative time of one tile, for equal depth: measured on an H100
// (docs/notes/symmetric_product_gpu).
struct Cost {
  int tile;
  double time;
};
constexpr std::array<Cost, 4> costs{{{64, 0.62}, {128, 1.05}, {192, 1.5}, {256, 2.0}}};

}  // namespace

Shape choose_shape(const Queue& queue, int rows, int cols, int batch, bool hermitian) {
  Shape best;
  double least = std::numeric_limits<double>::infinity();
  for (const Cost& cost : costs) {
    constexpr int cluster = 2;
    const Tiling tiling(rows, cols, cost.tile, cluster, hermitian);
    const long long units = static_cast<long long>(tiling.units()) * batch;
    const long long at_once = multiprocessors(queue.device) / cluster;
    const double time = static_cast<double>((units + at_once - 1) / at_once) * cost.time;
    if (time < least) {
      least = time;
      best = {cost.tile, cluster};
    }
  }
  return best;
}

}  // namespace gramian::cuda::hopper
