// The kernel of eigenvalues() in one_block.hpp: Householder's tridiagonal form, then bisection by
// Sturm's sequence (Wilkinson, "The algebraic eigenvalue problem", 1965, chapter 5).
//
// The matrix lies in shared memory, whole, scaled to trace 1. In step j its row j, right of the
// diagonal, is the vector to be reflected, but for the first entry; every warp finds for itself
// what it needs of the whole vector, so that a step has two barriers. Eight lanes share a row, and
// each keeps its entries of the vectors in registers.
#pragma once

#include "dependent_launch.cuh"
#include "one_block.hpp"
#include "one_block_jacobi.cuh"

namespace gramian::cuda::one_block {

inline constexpr int values_threads = 512;
static_assert(values_threads >= one_block_limit);  // a thread to each value
inline constexpr int halvings = 32;

__host__ __device__ constexpr int values_bytes(int size) {
  return static_cast<int>(sizeof(double)) * (size * jacobi_stride(size) + 3 * size);
}

/// The same bits in all lanes of the warp.
__device__ inline double warp_sum(double v) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
  return v;
}

/// A reflection I - factor v v^T, v = (head, the rest of the row).
struct Reflection {
  double head, factor, beta;
  bool none;  // nothing to reflect: beta is the entry that is there
};

/// Of entries `first` and on. Every warp finds the same.
__device__ inline Reflection reflection(const double* row, int first, int size, int lane) {
  double sum = 0;
  for (int k = first + 1 + lane; k < size; k += 32) sum = fma(row[k], row[k], sum);
  sum = warp_sum(sum);
  const double alpha = row[first];
  if (!(sum > 1e-60)) return {0, 0, alpha, true};  // moves eigenvalues by 1e-30 of the trace
  const double length = sqrt(fma(alpha, alpha, sum));
  const double beta = alpha > 0 ? -length : length;
  const double head = alpha - beta;
  return {head, 2 / fma(head, head, sum), beta, false};
}

/// To tridiagonal form: the diagonal stays where it is, what is beside it goes to `beside`.
/// `product`: `size` numbers.
template <int each>
__device__ void make_tridiagonal(double* s, int stride, int size, double* product, double* beside) {
  constexpr int groups = values_threads / pair_lanes;
  const int thread = static_cast<int>(threadIdx.x);
  const int group = thread / pair_lanes;
  const int lane = thread % pair_lanes;
  for (int j = 0; j + 1 < size; ++j) {
    const double* const row = s + j * stride;
    const int begin = j + 1;
    const Reflection h = reflection(row, begin, size, thread % 32);
    if (thread == 0) beside[j] = h.beta;
    if (h.none) continue;
    double v[each];
#pragma unroll
    for (int q = 0; q < each; ++q) {
      const int k = lane + q * pair_lanes;
      v[q] = k == begin ? h.head : k > begin && k < size ? row[k] : 0.0;
    }
    for (int first = begin; first < size; first += groups) {
      const int i = first + group;
      double sum = 0;
#pragma unroll
      for (int q = 0; q < each; ++q) {
        const int k = lane + q * pair_lanes;
        if (i < size && k >= begin && k < size) sum = fma(s[i * stride + k], v[q], sum);
      }
      sum = pair_sum(sum);
      if (i < size && lane == 0) product[i] = h.factor * sum;
    }
    __syncthreads();
    double inner = 0;
    for (int k = begin + thread % 32; k < size; k += 32)
      inner = fma(product[k], k == begin ? h.head : row[k], inner);
    const double half = 0.5 * h.factor * warp_sum(inner);
    double w[each];
#pragma unroll
    for (int q = 0; q < each; ++q) {
      const int k = lane + q * pair_lanes;
      w[q] = k >= begin && k < size ? fma(-half, v[q], product[k]) : 0.0;
    }
    for (int i = begin + group; i < size; i += groups) {
      const double v_i = i == begin ? h.head : row[i];
      const double w_i = fma(-half, v_i, product[i]);
#pragma unroll
      for (int q = 0; q < each; ++q) {
        const int k = lane + q * pair_lanes;
        if (k >= begin && k < size) {
          double& to = s[i * stride + k];
          to = fma(-v_i, w[q], fma(-w_i, v[q], to));
        }
      }
    }
    __syncthreads();
  }
}

