#include "dependent_launch.cuh"
#include "element.cuh"
#include "gramian/cuda/streaming.hpp"

namespace gramian::cuda {

namespace {

constexpr int threads = 1024;

// A decayed row counts as one until its factor is below.
constexpr double least_factor = 0x1p-1000;

/// Each row's weight, or 1, times decay to the power of the rows of weight above 0 that follow.
__global__ void __launch_bounds__(threads)
    decay_kernel(index_t count, const double* weights, double decay, double* decayed) {
  await_earlier_kernels();
  __shared__ int of_warps[threads / 32];
  __shared__ int of_later[threads / 32];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const index_t row = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x;
  const double weight = row < count ? (weights ? weights[row] : 1.0) : 0.0;
  const unsigned present = __ballot_sync(0xffffffffu, weight != 0);
  // Rows of later blocks, counted by each block anew.
  int later = 0;
  for (index_t r = row + threads; r < count; r += threads)
    later += weights == nullptr || weights[r] != 0 ? 1 : 0;
#pragma unroll
  for (int d = 16; d > 0; d /= 2) later += __shfl_xor_sync(0xffffffffu, later, d);
  if (lane == 0) {
    of_warps[warp] = __popc(present);
    of_later[warp] = later;
  }
  __syncthreads();
  int after = __popc(present >> lane) - ((present >> lane) & 1u ? 1 : 0);
  for (int w = 0; w < threads / 32; ++w) after += of_later[w] + (w > warp ? of_warps[w] : 0);
  if (row >= count) return;
  const double factor = pow(decay, static_cast<double>(after));
  decayed[row] = weight * (factor > least_factor ? factor : least_factor);
}

}  // namespace

void stream_decay(const Queue& queue, index_t count, const double* weights, double decay,
                  double* decayed) {
  const DeviceGuard guard(queue.device);
  launch_after(queue, decay_kernel, grid_size(ceil_div(count, threads)), unsigned{threads},
               "launching the decay of rows", count, weights, decay, decayed);
}

}  // namespace gramian::cuda
