// What stays of a library that is loaded at run time: its functions, and handles that are free.
// Neither is ever destroyed: at exit CUDA may be gone before us, and handles cannot be destroyed
// without it.
#pragma once

#include <map>
#include <mutex>
#include <new>
#include <vector>

namespace gramian::cuda {

/// A library's functions, once for the process. `load` returns them or throws; a failure is not
/// remembered, as the library may be found later.
template <class Functions>
class LoadedOnce {
 public:
  template <class Load>
  const Functions& operator()(Load&& load) {
    const std::lock_guard lock(mutex_);
    if (!functions_) functions_ = new Functions(load());
    return *functions_;
  }

 private:
  std::mutex mutex_;
  const Functions* functions_ = nullptr;
};

/// Handles that nobody uses, by device. Each is used by one thread at a time.
template <class Handle>
class HandlePool {
 public:
  /// One from the pool, or what `make` returns.
  template <class Make>
  Handle take(int device, Make&& make) {
    {
      const std::lock_guard lock(mutex_);
      auto& idle = idle_[device];
      if (!idle.empty()) {
        const Handle handle = idle.back();
        idle.pop_back();
        return handle;
      }
    }
    return make();
  }

  void give(int device, Handle handle) noexcept {
    const std::lock_guard lock(mutex_);
    try {
      idle_[device].push_back(handle);
    } catch (const std::bad_alloc&) {
      // The handle is lost, which costs less than the process.
    }
  }

 private:
  std::mutex mutex_;
  std::map<int, std::vector<Handle>> idle_;
};

}  // namespace gramian::cuda
