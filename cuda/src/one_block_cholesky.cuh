// The kernel of cholesky() in one_block.hpp.
//
// L with G = L L^T and X = L^-1 are made together, 16 columns at a time, in one square of shared
// memory: below its diagonal lies L, above it the transpose of X. With P the columns in turn,
//
//   L_PP and X_PP = L_PP^-1                 one warp, a row to a lane
//   L_iP = A_iP X_PP^T     (i below P)      a row to a thread
//   X_Pj = X_PP X_Pj       (j left of P)    a column to a thread
//   A_ij -= L_iP L_jP^T,   X_ij -= L_iP X_Pj     (i below P, and j <= i)
//
// where X_ij begins as 0. The last two are one: where A_ij is below the diagonal, X_ij is the entry
// (j, i) above it, and both L_jP and the transpose of X_Pj are row j of the square, columns P.
#pragma once

#include "dependent_launch.cuh"
#include "one_block.hpp"

namespace gramian::cuda::one_block {

inline constexpr int cholesky_threads = 512;
inline constexpr int panel = 16;
inline constexpr int panel_pad = panel + 1;

/// Rows an odd number of entries apart meet each bank once.
__host__ __device__ constexpr int cholesky_stride(int size) { return size | 1; }

__host__ __device__ constexpr int cholesky_bytes(int size) {
  return static_cast<int>(sizeof(double)) *
         (size * cholesky_stride(size) + 2 * panel * panel_pad + 2 * size);
}

/// One warp: the lower triangular factor of the block at `a` in place, its inverse to `inverse`
/// (zero above the diagonal). Returns the smallest pivot, 0 or less (or NaN) where there is none.
__device__ inline double factor_panel(double* a, int stride, int side, double* inverse, int lane) {
  double row[panel];
#pragma unroll
  for (int k = 0; k < panel; ++k)
    row[k] = lane < side && k <= lane ? a[lane * stride + k] : lane == k ? 1.0 : 0.0;
  double least = 1.0;
  double reciprocal = 1.0;  // of this lane's diagonal entry
#pragma unroll
  for (int k = 0; k < panel; ++k) {
    const double pivot = __shfl_sync(0xffffffffu, row[k], k);
    if (k < side && !(pivot >= least)) least = pivot;
    const double root = sqrt(pivot);
    const double turned = 1.0 / root;
    if (lane == k) {
      row[k] = root;
      reciprocal = turned;
    } else if (lane > k) {
      row[k] *= turned;
    }
#pragma unroll
    for (int j = k + 1; j < panel; ++j) {
      const double other = __shfl_sync(0xffffffffu, row[k], j);
      if (lane >= j) row[j] -= row[k] * other;
    }
  }
  if (lane < side) {
#pragma unroll
    for (int k = 0; k < panel; ++k)
      if (k <= lane) a[lane * stride + k] = row[k];
  }
  // A lane makes one column of the inverse; others' rows of the factor come by shuffles.
  double column[panel];
#pragma unroll
  for (int i = 0; i < panel; ++i) column[i] = lane == i ? 1.0 : 0.0;
#pragma unroll
  for (int k = 0; k < panel; ++k) {
    column[k] *= __shfl_sync(0xffffffffu, reciprocal, k);
#pragma unroll
    for (int i = k + 1; i < panel; ++i)
      column[i] -= __shfl_sync(0xffffffffu, row[k], i) * column[k];
  }
  if (lane < panel) {
#pragma unroll
    for (int i = 0; i < panel; ++i) inverse[i * panel_pad + lane] = i < lane ? 0.0 : column[i];
  }
  return least;
}

/// All columns of the panel that begins at `first`, in the square `s`.
__device__ inline void finish_panel(double* s, int stride, int size, int first, int side,
                                    const double* inverse) {
  // Rows outside of the panel: of A below it, of X's transpose above it.
  for (int row = static_cast<int>(threadIdx.x); row < size; row += cholesky_threads) {
    if (row >= first && row < first + side) continue;
    double* const at = s + row * stride + first;
    double x[panel];
#pragma unroll
    for (int k = 0; k < panel; ++k) x[k] = k < side ? at[k] : 0.0;
#pragma unroll
    for (int c = 0; c < panel; ++c) {
      double sum = 0;
#pragma unroll
      for (int k = 0; k <= c; ++k) sum = fma(x[k], inverse[c * panel_pad + k], sum);
      if (c < side) at[c] = sum;
    }
  }
}

/// What is below the panel, less what the panel accounts for.
__device__ inline void update_rest(double* s, int stride, int size, int first, int side,
                                   const double* inverse) {
  constexpr int each = 4;
  const int begin = first + side;
  const int rows = (size - begin + each - 1) / each;
  const int cols = (size + each - 1) / each;
  for (int at = static_cast<int>(threadIdx.x); at < rows * cols; at += cholesky_threads) {
    const int column = at / rows;
    const int row = at - column * rows;
    int i[each];
    int j[each];
    const double* left[each];
    const double* right[each];
    int step[each];
#pragma unroll
    for (int q = 0; q < each; ++q) {
      i[q] = begin + row + q * rows;
      j[q] = column + q * cols;
      const int i_in = i[q] < size ? i[q] : size - 1;
      const int j_in = j[q] < size ? j[q] : size - 1;
      left[q] = s + i_in * stride + first;
      // Within the panel X is the block's own inverse, whose columns lie in a square of their own.
      const bool own = j_in >= first && j_in < begin;
      right[q] = own ? inverse + (j_in - first) : s + j_in * stride + first;
      step[q] = own ? panel_pad : 1;
    }
    double sum[each][each] = {};
    for (int c = 0; c < side; ++c) {
      double x[each];
      double y[each];
#pragma unroll
      for (int q = 0; q < each; ++q) {
        x[q] = left[q][c];
        y[q] = right[q][c * step[q]];
      }
#pragma unroll
      for (int p = 0; p < each; ++p)
#pragma unroll
        for (int q = 0; q < each; ++q) sum[p][q] = fma(x[p], y[q], sum[p][q]);
    }
#pragma unroll
    for (int p = 0; p < each; ++p)
#pragma unroll
      for (int q = 0; q < each; ++q) {
        if (i[p] >= size || j[q] > i[p]) continue;
        double& to = j[q] < begin ? s[j[q] * stride + i[p]] : s[i[p] * stride + j[q]];
        to -= sum[p][q];
      }
  }
}

__global__ void __launch_bounds__(cholesky_threads)
    cholesky_kernel(CholeskyRequest r, SmallFigures* figures) {
  extern __shared__ __align__(16) unsigned char cholesky_memory[];
  await_earlier_kernels();
  if (figures->failed != 0) return;  // for all threads: written by earlier kernels, or at the end
  const int size = static_cast<int>(r.size);
  const int stride = cholesky_stride(size);
  double* const s = reinterpret_cast<double*>(cholesky_memory);
  double* const inverse = s + size * stride;
  double* const least = inverse + panel * panel_pad;  // its first entry
  double* const lengths = least + panel * panel_pad;
  double* const diagonal = lengths + size;  // of X
  const int thread = static_cast<int>(threadIdx.x);

  for (int j = thread; j < size; j += cholesky_threads) lengths[j] = sqrt(r.gram[j * size + j]);
  if (thread == 0) *least = 1.0;
  __syncthreads();

  double smallest = 1.0;
  bool shifted = false;
  for (;;) {
    for (int at = thread; at < size * size; at += cholesky_threads) {
      const int i = at / size;
      const int j = at - i * size;
      double v = 0;
      if (j <= i) v = r.gram[at] / lengths[i] / lengths[j];
      if (i == j && shifted) v += r.shift;
      s[i * stride + j] = v;
    }
    __syncthreads();
    for (int first = 0; first < size; first += panel) {
      const int side = size - first < panel ? size - first : panel;
      if (thread < 32) {
        const double found =
            factor_panel(s + first * stride + first, stride, side, inverse, thread);
        // Of NaN no comparison holds: it stays once it is there.
        if (thread == 0 && !(found >= *least)) *least = found;
      }
      __syncthreads();
      finish_panel(s, stride, size, first, side, inverse);
      if (thread < side) diagonal[first + thread] = inverse[thread * panel_pad + thread];
      __syncthreads();
      update_rest(s, stride, size, first, side, inverse);
      __syncthreads();
      // The block's own inverse to its place above the diagonal, which nobody reads before the end.
      for (int at = thread; at < side * side; at += cholesky_threads) {
        const int i = at / side;
        const int j = at - i * side;
        if (j < i) s[(first + j) * stride + first + i] = inverse[i * panel_pad + j];
      }
      __syncthreads();
    }
    smallest = *least;
    // A shift brings pivots up to where it does, but not what is no number.
    if (smallest >= r.least || shifted || r.shift == 0) break;
    shifted = true;
    __syncthreads();
    if (thread == 0) *least = 2.0;
    __syncthreads();
  }
  const bool good = smallest >= r.least;  // false for NaN
  if (thread == 0) {
    if (shifted) figures->shifted += 1;
    if (!good) figures->failed += 1;
  }
  // R = L^T times the lengths; the transpose of X is above the diagonal.
  for (int at = thread; at < size * size; at += cholesky_threads) {
    const int i = at / size;
    const int j = at - i * size;
    if (r.triangle) r.triangle[at] = j >= i ? s[j * stride + i] * lengths[j] : 0.0;
    if (r.inverse)
      r.inverse[at] = j > i    ? s[i * stride + j] / lengths[i]
                      : j == i ? diagonal[i] / lengths[i]
                               : 0.0;
  }
}

}  // namespace gramian::cuda::one_block
