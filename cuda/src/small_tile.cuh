// Products of Hermitian matrices in shared memory, by a block of four warps on tensor cores.
#pragma once

#include "float64_product.cuh"
#include "vector_arithmetic.cuh"

namespace gramian::cuda::small {

inline constexpr int block_threads = 128;
inline constexpr int block_warps = block_threads / 32;

/// Matrices lie row by row, rows side + 4 entries apart: then what a warp reads of a fragment at
/// once, four entries in each of four rows or, of complex ones, in each of two, meets each bank
/// equally often. A warp computes a fourth of a matrix.
template <bool is_complex_, int side_, int buffers>
struct Shape {
  static constexpr bool is_complex = is_complex_;
  using T = std::conditional_t<is_complex, double2, double>;
  static constexpr int side = side_;
  static constexpr int ld = side + 4;
  static constexpr int warp_side = side / 2;
  static constexpr int down = warp_side / 16;
  static constexpr int across = warp_side / 8;
  static constexpr int entries = side * ld;
  static constexpr int shared_bytes = buffers * entries * static_cast<int>(sizeof(T));
};

/// m x m entries of device memory into shared memory, and zeros around them.
template <class Shape>
__device__ void fetch(const typename Shape::T* from, index_t ld, int m, typename Shape::T* to) {
  for (int at = static_cast<int>(threadIdx.x); at < Shape::side * Shape::side;
       at += block_threads) {
    const int i = at / Shape::side;
    const int j = at % Shape::side;
    to[i * Shape::ld + j] = i < m && j < m ? from[i * ld + j] : typename Shape::T{};
  }
}

template <class Shape>
__device__ void read_pair(const typename Shape::T* from, int row, int k, int t, double& x,
                          double& y) {
  const typename Shape::T* const at = from + row * Shape::ld + k;
  if constexpr (Shape::is_complex) {
    const double2 v = at[t];
    x = v.x;
    y = v.y;
  } else {
    x = at[t];
    y = at[t + 4];
  }
}

/// put(row, col, v) for v = alpha (S Z)_{row col}, S and Z Hermitian and commuting, in the lower
/// triangle: each thread of the block has some of the entries. The diagonal is real.
template <class Shape, class Put>
__device__ void product(const typename Shape::T* s, const typename Shape::T* z, double alpha,
                        Put&& put) {
  constexpr bool is_complex = Shape::is_complex;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row0 = warp / 2 * Shape::warp_side;
  const int col0 = warp % 2 * Shape::warp_side;
  if (col0 > row0) return;
  const int g = lane / 4;
  const int t = lane % 4;
  double re[Shape::down][Shape::across][4] = {};
  double im[is_complex ? Shape::down : 1][is_complex ? Shape::across : 1][4] = {};
  for (int k = 0; k < Shape::side; k += is_complex ? 4 : 8) {
    double a[Shape::down][4];
    double b[Shape::across][2];
#pragma unroll
    for (int i = 0; i < Shape::down; ++i) {
      read_pair<Shape>(s, row0 + 16 * i + g, k, t, a[i][0], a[i][2]);
      read_pair<Shape>(s, row0 + 16 * i + 8 + g, k, t, a[i][1], a[i][3]);
    }
#pragma unroll
    for (int j = 0; j < Shape::across; ++j)
      read_pair<Shape>(z, col0 + 8 * j + g, k, t, b[j][0], b[j][1]);
#pragma unroll
    for (int i = 0; i < Shape::down; ++i)
#pragma unroll
      for (int j = 0; j < Shape::across; ++j) {
        float64::multiply_add(re[i][j], a[i], b[j]);
        if constexpr (is_complex) {
          const double turned[4] = {a[i][2], a[i][3], -a[i][0], -a[i][1]};
          float64::multiply_add(im[i][j], turned, b[j]);
        }
      }
  }
#pragma unroll
  for (int i = 0; i < Shape::down; ++i)
#pragma unroll
    for (int j = 0; j < Shape::across; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int row = row0 + 16 * i + 8 * (e / 2) + g;
        const int col = col0 + 8 * j + 2 * t + e % 2;
        if (col > row) continue;
        if constexpr (is_complex)
          put(row, col, double2{alpha * re[i][j][e], row == col ? 0.0 : alpha * im[i][j][e]});
        else
          put(row, col, alpha * re[i][j][e]);
      }
}

/// An entry of the lower triangle, and its mirror image.
template <class Shape>
__device__ void put_mirrored(typename Shape::T* c, int row, int col, typename Shape::T v) {
  c[row * Shape::ld + col] = v;
  if (row != col) c[col * Shape::ld + row] = conjugate_of(v);
}

}  // namespace gramian::cuda::small
