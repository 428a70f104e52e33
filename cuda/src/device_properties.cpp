#include "device_properties.hpp"

#include <cuda_runtime_api.h>

#include <map>
#include <mutex>

#include "gramian/cuda/queue.hpp"

namespace gramian::cuda {

namespace {

struct Properties {
  int major = 0;
  int minor = 0;
  int multiprocessors = 0;
  int most_shared_memory = 0;
  int single_to_double = 0;  // how many times as fast float32 is, outside of tensor cores
};

Properties properties(int device) {
  static std::mutex mutex;
  static std::map<int, Properties> known;
  const std::lock_guard lock(mutex);
  const auto found = known.find(device);
  if (found != known.end()) return found->second;
  Properties p;
  const auto ask = [&](int& into, cudaDeviceAttr which) {
    check(cudaDeviceGetAttribute(&into, which, device), "cudaDeviceGetAttribute");
  };
  ask(p.major, cudaDevAttrComputeCapabilityMajor);
  ask(p.minor, cudaDevAttrComputeCapabilityMinor);
  ask(p.multiprocessors, cudaDevAttrMultiProcessorCount);
  ask(p.most_shared_memory, cudaDevAttrMaxSharedMemoryPerBlockOptin);
  ask(p.single_to_double, cudaDevAttrSingleToDoublePrecisionPerfRatio);
  known[device] = p;
  return p;
}

}  // namespace

bool is_hopper(int device) {
  const Properties p = properties(device);
  return p.major == 9 && p.minor == 0;
}

int multiprocessors(int device) { return properties(device).multiprocessors; }

int most_shared_memory(int device) { return properties(device).most_shared_memory; }

bool float64_is_fast(int device) { return properties(device).single_to_double <= 2; }

}  // namespace gramian::cuda
