#include "polar_small.hpp"

#include "dependent_launch.cuh"
#include "device_properties.hpp"
#include "polar_bound.cuh"
#include "polar_common.cuh"

namespace gramian::cuda {

namespace {

constexpr int most_rows = 64;
/// Gaussian matrices take 8 to 10, those of condition number 1e15 26.
constexpr int most_sweeps = 60;
constexpr int others = 4096;  // bytes that a block has besides, and what CUDA takes

/// Rows count as orthogonal where their product is at most this of the product of their norms.
constexpr double orthogonal = 0x1p-52;
/// Rows whose norms are so small beside the whole are left as they are.
constexpr double negligible = 0x1p-58;
/// Two rows that are just not negligible have a product of down to 2^-168, which float32 does not
/// hold: numbers that an angle is found from are raised by this. The largest is then below 2^74,
/// and their quotient below 2^109.
constexpr double raised = 0x1p60;

struct Arguments {
  Matrices y, room;
  index_t m, n;
  int row;  // entries from one row to the next in shared memory
  SmallFunction function;
  PolarState* states;
};

/// Sum over each group of so many neighbouring lanes.
template <int lanes>
__device__ double group_sum(double v) {
#pragma unroll
  for (int d = lanes / 2; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
  return v;
}

/// a conj(b), added to sum.
__device__ void add_product(double a, double b, double2& sum) { sum.x = fma(a, b, sum.x); }
__device__ void add_product(double2 a, double2 b, double2& sum) {
  sum.x = fma(a.x, b.x, fma(a.y, b.y, sum.x));
  sum.y = fma(a.y, b.x, fma(-a.x, b.y, sum.y));
}

__device__ double2 times(double2 phase, double2 v) {
  return {phase.x * v.x - phase.y * v.y, phase.x * v.y + phase.y * v.x};
}

/// A matrix in shared memory: each row of Y is followed by the rotations gathered so far.
template <class T>
struct Rows {
  T* data;
  double* squares;  // of Y's part
  int m, n, stride;

  __device__ T* operator[](int i) const { return data + i * stride; }
};

/// Entries that a lane loads before it uses the first.
constexpr int at_once = 4;

template <int lanes, class T>
__device__ void load(const T* row, int first, int end, T (&v)[at_once]) {
#pragma unroll
  for (int k = 0; k < at_once; ++k) v[k] = first + k * lanes < end ? row[first + k * lanes] : T{};
}

/// x^(-1/2) for x in [1, 2].
__device__ double inverse_root(double x) {
  double y = rsqrtf(static_cast<float>(x));
  y = fma(0.5 * y, fma(-x * y, y, 1.0), y);
  return fma(0.5 * y, fma(-x * y, y, 1.0), y);
}

/// Makes rows p and q orthogonal, by a group of lanes; the whole warp calls it, and groups without
/// a pair have p < 0. Whether they were not.
template <int lanes, class T>
__device__ bool rotate(const Rows<T>& rows, int p, int q, double least, int lane) {
  const bool valid = p >= 0;
  T* const above = rows[valid ? p : 0];
  T* const below = rows[valid ? q : 0];
  double2 gamma{};
  double alpha = 0;
  double beta = 0;
  if (valid) {
    for (int first = lane; first < rows.n; first += at_once * lanes) {
      T a[at_once];
      T b[at_once];
      load<lanes>(above, first, rows.n, a);
      load<lanes>(below, first, rows.n, b);
#pragma unroll
      for (int k = 0; k < at_once; ++k) add_product(a[k], b[k], gamma);
    }
    alpha = rows.squares[p];
    beta = rows.squares[q];
  }
  __syncwarp();  // before another lane of the group writes them
  gamma.x = group_sum<lanes>(gamma.x);
  if constexpr (is_complex_number<T>) gamma.y = group_sum<lanes>(gamma.y);
  // Where one is negligible, what the other has along it is too.
  if (!(alpha > least && beta > least)) return false;
  double product = gamma.x * gamma.x;
  if constexpr (is_complex_number<T>) product = fma(gamma.y, gamma.y, product);
  if (!(product > orthogonal * orthogonal * alpha * beta)) return false;
  // With q~ = phase q, p and q~ have the real product `size`.
  double size = fabs(gamma.x);
  double2 phase{copysign(1.0, gamma.x), 0};
  if constexpr (is_complex_number<T>) {
    const double inverse = rsqrt(product);
    size = product * inverse;
    phase = {gamma.x * inverse, gamma.y * inverse};
  }
  // The angle need not be exact, as long as it is one.
  const float zeta =
      static_cast<float>(raised * (beta - alpha)) / (2 * static_cast<float>(raised * size));
  const float t32 = fabsf(zeta) > 1e6f
                        ? 0.5f / zeta
                        : copysignf(1.0f, zeta) / (fabsf(zeta) + sqrtf(fmaf(zeta, zeta, 1.0f)));
  const double t = t32;
  const double c = inverse_root(fma(t, t, 1.0));
  const double s = c * t;
  const int length = rows.n + rows.m;
  for (int first = lane; first < length; first += at_once * lanes) {
    T a[at_once];
    T b[at_once];
    load<lanes>(above, first, length, a);
    load<lanes>(below, first, length, b);
#pragma unroll
    for (int k = 0; k < at_once; ++k) {
      if (first + k * lanes >= length) continue;
      if constexpr (is_complex_number<T>)
        b[k] = times(phase, b[k]);
      else
        b[k] *= phase.x;
      above[first + k * lanes] = added(scaled(c, a[k]), scaled(-s, b[k]));
      below[first + k * lanes] = added(scaled(s, a[k]), scaled(c, b[k]));
    }
  }
  if (lane == 0) {
    const double mixed = 2 * c * s * size;
    rows.squares[p] = fmax(c * c * alpha - mixed + s * s * beta, 0.0);
    rows.squares[q] = s * s * alpha + mixed + c * c * beta;
  }
  return true;
}

/// squares <- the rows' own.
template <int lanes, int threads, class T>
__device__ void measure(const Rows<T>& rows) {
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  constexpr int groups = threads / lanes;
  for (int first = 0; first < rows.m; first += groups) {
    const int i = first + static_cast<int>(threadIdx.x) / lanes;
    double sum = 0;
    if (i < rows.m)
      for (int j = lane; j < rows.n; j += lanes) sum += squared(rows[i][j]);
    sum = group_sum<lanes>(sum);
    if (i < rows.m && lane == 0) rows.squares[i] = sum;
  }
  __syncthreads();
}

/// J <- (3 I - J J^H) J / 2 for the gathered rotations J: what their roundings have done to
/// its orthogonality is squared. room: m x m in device memory.
template <int threads, class T>
__device__ void polish(const Rows<T>& rows, T* room) {
  const int m = rows.m;
  const int t = static_cast<int>(threadIdx.x);
  for (int at = t; at < m * m; at += threads) {
    const T* const a = rows[at / m] + rows.n;
    const T* const b = rows[at % m] + rows.n;
    double2 sum{};
    for (int k = 0; k < m; ++k) add_product(a[k], b[k], sum);
    store(double2{(at / m == at % m ? 1.5 : 0.0) - 0.5 * sum.x, -0.5 * sum.y}, room[at]);
  }
  __syncthreads();
  // A column is one thread's, and read whole before it is written.
  for (int j = t; j < m; j += threads) {
    T column[most_rows];
    for (int i = 0; i < m; ++i) {
      double2 sum{};
      for (int k = 0; k < m; ++k) sum = multiply_add(room[i * m + k], rows[k][rows.n + j], sum);
      store(sum, column[i]);
    }
    for (int i = 0; i < m; ++i) rows[i][rows.n + j] = column[i];
  }
  __syncthreads();
}

/// The largest of m numbers.
__device__ double largest_of(const double* values, int m) {
  double top = 0;
  for (int i = 0; i < m; ++i) top = fmax(top, values[i]);
  return top;
}

template <class T, int lanes, int threads>
__global__ void __launch_bounds__(threads) small_kernel(const __grid_constant__ Arguments a) {
  extern __shared__ __align__(16) unsigned char memory[];
  __shared__ double sums[threads / 32];
  __shared__ double values[most_rows];
  __shared__ double factors[most_rows];
  await_earlier_kernels();
  const index_t b = blockIdx.x;
  const int m = static_cast<int>(a.m);
  const int n = static_cast<int>(a.n);
  const Rows<T> rows{reinterpret_cast<T*>(memory), values, m, n, a.row};
  T* const y = static_cast<T*>(a.y.data) + b * a.y.stride;
  const int t = static_cast<int>(threadIdx.x);

  double squares = 0;
  for (int at = t; at < m * n; at += threads) {
    const int i = at / n;
    const int j = at - i * n;
    const T v = y[i * a.y.ld + j];
    rows[i][j] = v;
    squares += squared(v);
  }
  for (int at = t; at < m * m; at += threads)
    rows[at / m][n + at % m] = real_number<T>(at / m == at % m ? 1 : 0);
  squares = block_sum<threads>(squares, sums);
  PolarState state{};
  state.rank = 0;
  if (!(squares > 0) || isinf(squares)) {
    state.status = squares == 0 ? PolarStatus::zero : PolarStatus::not_finite;
    if (t == 0) a.states[b] = state;
    if (squares == 0) return;
    for (int at = t; at < m * n; at += threads) y[at / n * a.y.ld + at % n] = not_a_number<T>();
    return;
  }
  __syncthreads();

  // Each round pairs all rows: a tournament, where row `even` - 1 stays in its place.
  constexpr int groups = threads / lanes;
  const int even = m + m % 2;
  const int group = t / lanes;
  const double least = squares * negligible * negligible;
  for (int sweep = 0; sweep < most_sweeps && m > 1; ++sweep) {
    measure<lanes, threads>(rows);
    bool rotated = false;
    for (int round = 0; round < even - 1; ++round) {
      for (int first = 0; first < even / 2; first += groups) {
        const int k = first + group;
        int p = k == 0 ? even - 1 : (round + k) % (even - 1);
        int q = k == 0 ? round : (round - k + even - 1) % (even - 1);
        if (k >= even / 2 || p >= m || q >= m) p = -1;
        rotated |= rotate<lanes>(rows, p, q, least, t % lanes);
      }
      __syncthreads();
    }
    if (__syncthreads_or(rotated ? 1 : 0) == 0) break;
  }
  measure<lanes, threads>(rows);
  double norm = 0;  // of this thread's row
  if (t < m) {
    // What rounding has done to the norm of the rotations, it has done to the row's.
    double gathered = 0;
    for (int k = 0; k < m; ++k) gathered += squared(rows[t][n + k]);
    norm = sqrt(values[t]);
    values[t] = sqrt(values[t] / gathered);
  }
  __syncthreads();
  polish<threads>(rows, static_cast<T*>(a.room.data) + b * a.room.stride);
  const double top = largest_of(values, m);
  state.status = PolarStatus::done;
  double c = 0;
  if (a.function.kind == SmallFunction::polar) {
    for (int i = 0; i < m; ++i) state.rank += values[i] > a.function.cutoff * top;
  } else {
    const ScaledBound bound(a.function.bound, a.function.exponent[b]);
    c = bound.c;
    const bool hard = a.function.kind == SmallFunction::hard;
    const double entries = static_cast<double>(m) * static_cast<double>(n);
    if (bound.unfelt(entries, hard) || (hard && top <= c * (1 + a.function.slack)))
      state.status = PolarStatus::unchanged;
  }
  if (t == 0) a.states[b] = state;
  if (state.status == PolarStatus::unchanged) return;
  if (t < m) {
    const double v = values[t];
    double image = 0;
    if (a.function.kind == SmallFunction::polar)
      image = v > a.function.cutoff * top ? 1 : 0;
    else if (a.function.kind == SmallFunction::hard)
      image = fmin(v, c);
    else
      image = v / hypot(1.0, v / c);
    factors[t] = norm > 0 ? image / norm : 0;
  }
  __syncthreads();
  // Y = U (rotated rows), U the adjoint of what was gathered.
  for (int at = t; at < m * n; at += threads) {
    const int i = at / n;
    const int j = at - i * n;
    double2 sum{};
    for (int k = 0; k < m; ++k) add_product(scaled(factors[k], rows[k][j]), rows[k][n + i], sum);
    store(sum, y[i * a.y.ld + j]);
  }
}

/// Entries from one row to the next: an odd multiple of 8, so that groups that read different rows
/// mostly meet different banks.
index_t row_of(index_t m, index_t n) { return ceil_div(n + m, 16) * 16 + 8; }

index_t bytes_of(Storage storage, index_t m, index_t n) {
  return m * row_of(m, n) * element_size(storage);
}

template <class T, int lanes, int threads>
void start(const Queue& queue, index_t batch, const Arguments& a, unsigned bytes) {
  const auto kernel = small_kernel<T, lanes, threads>;
  allow_shared_memory(reinterpret_cast<const void*>(kernel), queue.device,
                      most_shared_memory(queue.device) - others);
  launch_after(queue, kernel, {grid_size(batch), threads, bytes}, "launching Jacobi rotations", a);
}

template <class T>
void start(const Queue& queue, index_t batch, const Arguments& a, unsigned bytes) {
  if (a.m <= 32 && a.n <= 96) return start<T, 8, 128>(queue, batch, a, bytes);
  if (a.m <= 32) return start<T, 32, 512>(queue, batch, a, bytes);
  start<T, 16, 512>(queue, batch, a, bytes);
}

}  // namespace

bool fits_small_function(int device, Storage storage, index_t m, index_t n) {
  return m <= most_rows && n <= 4096 &&
         bytes_of(storage, m, n) <= most_shared_memory(device) - others;
}

void small_function(const Queue& queue, Storage storage, index_t batch, index_t m, index_t n,
                    Matrices y, Matrices room, const SmallFunction& function, PolarState* states) {
  const Arguments a{y, room, m, n, static_cast<int>(row_of(m, n)), function, states};
  const auto bytes = static_cast<unsigned>(bytes_of(storage, m, n));
  with_float64(storage, [&](auto kind) { start<decltype(kind)>(queue, batch, a, bytes); });
}

}  // namespace gramian::cuda
