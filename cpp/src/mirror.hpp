// The strict upper triangle of a Hermitian matrix from its lower one.
#pragma once

#include <algorithm>
#include <complex>

#include "gramian/matrix_view.hpp"
#include "pack.hpp"

namespace gramian::detail {

inline constexpr index_t mirror_block = 16;

/// Row of blocks `block`: entries below the diagonal are conjugated into their mirror places, and
/// gamma is added to the (real) diagonal.
///
/// By 16 x 16 blocks through a buffer: where rows lie a power of two apart, writing single columns
/// puts every entry into the same few cache sets (it cost a third of the product at m = 1024).
template <class T>
void mirror_block_row(MatrixView<T> c, index_t block, real_t<T> gamma) {
  constexpr index_t B = mirror_block;
  const index_t i0 = block * B;
  const index_t h = std::min(B, c.rows - i0);
  for (index_t j0 = 0; j0 < i0; j0 += B) {
    const T* source = c.data + i0 * c.row_stride + j0;
    T* target = c.data + j0 * c.row_stride + i0;
    if constexpr (is_complex_v<T>) {
      T turned[B][B];
      for (index_t i = 0; i < h; ++i)
        for (index_t j = 0; j < B; ++j) turned[j][i] = std::conj(source[i * c.row_stride + j]);
      for (index_t j = 0; j < B; ++j) std::copy_n(turned[j], h, target + j * c.row_stride);
    } else {
      index_t i = 0;
      for (; i + 4 <= h; i += 4)
        for (index_t j = 0; j < B; j += 4)
          transpose_4x4(source + i * c.row_stride + j, c.row_stride, target + j * c.row_stride + i,
                        c.row_stride);
      for (; i < h; ++i)
        for (index_t j = 0; j < B; ++j) target[j * c.row_stride + i] = source[i * c.row_stride + j];
    }
  }
  for (index_t i = i0; i < i0 + h; ++i) {
    for (index_t j = i0; j < i; ++j) {
      if constexpr (is_complex_v<T>)
        c(j, i) = std::conj(c(i, j));
      else
        c(j, i) = c(i, j);
    }
    if constexpr (is_complex_v<T>)
      c(i, i) = c(i, i).real() + gamma;
    else
      c(i, i) += gamma;
  }
}

}  // namespace gramian::detail
