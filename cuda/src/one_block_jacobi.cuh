// The kernel of jacobi() in one_block.hpp: one-sided Jacobi (Hestenes, "Inversion of matrices by
// biorthogonalization and related results", J. SIAM 6, 1958), on a triangle, as which it converges
// soonest (Drmac, Veselic, "New fast and accurate Jacobi SVD algorithm I", SIAM J. Matrix Anal.
// Appl. 29, 2008).
//
// R lies in shared memory. In each of size - 1 rounds of a sweep every row meets another one (the
// circle method of tournaments); eight lanes hold both rows of a pair in registers while they turn
// them. The last sweep turns nothing.
#pragma once

#include "dependent_launch.cuh"
#include "one_block.hpp"

namespace gramian::cuda::one_block {

inline constexpr int pair_lanes = 8;
inline constexpr int most_sweeps = 24;

/// Rows a multiple of 16 entries and 8 more apart: of two neighbours, read by half a warp, each
/// bank is met once.
__host__ __device__ constexpr int jacobi_stride(int size) { return (size + 7) / 16 * 16 + 8; }

__host__ __device__ constexpr int jacobi_bytes(int size) {
  return static_cast<int>(sizeof(double)) * (size * jacobi_stride(size) + 2 * size + 1) +
         static_cast<int>(sizeof(int)) * (size + 2);
}

/// Threads for so many rows: eight to each pair, whole warps.
__host__ __device__ constexpr int jacobi_threads(int size) {
  return ((size + 1) / 2 * pair_lanes + 31) / 32 * 32;
}

__device__ inline double pair_sum(double v) {
#pragma unroll
  for (int d = pair_lanes / 2; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
  return v;
}

/// `each`: entries of a row to a lane. Whole warps call it, `here` or not.
template <int each>
__device__ double square_of_row(const double* row, int size, int lane, bool here) {
  double sum = 0;
#pragma unroll
  for (int k = 0; k < each; ++k) {
    const int at = lane + k * pair_lanes;
    const double v = here && at < size ? row[at] : 0.0;
    sum = fma(v, v, sum);
  }
  return pair_sum(sum);
}

/// Turns rows x and y where they are not orthogonal enough; whether it did. Their squares are kept.
template <int each>
__device__ bool turn_pair(double* x_row, double* y_row, double* x_square, double* y_square,
                          int size, double tolerance, int lane, bool here) {
  double x[each];
  double y[each];
  double even = 0;
  double odd = 0;
#pragma unroll
  for (int k = 0; k < each; ++k) {
    const int at = lane + k * pair_lanes;
    const bool inside = here && at < size;
    x[k] = inside ? x_row[at] : 0.0;
    y[k] = inside ? y_row[at] : 0.0;
    if (k % 2 == 0)
      even = fma(x[k], y[k], even);
    else
      odd = fma(x[k], y[k], odd);
  }
  const double a = *x_square;
  const double b = *y_square;
  const double c = pair_sum(even + odd);
  __syncwarp();  // all lanes have read the squares before one of them changes them
  if (!here) return false;
  if (!(fabs(c) > tolerance * sqrt(a * b))) return false;
  // The smaller root t of t^2 + 2 zeta t = 1 is the tangent of the turn.
  const double zeta = (b - a) / (2 * c);
  const double t = copysign(1.0, zeta) / (fabs(zeta) + sqrt(fma(zeta, zeta, 1.0)));
  const double cosine = 1.0 / sqrt(fma(t, t, 1.0));
  const double sine = t * cosine;
#pragma unroll
  for (int k = 0; k < each; ++k) {
    const int at = lane + k * pair_lanes;
    if (at >= size) continue;
    x_row[at] = fma(cosine, x[k], -sine * y[k]);
    y_row[at] = fma(sine, x[k], cosine * y[k]);
  }
  if (lane == 0) {
    *x_square = fma(-t, c, a);
    *y_square = fma(t, c, b);
  }
  return true;
}

template <int each>
__global__ void __launch_bounds__(jacobi_threads(each* pair_lanes))
    jacobi_kernel(JacobiRequest r, SmallFigures* figures) {
  extern __shared__ __align__(16) unsigned char jacobi_memory[];
  await_earlier_kernels();
  if (figures->failed != 0) return;
  const int size = static_cast<int>(r.size);
  const int stride = jacobi_stride(size);
  double* const s = reinterpret_cast<double*>(jacobi_memory);
  double* const squares = s + size * stride;
  double* const lengths = squares + size + 1;
  int* const place = reinterpret_cast<int*>(lengths + size);
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  const int pair = thread / pair_lanes;
  const int lane = thread % pair_lanes;
  const int pairs = (size + 1) / 2;  // one of them with nobody, where `size` is odd
  const int seats = 2 * pairs - 1;

  for (int at = thread; at < size * size; at += threads) {
    const int i = at / size;
    s[i * stride + at - i * size] = r.triangle[at];
  }
  if (thread == 0) squares[size] = 0;
  __syncthreads();

  int sweeps = 0;
  bool ended = false;
  while (!ended && sweeps < most_sweeps) {
    ++sweeps;
    // Afresh: what they are updated by loses digits.
    for (int first = 0; first < size; first += threads / pair_lanes) {
      const int row = first + pair;
      const bool here = row < size;
      const double square = square_of_row<each>(s + (here ? row : 0) * stride, size, lane, here);
      if (here && lane == 0) squares[row] = square;
    }
    __syncthreads();
    bool turned = false;
    for (int round = 0; round < seats; ++round) {
      int x = seats;  // the one who keeps the seat
      int y = round;
      if (pair > 0) {
        x = round + pair < seats ? round + pair : round + pair - seats;
        y = round >= pair ? round - pair : round - pair + seats;
      }
      const bool here = pair < pairs && x < size && y < size;
      if (!here) x = y = size;  // nobody's square: others turn every row there is
      turned |= turn_pair<each>(s + x * stride, s + y * stride, squares + x, squares + y, size,
                                r.tolerance, lane, here);
      __syncthreads();
    }
    ended = __syncthreads_or(turned ? 1 : 0) == 0;
  }

  for (int first = 0; first < size; first += threads / pair_lanes) {
    const int row = first + pair;
    const bool here = row < size;
    const double square = square_of_row<each>(s + (here ? row : 0) * stride, size, lane, here);
    if (here && lane == 0) {
      squares[row] = square;
      lengths[row] = sqrt(square);
    }
  }
  __syncthreads();
  bool finite = true;
  for (int i = thread; i < size; i += threads) {
    const double own = squares[i];
    int larger = 0;
    for (int j = 0; j < size; ++j) larger += squares[j] > own || (squares[j] == own && j < i);
    place[i] = larger;
    r.values[larger] = own;
    finite = finite && own > 0 && own < 1e300;
  }
  const bool all_finite = __syncthreads_and(finite ? 1 : 0) != 0;
  if (thread == 0) {
    figures->sweeps = sweeps;
    if (!ended || !all_finite) figures->failed += 1;
  }
  for (int at = thread; at < size * size; at += threads) {
    const int j = at / size;  // row of the result
    const int i = at - j * size;
    const double v = s[i * stride + j] / lengths[i];
    const int to = j * size + place[i];
    if (r.vectors) r.vectors[to] = v;
    if (r.divided) r.divided[to] = v / lengths[i];
  }
}

}  // namespace gramian::cuda::one_block
