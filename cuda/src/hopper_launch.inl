// One kind of product (Hermitian or not), every shape: a source of its own for each kind, since
// these kernels take long to compile.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>

#include "device_properties.hpp"
#include "hopper_kernel.cuh"
#include "hopper_launch.hpp"

namespace gramian::cuda::hopper {

template <int tile, int cluster, bool hermitian>
void launch_shape(const Queue& queue, ProductArguments arguments) {
  const auto kernel = product_kernel<tile, cluster, hermitian>;
  constexpr int bytes = shared_bytes(tile);
  // Once per device. (Twice does no harm.)
  constexpr int remembered = 64;
  static std::array<std::atomic<bool>, remembered> asked{};
  std::atomic<bool>* done =
      queue.device < remembered ? &asked[static_cast<std::size_t>(queue.device)] : nullptr;
  if (!done || !done->load(std::memory_order_relaxed)) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
          "asking for shared memory");
    if (done) done->store(true, std::memory_order_relaxed);
  }
  const Tiling tiling(arguments.rows, arguments.cols, tile, cluster, hermitian);
  arguments.whole = tiling.whole();
  arguments.units = tiling.units();
  const long long units = static_cast<long long>(arguments.units) * arguments.batch;
  const long long clusters = std::min<long long>(units, multiprocessors(queue.device) / cluster);

  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = cluster;
  attributes[1].val.clusterDim.y = 1;
  attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(clusters * cluster));
  config.blockDim = dim3(block_threads);
  config.dynamicSmemBytes = bytes;
  config.stream = queue.stream;
  config.attrs = attributes;
  config.numAttrs = cluster > 1 ? 2 : 1;
  check(cudaLaunchKernelEx(&config, kernel, arguments), "launching a product");
}

template <bool hermitian>
void launch(const Queue& queue, Shape shape, const ProductArguments& arguments) {
  const bool pair = shape.cluster == 2;
  switch (shape.tile) {
    case 64:
      return pair ? launch_shape<64, 2, hermitian>(queue, arguments)
                  : launch_shape<64, 1, hermitian>(queue, arguments);
    case 128:
      return pair ? launch_shape<128, 2, hermitian>(queue, arguments)
                  : launch_shape<128, 1, hermitian>(queue, arguments);
    case 192:
      return pair ? launch_shape<192, 2, hermitian>(queue, arguments)
                  : launch_shape<192, 1, hermitian>(queue, arguments);
    default:
      return pair ? launch_shape<256, 2, hermitian>(queue, arguments)
                  : launch_shape<256, 1, hermitian>(queue, arguments);
  }
}

}  // namespace gramian::cuda::hopper
