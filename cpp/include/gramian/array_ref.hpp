// An array whose element type is known at run time only: what a binding hands to the library.
#pragma once

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

  /// Of one vector per batch entry, without gaps; null if the array is absent.
  template <class T>
  T* vector() const {
    return static_cast<T*>(data);
  }
};

}  // namespace gramian
