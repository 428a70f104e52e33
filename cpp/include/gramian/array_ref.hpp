// An array whose element type is known at run time only: what a binding hands to the library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "gramian/dtype.hpp"
#include "gramian/matrix_view.hpp"

namespace gramian {

/// shape (..., rows, cols); strides count elements.
struct ArrayRef {
  void* data = nullptr;
  DType dtype = DType::float32;
  std::vector<index_t> shape;
  std::vector<index_t> strides;

  template <class T>
  BatchView<T> matrices() const {
    const auto n = shape.size();
    return {{static_cast<T*>(data), shape[n - 2], shape[n - 1], strides[n - 2], strides[n - 1]},
            {shape.begin(), shape.end() - 2},
            {strides.begin(), strides.end() - 2}};
  }

  /// Its first entry; null if the array is absent.
  template <class T>
  T* vector() const {
    return static_cast<T*>(data);
  }
};

/// Number of matrices.
inline index_t batch_size(const ArrayRef& a) {
  index_t size = 1;
  for (std::size_t d = 0; d + 2 < a.shape.size(); ++d) size *= a.shape[d];
  return size;
}

/// First and one past last byte that the array's strides can reach. Not for arrays without entries.
inline std::pair<std::uintptr_t, std::uintptr_t> extent(const ArrayRef& a) {
  index_t low = 0;
  index_t high = 0;
  for (std::size_t d = 0; d < a.shape.size(); ++d) {
    const index_t reach = (a.shape[d] - 1) * a.strides[d];
    (reach < 0 ? low : high) += reach;
  }
  const auto base = reinterpret_cast<std::uintptr_t>(a.data);
  const index_t size = element_size(a.dtype);
  return {base + static_cast<std::uintptr_t>(low * size),
          base + static_cast<std::uintptr_t>((high + 1) * size)};
}

/// Whether they may share memory (they do not where this is false).
inline bool overlaps(const ArrayRef& a, const ArrayRef& b) {
  const auto [a0, a1] = extent(a);
  const auto [b0, b1] = extent(b);
  return a0 < b1 && b0 < a1;
}

/// Whether arrays of one shape and type have each entry at the same place.
inline bool same_entries(const ArrayRef& a, const ArrayRef& b) {
  if (a.data != b.data) return false;
  for (std::size_t d = 0; d < a.shape.size(); ++d)
    if (a.shape[d] > 1 && a.strides[d] != b.strides[d]) return false;
  return true;
}

}  // namespace gramian
