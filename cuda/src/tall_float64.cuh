// The kernels of tall_float64.hpp.
//
// A block computes 64 x 64 entries. What it sums over comes in pieces of 16: while one is
// multiplied from shared memory, the next waits in registers. Rows in shared memory are such a
// number of entries apart that the 4 x 4 entries which half a warp reads at once meet each bank
// once.
#pragma once

#include "dependent_launch.cuh"
#include "element.cuh"
#include "float64_product.cuh"
#include "tall_float64.hpp"

namespace gramian::cuda::tall {

inline constexpr int threads = 128;
inline constexpr int tile = 64;
inline constexpr int depth = 16;
inline constexpr int wide_stride = tile + 4;
inline constexpr int deep_stride = depth + 4;

struct GramArguments {
  const void* x;
  const void* y;
  index_t rows, x_cols, y_cols;
  index_t x_tiles, y_tiles;
  index_t tiles;      // of the result that are computed
  index_t part_rows;  // a multiple of depth
  bool symmetric;     // tiles of the lower triangle alone
  double* parts;      // part after part, tile after tile, tile x tile entries
};

/// `high` rows and `broad` columns of a matrix, as float64 in shared memory rows `stride` entries
/// apart; zeros outside of the matrix. A thread always has the same column.
template <class T, int high, int broad, int stride>
struct Piece {
  static constexpr int step = threads / broad;
  T held[high / step];

  /// From that row and column on; entries lie down and across so many apart.
  __device__ __forceinline__ void load(const T* x, index_t down, index_t across, index_t row,
                                       index_t rows, index_t col, index_t cols) {
    const index_t j = col + static_cast<int>(threadIdx.x) % broad;
    const index_t i = row + static_cast<int>(threadIdx.x) / broad;
    const int left = j < cols ? inside(i, rows, high) : 0;
    const T* from = x + i * down + j * across;
#pragma unroll
    for (int u = 0; u < high / step; ++u) {
      held[u] = u * step < left ? *from : T(0);
      from += step * down;
    }
  }
  __device__ __forceinline__ void store(double* to) const {
    to += static_cast<int>(threadIdx.x) / broad * stride + static_cast<int>(threadIdx.x) % broad;
#pragma unroll
    for (int u = 0; u < high / step; ++u) to[u * step * stride] = static_cast<double>(held[u]);
  }
};

/// What a sum goes down, and what it goes along.
template <class T>
using WidePiece = Piece<T, depth, tile, wide_stride>;
template <class T>
using DeepPiece = Piece<T, tile, depth, deep_stride>;

/// Four warps, 32 x 32 entries each; of those beyond the matrices nothing is computed.
template <class X, class Y>
__global__ void __launch_bounds__(threads, 3) gram_kernel(GramArguments a) {
  __shared__ double x_piece[2][depth * wide_stride];
  __shared__ double y_piece[2][depth * wide_stride];
  await_earlier_kernels();
  const index_t part = divide(blockIdx.x, a.tiles);
  const index_t which = static_cast<index_t>(blockIdx.x) - part * a.tiles;
  index_t I;
  index_t J;
  if (a.symmetric) {
    float64::find_tile(which, I, J);
  } else {
    I = divide(which, a.y_tiles);
    J = which - I * a.y_tiles;
  }
  const index_t begin = part * a.part_rows;
  const index_t end = begin + a.part_rows < a.rows ? begin + a.part_rows : a.rows;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4;
  const int t = lane % 4;
  const int row0 = warp / 2 * 32;
  const int col0 = warp % 2 * 32;
  // How many instructions down and across hold entries of the result.
  const int down = (inside(I * tile + row0, a.x_cols, 32) + 15) / 16;
  const int across = (inside(J * tile + col0, a.y_cols, 32) + 7) / 8;

  const X* const x = static_cast<const X*>(a.x);
  const Y* const y = static_cast<const Y*>(a.y);
  WidePiece<X> x_next;
  WidePiece<Y> y_next;
  x_next.load(x, a.x_cols, 1, begin, end, I * tile, a.x_cols);
  y_next.load(y, a.y_cols, 1, begin, end, J * tile, a.y_cols);
  double sums[2][4][4] = {};
  int turn = 0;
  for (index_t row = begin; row < end; row += depth, turn ^= 1) {
    x_next.store(x_piece[turn]);
    y_next.store(y_piece[turn]);
    __syncthreads();
    if (row + depth < end) {
      x_next.load(x, a.x_cols, 1, row + depth, end, I * tile, a.x_cols);
      y_next.load(y, a.y_cols, 1, row + depth, end, J * tile, a.y_cols);
    }
#pragma unroll
    for (int k = 0; k < depth; k += 8) {
      const double* const xs = x_piece[turn] + (k + t) * wide_stride + row0 + g;
      const double* const ys = y_piece[turn] + (k + t) * wide_stride + col0 + g;
      double b[4][2];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        b[j][0] = ys[8 * j];
        b[j][1] = ys[8 * j + 4 * wide_stride];
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (i >= down) continue;
        const double f[4] = {xs[16 * i], xs[16 * i + 8], xs[16 * i + 4 * wide_stride],
                             xs[16 * i + 8 + 4 * wide_stride]};
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if (j < across) float64::multiply_add(sums[i][j], f, b[j]);
      }
    }
    // The other buffer is written next, which all have left behind before the barrier above.
  }
  double* const to = a.parts + (part * a.tiles + which) * (tile * tile);
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        double* const pair = to + (row0 + 16 * i + 8 * h + g) * tile + col0 + 8 * j + 2 * t;
        pair[0] = sums[i][j][2 * h];
        pair[1] = sums[i][j][2 * h + 1];
      }
}

