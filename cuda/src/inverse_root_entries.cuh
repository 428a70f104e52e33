// Passes over entries around the iteration for inverse roots.
#pragma once

#include "dependent_launch.cuh"
#include "element.cuh"
#include "inverse_root_control.hpp"
#include "vector_arithmetic.cuh"
#include "window.hpp"

namespace gramian::cuda {

inline constexpr int mirror_side = 32;
inline constexpr int mirror_threads = 256;
inline constexpr int entry_threads = 256;
inline constexpr int entries_each = 4;

/// A block takes a tile of the lower triangle.
template <class T>
__global__ void __launch_bounds__(mirror_threads)
    mirror_kernel(index_t tiles, index_t m, Matrices a) {
  __shared__ T tile[mirror_side][mirror_side + 1];
  await_earlier_kernels();
  const index_t b = divide(blockIdx.x, tiles);
  const index_t t = static_cast<index_t>(blockIdx.x) - b * tiles;
  // Row I of the triangle begins at tile I (I + 1) / 2; the root may be off by one.
  index_t I = static_cast<index_t>((sqrt(8.0 * static_cast<double>(t) + 1) - 1) / 2);
  while (I * (I + 1) / 2 > t) --I;
  while ((I + 1) * (I + 2) / 2 <= t) ++I;
  const index_t i0 = I * mirror_side;
  const index_t j0 = (t - I * (I + 1) / 2) * mirror_side;
  T* const entries = static_cast<T*>(a.data) + b * a.stride;
  const int col = static_cast<int>(threadIdx.x) % mirror_side;
  const int first = static_cast<int>(threadIdx.x) / mirror_side;
  constexpr int step = mirror_threads / mirror_side;
  for (int row = first; row < mirror_side; row += step)
    if (i0 + row < m && j0 + col < m) tile[row][col] = entries[(i0 + row) * a.ld + j0 + col];
  __syncthreads();
  for (int row = first; row < mirror_side; row += step) {
    // Row and column of the upper triangle.
    const index_t i = j0 + row;
    const index_t j = i0 + col;
    if (i >= m || j >= m || i > j) continue;
    const T v = tile[col][row];
    entries[i * a.ld + j] = i == j ? real_number<T>(real_part_of(v)) : conjugate_of(v);
  }
}

template <class T>
__global__ void __launch_bounds__(entry_threads)
    gather_kernel(index_t blocks, index_t m, const __grid_constant__ RootBuffers buffers,
                  const RootState* states, Matrices to) {
  await_earlier_kernels();
  const index_t b = divide(blockIdx.x, blocks);
  const index_t block = static_cast<index_t>(blockIdx.x) - b * blocks;
  const RootState& s = states[b];
  const bool found = s.status == RootStatus::converged;
  const Matrices from = buffers.buffer[s.where];
  if (found && from.data == to.data) return;
  for (int k = 0; k < entries_each; ++k) {
    const index_t at = (block * entries_each + k) * entry_threads + threadIdx.x;
    const index_t i = divide(at, m);
    const index_t j = at - i * m;
    if (i >= m) return;
    static_cast<T*>(to.data)[b * to.stride + i * to.ld + j] =
        found ? static_cast<const T*>(from.data)[b * from.stride + i * from.ld + j] : T{};
  }
}

struct LeaveTask {
  RootBuffers buffers;
  const RootState* states;
  const int* exponent;
  Window out;
  int p;
  bool root;
  bool columns;    // neighbours in a column of `out` lie closest
  index_t blocks;  // per matrix
};

/// 2^(-e/p), or with `root` 2^(e/p), in two factors: with e = p q + r, 0 <= r < p, the power
/// 2^(+-q) is exact, and r is the same for A 2^(kp).
struct Unscaling {
  double first, second;

  __device__ Unscaling(int e, int p, bool root) {
    const int q = e >= 0 ? e / p : -((p - 1 - e) / p);
    const double r = static_cast<double>(e - q * p) / p;
    const int power = root ? q : -q;
    first = scalbn(exp2(root ? r : -r), power / 2);
    second = scalbn(1.0, power - power / 2);
  }
  __device__ double operator()(double v) const { return v * first * second; }
  __device__ double2 operator()(double2 v) const {
    return {v.x * first * second, v.y * first * second};
  }
};

template <class T, class To>
__global__ void __launch_bounds__(entry_threads) leave_kernel(const __grid_constant__ LeaveTask t) {
  await_earlier_kernels();
  const index_t b = divide(blockIdx.x, t.blocks);
  const index_t block = static_cast<index_t>(blockIdx.x) - b * t.blocks;
  const index_t m = t.out.rows;
  const RootState& s = t.states[b];
  const bool found = s.status == RootStatus::converged;
  const Matrices from = t.buffers.buffer[t.root ? 0 : s.where];
  const T* const entries = static_cast<const T*>(from.data) + b * from.stride;
  To* const out = static_cast<To*>(t.out.data) + t.out.offset(b);
  const Unscaling unscaled(t.exponent[b], t.p, t.root);
  T nothing = real_number<T>(nan(""));
  if constexpr (is_complex_number<T>) nothing.y = nothing.x;
  for (int k = 0; k < entries_each; ++k) {
    const index_t at = (block * entries_each + k) * entry_threads + threadIdx.x;
    const index_t i = divide(at, m);
    const index_t j = at - i * m;
    if (i >= m) return;
    const T v = found ? unscaled(entries[i * from.ld + j]) : nothing;
    // The transpose of a Hermitian matrix is its conjugate; zeros on the diagonal keep their sign.
    if (t.columns)
      out[j * t.out.row_stride + i * t.out.col_stride] = convert<To>(i == j ? v : conjugate_of(v));
    else
      out[i * t.out.row_stride + j * t.out.col_stride] = convert<To>(v);
  }
}

}  // namespace gramian::cuda
