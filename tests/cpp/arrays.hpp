// Vectors as arrays of the library.
#pragma once

#include <complex>
#include <type_traits>
#include <utility>
#include <vector>

#include "gramian/array_ref.hpp"

namespace gramian::test {

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return DType::float32;
  if constexpr (std::is_same_v<T, double>) return DType::float64;
  if constexpr (std::is_same_v<T, std::complex<float>>) return DType::complex64;
  return DType::complex128;
}

template <class T>
ArrayRef array(std::vector<T>& entries, std::vector<index_t> shape) {
  ArrayRef a;
  a.data = entries.data();
  a.dtype = dtype_of<T>();
  a.strides.resize(shape.size());
  index_t step = 1;
  for (std::size_t d = shape.size(); d-- > 0; step *= shape[d]) a.strides[d] = step;
  a.shape = std::move(shape);
  return a;
}

}  // namespace gramian::test
