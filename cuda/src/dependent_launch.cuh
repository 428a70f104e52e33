// Kernels in a row on one stream, where the next may be set up while the last one ends
// (programmatic dependent launch, compute capability 9.0 and later).
#pragma once

#include <utility>

#include "gramian/cuda/queue.hpp"

namespace gramian::cuda {

/// First thing in every kernel that launch_after launches: waits until all earlier work of the
/// stream has ended and its results can be seen, and lets the next kernel be set up meanwhile.
__device__ __forceinline__ void await_earlier_kernels() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}

/// Whether the kernel's code for this device has the wait above: only then may it start early.
bool waits_for_earlier(const void* kernel, int device);

/// Lets the kernel have that much dynamic shared memory on the device. Asked for once.
void allow_shared_memory(const void* kernel, int device, int bytes);

struct Grid {
  unsigned blocks;
  unsigned threads;
  unsigned shared_bytes = 0;  // dynamic; beyond 48 KB after allow_shared_memory()
};

template <class... Parameters, class... Arguments>
void launch_after(const Queue& queue, void (*kernel)(Parameters...), Grid grid, const char* what,
                  Arguments&&... arguments) {
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(grid.blocks);
  config.blockDim = dim3(grid.threads);
  config.dynamicSmemBytes = grid.shared_bytes;
  config.stream = queue.stream;
  config.attrs = &early;
  config.numAttrs = waits_for_earlier(reinterpret_cast<const void*>(kernel), queue.device) ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, Parameters(std::forward<Arguments>(arguments))...),
        what);
}

template <class... Parameters, class... Arguments>
void launch_after(const Queue& queue, void (*kernel)(Parameters...), unsigned blocks,
                  unsigned threads, const char* what, Arguments&&... arguments) {
  launch_after(queue, kernel, Grid{blocks, threads}, what, std::forward<Arguments>(arguments)...);
}

}  // namespace gramian::cuda
