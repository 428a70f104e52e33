// Scratch memory that the caller owns: sized first, allocated once, handed down.
#pragma once

#include <cstddef>
#include <memory>

#include "gramian/matrix_view.hpp"

namespace gramian {

/// A window of scratch memory. take() hands out 64-byte aligned pieces from the front; copies
/// of a Workspace hand out the same memory again, so a callee's pieces are free after it returns.
class Workspace {
 public:
  static constexpr std::size_t alignment = 64;

  Workspace() = default;
  Workspace(std::byte* data, std::size_t bytes) : data_(data), bytes_(bytes) {}

  template <class T>
  T* take(index_t count) {
    T* piece = reinterpret_cast<T*>(data_);
    const std::size_t used = bytes_for<T>(count);
    data_ += used;
    bytes_ -= used;
    return piece;
  }

  template <class T>
  static std::size_t bytes_for(index_t count) {
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    return (bytes + alignment - 1) / alignment * alignment;
  }

  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Memory behind a Workspace; huge pages where the system offers them.
class WorkspaceMemory {
 public:
  /// Empty on failure: check ok().
  explicit WorkspaceMemory(std::size_t bytes);

  bool ok() const { return data_ != nullptr || bytes_ == 0; }
  Workspace view() const { return {data_.get(), bytes_}; }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  std::size_t bytes_;
  std::unique_ptr<std::byte, Free> data_;
};

}  // namespace gramian