struct SumArguments {
  const double* parts;
  index_t count, tiles, y_tiles, x_cols, y_cols;
  bool symmetric;
  double* gram;
};

inline constexpr int sum_entries = 32;

/// 32 entries to a block, a fourth of the parts to each of its warps.
__global__ void __launch_bounds__(threads) gram_sum_kernel(SumArguments a) {
  constexpr int warps = threads / 32;
  __shared__ double shared[warps][sum_entries];
  await_earlier_kernels();
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const index_t at = static_cast<index_t>(blockIdx.x) * sum_entries + lane;
  const bool here = at < a.x_cols * a.y_cols;
  index_t i = here ? divide(at, a.y_cols) : 0;
  index_t j = here ? at - i * a.y_cols : 0;
  if (a.symmetric && j > i) {
    const index_t k = i;
    i = j;
    j = k;
  }
  const index_t I = i / tile;
  const index_t J = j / tile;
  const index_t which = a.symmetric ? I * (I + 1) / 2 + J : I * a.y_tiles + J;
  const index_t step = a.tiles * (tile * tile);
  const double* from = a.parts + which * (tile * tile) + (i - I * tile) * tile + (j - J * tile);
  constexpr int U = 8;
  double sum = 0;
  for (index_t p = warp; p < a.count; p += U * warps) {
    double v[U];
#pragma unroll
    for (int u = 0; u < U; ++u) v[u] = p + u * warps < a.count ? from[(p + u * warps) * step] : 0.0;
    sum += ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
  }
  shared[warp][lane] = sum;
  __syncthreads();
  if (warp == 0 && here)
    a.gram[at] = (shared[0][lane] + shared[1][lane]) + (shared[2][lane] + shared[3][lane]);
}

/// Four warps, 16 rows by 64 columns each.
template <class X, class C>
__global__ void __launch_bounds__(threads, 3)
    product_kernel(const __grid_constant__ TallProduct p, index_t col_tiles) {
  __shared__ double x_piece[2][tile * deep_stride];
  __shared__ double e_piece[2][depth * wide_stride];
  await_earlier_kernels();
  const index_t I = divide(blockIdx.x, col_tiles);
  const index_t J = static_cast<index_t>(blockIdx.x) - I * col_tiles;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4;
  const int t = lane % 4;
  const int across = (inside(J * tile, p.cols, tile) + 7) / 8;

  const X* const x = static_cast<const X*>(p.x.data);
  DeepPiece<X> x_next;
  WidePiece<double> e_next;
  x_next.load(x, p.x.cols, 1, I * tile, p.x.rows, 0, p.x.cols);
  e_next.load(p.e, p.e_row, p.e_col, 0, p.x.cols, J * tile, p.cols);
  double sums[8][4] = {};
  int turn = 0;
  for (index_t k0 = 0; k0 < p.x.cols; k0 += depth, turn ^= 1) {
    x_next.store(x_piece[turn]);
    e_next.store(e_piece[turn]);
    __syncthreads();
    if (k0 + depth < p.x.cols) {
      x_next.load(x, p.x.cols, 1, I * tile, p.x.rows, k0 + depth, p.x.cols);
      e_next.load(p.e, p.e_row, p.e_col, k0 + depth, p.x.cols, J * tile, p.cols);
    }
#pragma unroll
    for (int k = 0; k < depth; k += 8) {
      const double* const xs = x_piece[turn] + (16 * warp + g) * deep_stride + k + t;
      const double* const es = e_piece[turn] + (k + t) * wide_stride + g;
      const double f[4] = {xs[0], xs[8 * deep_stride], xs[4], xs[8 * deep_stride + 4]};
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        if (j >= across) continue;
        const double b[2] = {es[8 * j], es[8 * j + 4 * wide_stride]};
        float64::multiply_add(sums[j], f, b);
      }
    }
  }
  C* const c = static_cast<C*>(p.c);
#pragma unroll
  for (int j = 0; j < 8; ++j)
#pragma unroll
    for (int h = 0; h < 4; ++h) {
      const index_t row = I * tile + 16 * warp + 8 * (h / 2) + g;
      const index_t col = J * tile + 8 * j + 2 * t + h % 2;
      if (row >= p.x.rows || col >= p.cols) continue;
      double v = p.sign * sums[j][h];
      if (p.d)
        v += p.kept ? (p.kept[col] != 0 ? p.d[row * p.cols + col] : 0.0) : p.d[row * p.cols + col];
      c[row * p.cols + col] = static_cast<C>(v);
    }
}

}  // namespace gramian::cuda::tall