/// How many eigenvalues are below x: changes of sign in the principal minors of T - x. `entries`:
/// the diagonal, and the square of what is beside it in the row before. No square is 0, so that no
/// two minors in a row are.
__device__ inline int count_below(const double2* entries, int size, double x) {
  double before = 0;
  double minor = 1;
  int count = 0;
  for (int first = 0; first < size; first += 8) {
#pragma unroll
    for (int q = 0; q < 8; ++q) {
      if (first + q >= size) break;
      const double2 at = entries[first + q];
      const double next = fma(at.x - x, minor, -(at.y * before));
      count += static_cast<int>(
          static_cast<unsigned>(__double2hiint(next) ^ __double2hiint(minor)) >> 31);
      before = minor;
      minor = next;
    }
    // By a power of two: eight steps shrink them by 2^-400 at most and grow them by less.
    const double larger = fmax(fabs(minor), fabs(before));
    const double scale = __hiloint2double((2046 - (__double2hiint(larger) >> 20)) << 20, 0);
    minor *= scale;
    before *= scale;
  }
  return count;
}

template <int each>
__global__ void __launch_bounds__(values_threads)
    values_kernel(ValuesRequest r, const SmallFigures* figures) {
  extern __shared__ __align__(16) unsigned char values_memory[];
  await_earlier_kernels();
  if (figures->failed != 0) return;
  const int size = static_cast<int>(r.size);
  const int stride = jacobi_stride(size);
  double* const s = reinterpret_cast<double*>(values_memory);
  double2* const entries = reinterpret_cast<double2*>(s + size * stride);
  double* const product = reinterpret_cast<double*>(entries + size);
  // Until `entries` are made their room is free.
  double* const beside = reinterpret_cast<double*>(entries);
  const double* const gram = r.grams + static_cast<index_t>(blockIdx.x) * r.size * r.size;
  double* const values = r.values + static_cast<index_t>(blockIdx.x) * r.size;
  const int thread = static_cast<int>(threadIdx.x);

  double trace = 0;
  for (int i = thread % 32; i < size; i += 32) trace += gram[i * size + i];
  trace = warp_sum(trace);
  if (!(trace > 1e-300 && trace < 1e300)) {
    if (thread < size) values[thread] = 0;
    return;
  }
  for (int at = thread; at < size * size; at += values_threads) {
    const int i = at / size;
    s[i * stride + at - i * size] = gram[at] / trace;
  }
  __syncthreads();
  make_tridiagonal<each>(s, stride, size, product, beside);
  __syncthreads();
  double2 own = {0, 0};
  if (thread < size) {
    const double left = thread > 0 ? beside[thread - 1] : 0.0;
    const double right = thread + 1 < size ? beside[thread] : 0.0;
    own = {s[thread * stride + thread], fmax(left * left, 0x1p-90)};
    product[thread] = own.x + fabs(left) + fabs(right);
  }
  __syncthreads();
  if (thread < size) entries[thread] = own;
  __syncthreads();
  if (thread >= size) return;
  double low = 0;
  double high = 0;  // Gershgorin's bound
  for (int i = 0; i < size; ++i) high = fmax(high, product[i]);
  for (int step = 0; step < halvings; ++step) {
    const double middle = 0.5 * (low + high);
    if (count_below(entries, size, middle) >= size - thread)
      high = middle;
    else
      low = middle;
  }
  values[thread] = 0.5 * (low + high) * trace;
}

}  // namespace gramian::cuda::one_block
