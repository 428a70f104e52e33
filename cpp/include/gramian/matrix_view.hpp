// A strided window onto a matrix, and a batch of them. Nothing here owns memory.
#pragma once

#include <complex>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace gramian {

using index_t = std::int64_t;

template <class T>
struct RealOf {
  using type = T;
};
template <class R>
struct RealOf<std::complex<R>> {
  using type = R;
};
template <class R>
struct RealOf<const std::complex<R>> {
  using type = R;
};
/// float for float and complex<float>, double for double and complex<double>.
template <class T>
using real_t = typename RealOf<std::remove_const_t<T>>::type;

template <class T>
inline constexpr bool is_complex_v = !std::is_same_v<std::remove_const_t<T>, real_t<T>>;

/// Element (i, j) lies at data[i * row_stride + j * col_stride]; strides count elements and may be
/// negative, or 0 for a broadcast dimension.
template <class T>
struct MatrixView {
  T* data = nullptr;
  index_t rows = 0;
  index_t cols = 0;
  index_t row_stride = 0;
  index_t col_stride = 1;

  T& operator()(index_t i, index_t j) const { return data[i * row_stride + j * col_stride]; }

  MatrixView transposed() const { return {data, cols, rows, col_stride, row_stride}; }

  operator MatrixView<const T>() const
    requires(!std::is_const_v<T>)
  {
    return {data, rows, cols, row_stride, col_stride};
  }
};

/// A row-major matrix without gaps.
template <class T>
MatrixView<T> row_major(T* data, index_t rows, index_t cols) {
  return {data, rows, cols, cols, 1};
}

/// Leading dimensions of any number; matrix b is found by unravelling b in row-major order.
template <class T>
struct BatchView {
  MatrixView<T> first;
  std::vector<index_t> shape;
  std::vector<index_t> strides;

  index_t size() const {
    index_t n = 1;
    for (index_t s : shape) n *= s;
    return n;
  }

  MatrixView<T> operator[](index_t b) const {
    MatrixView<T> m = first;
    for (std::size_t d = shape.size(); d-- > 0;) {
      m.data += (b % shape[d]) * strides[d];
      b /= shape[d];
    }
    return m;
  }
};

}  // namespace gramian
