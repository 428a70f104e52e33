#include <cuda_runtime_api.h>

#include "gramian/cuda/device_info.hpp"

namespace gramian::cuda {

SystemInfo system_info() {
  SystemInfo info{};
  cudaRuntimeGetVersion(&info.runtime);
  cudaDriverGetVersion(&info.driver);
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    info.error = cudaGetErrorString(error);
    cudaGetLastError();  // the query is no failure of the next call
    return info;
  }
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp p{};
    if (const cudaError_t error = cudaGetDeviceProperties(&p, i); error != cudaSuccess) {
      info.error = cudaGetErrorString(error);
      cudaGetLastError();
      return info;
    }
    info.devices.push_back({p.name, p.major, p.minor, p.multiProcessorCount, p.totalGlobalMem});
  }
  return info;
}

}  // namespace gramian::cuda
