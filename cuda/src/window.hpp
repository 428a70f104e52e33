// A batch of matrices with any strides, passed to kernels by value.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <limits>
#include <utility>

#include "gramian/array_ref.hpp"
#include "gramian/cuda/queue.hpp"
#include "products.hpp"

namespace gramian::cuda {

struct Window {
  static constexpr int max_dims = 16;

  void* data = nullptr;
  index_t rows = 0;
  index_t cols = 0;
  index_t row_stride = 0;  // strides count elements
  index_t col_stride = 0;
  int dims = 0;  // of the batch, the last one fastest
  index_t shape[max_dims] = {};
  index_t stride[max_dims] = {};

  /// Element offset of matrix b.
#ifdef __CUDACC__
  __host__ __device__
#endif
      index_t offset(index_t b) const {
    index_t sum = 0;
    for (int d = dims - 1; d > 0; --d) {
      const index_t next = b / shape[d];
      sum += (b - next * shape[d]) * stride[d];
      b = next;
    }
    return dims > 0 ? sum + b * stride[0] : sum;
  }

  void transpose() {
    std::swap(rows, cols);
    std::swap(row_stride, col_stride);
  }

  index_t batch() const {
    index_t n = 1;
    for (int d = 0; d < dims; ++d) n *= shape[d];
    return n;
  }

  /// Steps between neighbours along a dimension: infinite where there are none.
  index_t row_reach() const { return reach(rows, row_stride); }
  index_t col_reach() const { return reach(cols, col_stride); }

  /// Whether every row can be moved in pieces of `bytes` bytes that lie at multiples of it.
  bool rows_aligned(index_t element_bytes, index_t bytes) const {
    if (col_stride != 1) return false;
    if (reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(bytes) != 0)
      return false;
    if (rows > 1 && row_stride * element_bytes % bytes != 0) return false;
    for (int d = 0; d < dims; ++d)
      if (stride[d] * element_bytes % bytes != 0) return false;
    return true;
  }

 private:
  static index_t reach(index_t extent, index_t stride) {
    return extent == 1 ? std::numeric_limits<index_t>::max() : std::abs(stride);
  }
};

/// Leading dimensions that lie like one are merged. Throws Error if more than Window::max_dims are
/// left.
inline Window window(const ArrayRef& array) {
  const std::size_t last = array.shape.size() - 2;
  Window w;
  w.data = array.data;
  w.rows = array.shape[last];
  w.cols = array.shape[last + 1];
  w.row_stride = array.strides[last];
  w.col_stride = array.strides[last + 1];
  for (std::size_t d = 0; d < last; ++d) {
    const index_t extent = array.shape[d];
    const index_t stride = array.strides[d];
    if (extent == 1) continue;
    if (w.dims > 0 && w.stride[w.dims - 1] == extent * stride) {
      w.shape[w.dims - 1] *= extent;
      w.stride[w.dims - 1] = stride;
      continue;
    }
    if (w.dims == Window::max_dims)
      throw Error(
          "arrays with more than 16 leading dimensions that cannot be merged are not "
          "supported on a GPU; make a contiguous copy");
    w.shape[w.dims] = extent;
    w.stride[w.dims] = stride;
    ++w.dims;
  }
  return w;
}

inline Window window(const Matrices& y, index_t rows, index_t cols, index_t batch) {
  Window w;
  w.data = y.data;
  w.rows = rows;
  w.cols = cols;
  w.row_stride = y.ld;
  w.col_stride = 1;
  if (batch > 1) {
    w.dims = 1;
    w.shape[0] = batch;
    w.stride[0] = y.stride;
  }
  return w;
}

}  // namespace gramian::cuda
