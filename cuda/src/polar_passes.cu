#include "polar_passes.hpp"

#include "dependent_launch.cuh"
#include "polar_common.cuh"

namespace gramian::cuda {

namespace {

constexpr int threads = 256;

template <class T>
__global__ void __launch_bounds__(threads)
    settle_kernel(index_t blocks, index_t rows, index_t cols, const PolarState* states, Matrices y,
                  Matrices other, bool strict) {
  await_earlier_kernels();
  const index_t b = divide(blockIdx.x, blocks);
  const PolarStatus status = states[b].status;
  const bool lost =
      status == PolarStatus::not_finite || (strict && status == PolarStatus::not_converged);
  if (!lost && states[b].place == 0) return;
  T* const to = static_cast<T*>(y.data) + b * y.stride;
  const T* const from = static_cast<const T*>(other.data) + b * other.stride;
  for (index_t i = static_cast<index_t>(blockIdx.x) - b * blocks; i < rows; i += blocks)
    for (index_t j = threadIdx.x; j < cols; j += threads)
      to[i * y.ld + j] = lost ? not_a_number<T>() : from[i * other.ld + j];
}

constexpr int side = 32;

/// Tile (I, J) of A and its mirror image, the sum halved.
template <class T>
__global__ void __launch_bounds__(threads) hermitian_kernel(index_t tiles, index_t m, Matrices a) {
  await_earlier_kernels();
  __shared__ T mirror[side][side + 1];
  const index_t b = divide(blockIdx.x, tiles * tiles);
  const index_t at = static_cast<index_t>(blockIdx.x) - b * tiles * tiles;
  const index_t I = divide(at, tiles);
  const index_t J = at - I * tiles;
  if (J > I) return;
  T* const entries = static_cast<T*>(a.data) + b * a.stride;
  const int x = static_cast<int>(threadIdx.x) % side;
  const int y = static_cast<int>(threadIdx.x) / side;
  for (int r = y; r < side; r += threads / side) {
    const index_t i = J * side + r;
    const index_t j = I * side + x;
    if (i < m && j < m) mirror[r][x] = entries[i * a.ld + j];
  }
  __syncthreads();
  for (int r = y; r < side; r += threads / side) {
    const index_t i = I * side + r;
    const index_t j = J * side + x;
    if (i >= m || j >= m) continue;
    // Halves first: no overflow.
    const T mean =
        added(scaled(0.5, entries[i * a.ld + j]), scaled(0.5, conjugate_of(mirror[x][r])));
    // On the diagonal each entry is its mirror image's business too: both find the same.
    if (I == J && j > i) continue;
    entries[i * a.ld + j] = mean;
    mirror[x][r] = conjugate_of(mean);
  }
  __syncthreads();
  for (int r = y; r < side; r += threads / side) {
    const index_t i = J * side + r;
    const index_t j = I * side + x;
    if (i < m && j < m && (I != J || j > i)) entries[i * a.ld + j] = mirror[r][x];
  }
}

template <class T>
__global__ void __launch_bounds__(threads)
    adjoint_kernel(index_t down, index_t across, index_t rows, index_t cols, Matrices x,
                   Matrices y) {
  await_earlier_kernels();
  __shared__ T tile[side][side + 1];
  const index_t b = divide(blockIdx.x, down * across);
  const index_t at = static_cast<index_t>(blockIdx.x) - b * down * across;
  const index_t I = divide(at, across);
  const index_t J = at - I * across;
  const T* const from = static_cast<const T*>(x.data) + b * x.stride;
  T* const to = static_cast<T*>(y.data) + b * y.stride;
  const int lane = static_cast<int>(threadIdx.x) % side;
  for (int r = static_cast<int>(threadIdx.x) / side; r < side; r += threads / side) {
    const index_t i = I * side + r;
    const index_t j = J * side + lane;
    if (i < rows && j < cols) tile[r][lane] = from[i * x.ld + j];
  }
  __syncthreads();
  for (int r = static_cast<int>(threadIdx.x) / side; r < side; r += threads / side) {
    const index_t i = I * side + lane;
    const index_t j = J * side + r;
    if (i < rows && j < cols) to[j * y.ld + i] = conjugate_of(tile[lane][r]);
  }
}

template <class T>
__global__ void __launch_bounds__(threads)
    powers_kernel(index_t blocks, index_t rows, index_t cols, Matrices a, const int* exponent) {
  await_earlier_kernels();
  const index_t b = divide(blockIdx.x, blocks);
  const int e = exponent[b];
  if (e == 0) return;
  // In two steps: a power may have no number of its own.
  const double first = scalbn(1.0, e / 2);
  const double second = scalbn(1.0, e - e / 2);
  T* const entries = static_cast<T*>(a.data) + b * a.stride;
  for (index_t i = static_cast<index_t>(blockIdx.x) - b * blocks; i < rows; i += blocks)
    for (index_t j = threadIdx.x; j < cols; j += threads)
      entries[i * a.ld + j] = scaled(second, scaled(first, entries[i * a.ld + j]));
}

}  // namespace

void polar_settle(const Queue& queue, Storage storage, index_t batch, index_t rows, index_t cols,
                  const PolarState* states, Matrices y, Matrices other, bool strict) {
  const index_t blocks = blocks_for(rows);
  with_float64(storage, [&](auto kind) {
    launch_after(queue, settle_kernel<decltype(kind)>, grid_size(batch * blocks), threads,
                 "launching the end of a polar factor", blocks, rows, cols, states, y, other,
                 strict);
  });
}

void make_hermitian(const Queue& queue, Storage storage, index_t batch, index_t m, Matrices a) {
  const index_t tiles = ceil_div(m, side);
  with_float64(storage, [&](auto kind) {
    launch_after(queue, hermitian_kernel<decltype(kind)>, grid_size(batch * tiles * tiles), threads,
                 "launching a Hermitian part", tiles, m, a);
  });
}

void adjoint(const Queue& queue, Storage storage, index_t batch, index_t rows, index_t cols,
             Matrices x, Matrices y) {
  const index_t down = ceil_div(rows, side);
  const index_t across = ceil_div(cols, side);
  with_float64(storage, [&](auto kind) {
    launch_after(queue, adjoint_kernel<decltype(kind)>, grid_size(batch * down * across), threads,
                 "launching an adjoint", down, across, rows, cols, x, y);
  });
}

void scale_by_powers(const Queue& queue, Storage storage, index_t batch, index_t rows, index_t cols,
                     Matrices a, const int* exponent) {
  const index_t blocks = blocks_for(rows);
  with_float64(storage, [&](auto kind) {
    launch_after(queue, powers_kernel<decltype(kind)>, grid_size(batch * blocks), threads,
                 "launching a scaling", blocks, rows, cols, a, exponent);
  });
}

}  // namespace gramian::cuda
