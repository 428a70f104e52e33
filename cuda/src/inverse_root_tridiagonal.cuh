// Eigenvalues of Lanczos' tridiagonal matrix by one block: by counting at many points at once
// (Sylvester), where the CPU has Laguerre's iteration (gramian/tridiagonal.hpp).
#pragma once

#include "copy.cuh"
#include "element.cuh"

namespace gramian::cuda {

inline constexpr int most_lanczos_steps = 300;

/// Points that are counted at: eight bits a round. More would take longer, as float64 is done 64 to
/// a cycle.
inline constexpr int section_points = 256;

template <int threads>
struct SectionsMemory {
  double a[most_lanczos_steps];        // scaled to under 1
  double beside[most_lanczos_steps];   // beside the diagonal
  double squares[most_lanczos_steps];  // of that
  double inverse_pivots[most_lanczos_steps];
  double vector[most_lanczos_steps];
  unsigned long long tops[threads / 32];
  double lasts;
};

template <int threads>
class Sections {
 public:
  __device__ explicit Sections(SectionsMemory<threads>& memory) : memory_(memory) {}

  /// As ritz_settled on the CPU: whether the largest Ritz value theta of `steps` steps is likely
  /// within tolerance times itself of the largest eigenvalue; its residual at most `cluster` theta.
  /// Raises theta.
  __device__ bool settled(const double* a, const double* b, int steps, double tolerance,
                          double cluster, double& theta) {
    if (!scale(a, b, steps)) return true;
    const double2 top = largest(steps, tolerance, theta);
    theta = fmax(theta, scalbn(top.x * (1 - 0x1p-44), exponent_));
    if (!(theta > 0)) return false;
    if (threadIdx.x == 0) memory_.lasts = last_entry(steps, top.y);
    __syncthreads();
    const double residual = b[steps - 1] * memory_.lasts;
    if (!(residual <= fmax(tolerance, cluster) * theta)) return false;
    const double wanted = tolerance * theta;
    if (residual <= wanted) return true;
    const double gap = residual * residual / wanted;
    return gap < theta && count_above(steps, scalbn(theta - gap, -exponent_)) <= 1;
  }

  /// The largest and the smallest eigenvalue, for every thread.
  __device__ double2 ends(const double* a, const double* b, int steps, double tolerance,
                          double theta) {
    if (!scale(a, b, steps)) return {0, 0};
    const double high = largest(steps, tolerance / 8, theta).y;
    double low = -1;
    double width = 2;
    for (int round = 0; round < most_rounds; ++round) {
      const double mine = point(low, width, static_cast<int>(threadIdx.x) + 1);
      const int below = __syncthreads_count(static_cast<int>(threadIdx.x) < section_points &&
                                            count_above(steps, mine) == steps);
      low = below == 0 ? low : point(low, width, below);
      width /= section_points + 1;
      if (width <= 0x1p-6 * fabs(low) || width <= 0x1p-56) break;
    }
    return {scalbn(high, exponent_), scalbn(low, exponent_)};
  }

 private:
  static constexpr int most_rounds = 10;

  __device__ static double point(double low, double width, int i) {
    return fma(width / (section_points + 1), static_cast<double>(i), low);
  }

  /// Scales by a power of two to below 1 in magnitude; false if the matrix is zero.
  __device__ bool scale(const double* a, const double* b, int steps) {
    __syncthreads();  // others may still read what the last call left
    double top = 0;
    for (int i = static_cast<int>(threadIdx.x); i < steps; i += threads)
      top = fmax(top, fabs(a[i]) + (i > 0 ? b[i - 1] : 0.0) + (i + 1 < steps ? b[i] : 0.0));
    const unsigned long long bits = block_max<threads>(magnitude_bits(top), memory_.tops);
    const double bound = __longlong_as_double(static_cast<long long>(bits));
    if (!(bound > 0)) return false;
    exponent_ = ilogb(bound) + 1;
    for (int i = static_cast<int>(threadIdx.x); i < steps; i += threads) {
      memory_.a[i] = scalbn(a[i], -exponent_);
      const double beside = scalbn(b[i], -exponent_);
      memory_.beside[i] = beside;
      memory_.squares[i] = beside * beside;
    }
    __syncthreads();
    return true;
  }

  /// Eigenvalues above x: agreements of sign between neighbours among the leading minors of
  /// T - x I, by their recurrence, which has no divisions to wait for.
  __device__ int count_above(int steps, double x) const {
    double before = 1;
    double now = memory_.a[0] - x;
    int count = now > 0 ? 1 : 0;
    for (int i = 1; i < steps; ++i) {
      const double next = fma(memory_.a[i] - x, now, -memory_.squares[i - 1] * before);
      count += (next > 0) == (now > 0) ? 1 : 0;
      before = now;
      now = next;
      if (i % 8 != 0) continue;
      const double factor = rescaling(before, now);
      before *= factor;
      now *= factor;
    }
    return count;
  }

  /// The power of two that brings x and y near 1, where they are far from it.
  __device__ static double rescaling(double x, double y) {
    const double top = fmax(fabs(x), fabs(y));
    if ((top > 0x1p-200 && top < 0x1p200) || !(top > 0)) return 1;
    return scalbn(1.0, -ilogb(top));
  }

  /// {low, high} about the largest eigenvalue. theta: what it is at least, unscaled, or 0.
  __device__ double2 largest(int steps, double tolerance, double theta) const {
    double low = theta > 0 ? scalbn(theta, -exponent_) * (1 - 0x1p-40) : -1.0;
    double high = 1;
    // Closer than what is asked for: inverse iteration starts from here.
    const double close = fmax(tolerance / 1024, 0x1p-51);
    for (int round = 0; round < most_rounds; ++round) {
      const double width = high - low;
      const double mine = point(low, width, static_cast<int>(threadIdx.x) + 1);
      const int below = __syncthreads_count(static_cast<int>(threadIdx.x) < section_points &&
                                            count_above(steps, mine) >= 1);
      if (below < section_points) high = point(low, width, below + 1);
      if (below > 0) low = point(low, width, below);
      if (high - low <= close * fabs(high)) break;
    }
    return {low, high};
  }

  /// Of the eigenvector of the largest eigenvalue, of length 1, the last entry's magnitude: two
  /// steps of inverse iteration with x just above the eigenvalue, where elimination needs no
  /// exchange of rows. By one thread.
  __device__ double last_entry(int steps, double x) {
    double* const inverse = memory_.inverse_pivots;
    double* const y = memory_.vector;
    for (int i = 0; i < steps; ++i) {
      double pivot = x - memory_.a[i];
      if (i > 0) pivot = fma(-memory_.squares[i - 1], inverse[i - 1], pivot);
      inverse[i] = 1 / (pivot > 0 ? pivot : 0x1p-52);
      y[i] = 1;
    }
    double squares = 0;
    for (int step = 0; step < 2; ++step) {
      for (int i = 1; i < steps; ++i)
        y[i] = fma(memory_.beside[i - 1] * inverse[i - 1], y[i - 1], y[i]);
      squares = 0;
      for (int i = steps - 1; i >= 0; --i) {
        const double above = i + 1 < steps ? memory_.beside[i] * y[i + 1] : 0.0;
        y[i] = (y[i] + above) * inverse[i];
        squares = fma(y[i], y[i], squares);
      }
    }
    return fabs(y[steps - 1]) / sqrt(squares);
  }

  SectionsMemory<threads>& memory_;
  int exponent_ = 0;
};

}  // namespace gramian::cuda
