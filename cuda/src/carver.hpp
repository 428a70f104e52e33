// How a call's device memory is sized and dealt out: the same lines do both.
#pragma once

#include <cstddef>

#include "gramian/workspace.hpp"

namespace gramian::cuda {

/// Hands out pieces of the workspace, or only counts them.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(base) {}

  template <class T>
  T* take(index_t count) {
    const std::size_t at = used_;
    used_ += Workspace::bytes_for<T>(count);
    return base_ ? reinterpret_cast<T*>(base_ + at) : nullptr;
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* base_;
  std::size_t used_ = 0;
};

}  // namespace gramian::cuda
