// Where work goes: a device and a stream of the caller's.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace gramian::cuda {

struct Queue {
  int device = 0;
  cudaStream_t stream = nullptr;
};

/// A CUDA or cuBLAS call failed; what() names the call and the reason.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Makes a device current for a scope. Throws Error if it cannot.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = -1;  // -1: nothing to restore
};

/// Throws Error, naming `what`, unless the call succeeded. The sticky error state is cleared, so
/// that a failure is reported once, by the call that met it.
void check(cudaError_t error, const char* what);

}  // namespace gramian::cuda
