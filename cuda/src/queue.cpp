#include "gramian/cuda/queue.hpp"

#include <cuda.h>

namespace gramian::cuda {

namespace {

/// To make a device current is to create its context. Where the thread's device has none yet, there
/// is nothing to go back to, and some hundred megabytes to lose.
bool has_context(int device) {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found{};
  if (cudaGetDriverEntryPointByVersion("cuDevicePrimaryCtxGetState", &entry, 7000,
                                       cudaEnableDefault, &found) != cudaSuccess ||
      found != cudaDriverEntryPointSuccess || !entry) {
    cudaGetLastError();
    return true;
  }
  unsigned flags = 0;
  int active = 0;
  const auto ask = reinterpret_cast<decltype(&cuDevicePrimaryCtxGetState)>(entry);
  return ask(device, &flags, &active) != CUDA_SUCCESS || active != 0;
}

}  // namespace

DeviceGuard::DeviceGuard(int device) {
  int current = -1;
  check(cudaGetDevice(&current), "cudaGetDevice");
  if (current == device) return;
  const bool return_to_it = has_context(current);
  check(cudaSetDevice(device), "cudaSetDevice");
  if (return_to_it) previous_ = current;
}

DeviceGuard::~DeviceGuard() {
  // A destructor has nobody to tell: should the device be lost, the next call says so.
  if (previous_ >= 0 && cudaSetDevice(previous_) != cudaSuccess) cudaGetLastError();
}

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  throw Error(std::string(what) + ": " + cudaGetErrorString(error) + " (" +
              cudaGetErrorName(error) + ")");
}

}  // namespace gramian::cuda
