#include "dependent_launch.cuh"

#include <map>
#include <mutex>
#include <set>
#include <utility>

namespace gramian::cuda {

bool waits_for_earlier(const void* kernel, int device) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, bool> known;
  const std::lock_guard lock(mutex);
  const auto key = std::pair(kernel, device);
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  // Code made from an older architecture's PTX lacks the wait, whatever the device could do.
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
  constexpr int first_with_wait = 90;
  const bool waits =
      attributes.ptxVersion >= first_with_wait && attributes.binaryVersion >= first_with_wait;
  known[key] = waits;
  return waits;
}

void allow_shared_memory(const void* kernel, int device, int bytes) {
  static std::mutex mutex;
  static std::set<std::pair<const void*, int>> asked;
  const std::lock_guard lock(mutex);
  if (asked.contains({kernel, device})) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
        "asking for shared memory");
  asked.insert({kernel, device});
}

}  // namespace gramian::cuda
