// Copying an operand into panels (tile_kernel.hpp), converting nothing but the layout.
#pragma once

#include <algorithm>
#include <complex>
#include <cstring>

#include "gramian/matrix_view.hpp"

namespace gramian::detail {

/// An operand as the packer sees it: `length` rows of A (or columns of B), summed over `depth`.
template <class T>
struct PanelSource {
  const T* data;
  index_t length;
  index_t depth;
  index_t length_stride;
  index_t depth_stride;
  bool conjugate;

  bool same_memory(const PanelSource& o) const {
    return data == o.data && length == o.length && length_stride == o.length_stride &&
           depth_stride == o.depth_stride;
  }
};

template <class T>
PanelSource<T> left_operand(MatrixView<const T> a, bool conjugate = false) {
  return {a.data, a.rows, a.cols, a.row_stride, a.col_stride, conjugate};
}

template <class T>
PanelSource<T> right_operand(MatrixView<const T> b, bool conjugate = false) {
  return {b.data, b.cols, b.rows, b.col_stride, b.row_stride, conjugate};
}

inline index_t panel_count(index_t length, int panel) { return (length + panel - 1) / panel; }

/// Reals needed for all panels of an operand at a depth.
template <class T>
index_t packed_size(index_t length, index_t depth, int panel) {
  return panel_count(length, panel) * panel * depth * (is_complex_v<T> ? 2 : 1);
}

// Blocks of 4 x 4 turned in registers: entry-by-entry transposition took a fifth of a Gram product.
template <class R>
inline void transpose_4x4(const R* src, index_t src_stride, R* dst, index_t dst_stride) {
  if constexpr (sizeof(R) == 4) {
    typedef float V __attribute__((vector_size(16)));
    typedef int M __attribute__((vector_size(16)));
    V r[4];
    for (int i = 0; i < 4; ++i) std::memcpy(&r[i], src + i * src_stride, sizeof(V));
#if defined(__clang__)
    const V t0 = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
    const V t1 = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
    const V t2 = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
    const V t3 = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    const V out[4] = {
        __builtin_shufflevector(t0, t2, 0, 1, 4, 5), __builtin_shufflevector(t0, t2, 2, 3, 6, 7),
        __builtin_shufflevector(t1, t3, 0, 1, 4, 5), __builtin_shufflevector(t1, t3, 2, 3, 6, 7)};
#else
    const V t0 = __builtin_shuffle(r[0], r[1], M{0, 4, 1, 5});
    const V t1 = __builtin_shuffle(r[0], r[1], M{2, 6, 3, 7});
    const V t2 = __builtin_shuffle(r[2], r[3], M{0, 4, 1, 5});
    const V t3 = __builtin_shuffle(r[2], r[3], M{2, 6, 3, 7});
    const V out[4] = {
        __builtin_shuffle(t0, t2, M{0, 1, 4, 5}), __builtin_shuffle(t0, t2, M{2, 3, 6, 7}),
        __builtin_shuffle(t1, t3, M{0, 1, 4, 5}), __builtin_shuffle(t1, t3, M{2, 3, 6, 7})};
#endif
    for (int i = 0; i < 4; ++i) std::memcpy(dst + i * dst_stride, &out[i], sizeof(V));
  } else {
    R block[16];
    for (int i = 0; i < 4; ++i) std::memcpy(block + 4 * i, src + i * src_stride, 4 * sizeof(R));
    for (int j = 0; j < 4; ++j)
      for (int i = 0; i < 4; ++i) dst[j * dst_stride + i] = block[4 * i + j];
  }
}

/// Panel p of the source, depth [k0, k0 + kc), into out; short panels are filled up with zeros.
template <class T>
void pack_panel(const PanelSource<T>& s, index_t p, index_t k0, index_t kc, int panel,
                real_t<T>* out) {
  using R = real_t<T>;
  const index_t first = p * panel;
  const int width = static_cast<int>(std::min<index_t>(panel, s.length - first));
  const T* base = s.data + first * s.length_stride + k0 * s.depth_stride;
  if constexpr (is_complex_v<T>) {
    for (index_t k = 0; k < kc; ++k, out += 2 * panel) {
      const T* src = base + k * s.depth_stride;
      for (int i = 0; i < width; ++i) {
        out[i] = src[i * s.length_stride].real();
        out[panel + i] = src[i * s.length_stride].imag();
      }
      for (int i = width; i < panel; ++i) out[i] = out[panel + i] = R(0);
    }
  } else {
    if (s.length_stride == 1 && width == panel) {
      // 16 bytes at a time, in line: a call of memcpy for each of so short rows cost as much again.
      constexpr int chunk = 16 / static_cast<int>(sizeof(R));
      for (index_t k = 0; k < kc; ++k) {
        const T* src = base + k * s.depth_stride;
        R* dst = out + k * panel;
        for (int i = 0; i < panel; i += chunk) std::memcpy(dst + i, src + i, 16);
      }
      return;
    }
    if (s.length_stride == 1) {
      for (index_t k = 0; k < kc; ++k) {
        R* dst = out + k * panel;
        std::memcpy(dst, base + k * s.depth_stride, static_cast<std::size_t>(width) * sizeof(R));
        for (int i = width; i < panel; ++i) dst[i] = R(0);
      }
      return;
    }
    int i = 0;
    if (s.depth_stride == 1) {
      for (; i + 4 <= width; i += 4) {
        const T* src = base + i * s.length_stride;
        index_t k = 0;
        for (; k + 4 <= kc; k += 4)
          transpose_4x4(src + k, s.length_stride, out + k * panel + i, panel);
        for (; k < kc; ++k)
          for (int e = 0; e < 4; ++e) out[k * panel + i + e] = src[e * s.length_stride + k];
      }
    }
    for (; i < panel; ++i)
      for (index_t k = 0; k < kc; ++k)
        out[k * panel + i] = i < width ? base[i * s.length_stride + k * s.depth_stride] : R(0);
  }
}

}  // namespace gramian::detail
