#include "inverse_root_small.hpp"

#include "dependent_launch.cuh"
#include "device_properties.hpp"
#include "float64_product.cuh"
#include "float64_product.hpp"
#include "inverse_root_step.cuh"
#include "vector_arithmetic.cuh"

namespace gramian::cuda {

namespace {

constexpr int block_threads = 128;
constexpr int block_warps = block_threads / 32;
constexpr int buffers = 4;

/// Matrices lie row by row, rows side + 4 entries apart: then what a warp reads of a fragment at
/// once meets each bank equally often (small_squares.cu).
template <bool is_complex_, int side_>
struct SmallShape {
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

template <class Shape>
class SmallRoot {
  using T = typename Shape::T;
  static constexpr bool is_complex = Shape::is_complex;

 public:
  __device__ SmallRoot(T* room, int m, double* sums) : room_(room), m_(m), sums_(sums) {}

  __device__ T* at(int buffer) const { return room_ + buffer * Shape::entries; }

  /// c <- alpha s z + beta d + gamma I, for Hermitian matrices that commute; d may be null. The sum
  /// of squares of c, for every thread, where it is asked for.
  __device__ double product(const T* s, const T* z, const T* d, T* c, double alpha, double beta,
                            double gamma, bool measured) {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int row0 = warp / 2 * Shape::warp_side;
    const int col0 = warp % 2 * Shape::warp_side;
    double sum = 0;
    if (col0 <= row0) sum = tile(s, z, d, c, alpha, beta, gamma, row0, col0);
    if (measured) sum = block_sum<block_threads>(sum, sums_);
    __syncthreads();
    return sum;
  }

 private:
  __device__ static void pair(const T* from, int row, int k, int t, double& x, double& y) {
    const T* const at = from + row * Shape::ld + k;
    if constexpr (is_complex) {
      const double2 v = at[t];
      x = v.x;
      y = v.y;
    } else {
      x = at[t];
      y = at[t + 4];
    }
  }

  __device__ double tile(const T* s, const T* z, const T* d, T* c, double alpha, double beta,
                         double gamma, int row0, int col0) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int g = lane / 4;
    const int t = lane % 4;
    double re[Shape::down][Shape::across][4] = {};
    double im[is_complex ? Shape::down : 1][is_complex ? Shape::across : 1][4] = {};
    for (int k = 0; k < Shape::side; k += is_complex ? 4 : 8) {
      double a[Shape::down][4];
      double b[Shape::across][2];
#pragma unroll
      for (int i = 0; i < Shape::down; ++i) {
        pair(s, row0 + 16 * i + g, k, t, a[i][0], a[i][2]);
        pair(s, row0 + 16 * i + 8 + g, k, t, a[i][1], a[i][3]);
      }
#pragma unroll
      for (int j = 0; j < Shape::across; ++j) pair(z, col0 + 8 * j + g, k, t, b[j][0], b[j][1]);
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
    double sum = 0;
#pragma unroll
    for (int i = 0; i < Shape::down; ++i)
#pragma unroll
      for (int j = 0; j < Shape::across; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int row = row0 + 16 * i + 8 * (e / 2) + g;
          const int col = col0 + 8 * j + 2 * t + e % 2;
          if (col > row) continue;
          const int place = row * Shape::ld + col;
          T v;
          if constexpr (is_complex)
            v = {alpha * re[i][j][e], row == col ? 0.0 : alpha * im[i][j][e]};
          else
            v = alpha * re[i][j][e];
          if (d) v = added(v, scaled(beta, d[place]));
          if (row == col && row < m_) v = added(v, real_number<T>(gamma));
          c[place] = v;
          if (row != col) c[col * Shape::ld + row] = conjugate_of(v);
          sum += (row == col ? 1.0 : 2.0) * squared(v);
        }
    return sum;
  }

  T* room_;
  int m_;
  double* sums_;
};

/// Buffers that hold nothing, one bit each.
struct Pool {
  unsigned free;
  __device__ int take() {
    const int i = __ffs(static_cast<int>(free)) - 1;
    free &= free - 1;
    return i;
  }
  __device__ void give(int i) { free |= 1u << i; }
};

template <bool is_complex, int side>
__global__ void __launch_bounds__(block_threads)
    small_roots_kernel(int m, RootPlan plan, const RootRows* rows, const double* scalars, int steps,
                       Matrices given, Matrices x_out, RootState* states) {
  using Shape = SmallShape<is_complex, side>;
  using T = typename Shape::T;
  extern __shared__ __align__(16) unsigned char small_roots_memory[];
  __shared__ double sums[block_warps];
  __shared__ RootStep step;
  __shared__ RootState state;
  await_earlier_kernels();
  const index_t b = blockIdx.x;
  if (threadIdx.x == 0) {
    state = states[b];
    step = {scalars[3 * b + 2], scalars[3 * b + 1], scalars[3 * b], false, false};
  }
  SmallRoot<Shape> root(reinterpret_cast<T*>(small_roots_memory), m, sums);
  const T* const from = static_cast<const T*>(given.data) + b * given.stride;
  for (int at = static_cast<int>(threadIdx.x); at < side * side; at += block_threads) {
    const int i = at / side;
    const int j = at % side;
    root.at(0)[i * Shape::ld + j] = i < m && j < m ? from[i * given.ld + j] : T{};
  }
  __syncthreads();
  if (state.status != RootStatus::running) return;

  Pool pool{(1u << buffers) - 2};
  int n = 0;
  int x = 0;
  for (int count = 0; count < steps; ++count) {
    const bool first = count == 0;
    const int t = pool.take();
    root.product(root.at(n), root.at(n), root.at(n), root.at(t), step.c, step.b, step.a, false);
    if (first) {
      x = t;
    } else {
      const int to = pool.take();
      root.product(root.at(x), root.at(t), nullptr, root.at(to), 1, 0, 0, false);
      pool.give(x);
      x = to;
    }
    if (step.last) break;
    // M T^p - I, as in inverse_root.cpp.
    int s = t;
    bool keep = first;
    bool shifted = !first;
    double sum = 0;
    for (int p = plan.p;; p >>= 1) {
      if (p & 1) {
        const int to = pool.take();
        const bool ends = p == 1;
        sum = root.product(root.at(n), root.at(s), shifted ? root.at(s) : nullptr, root.at(to), 1,
                           1, ends ? -1.0 : 0.0, ends);
        pool.give(n);
        n = to;
        shifted = false;
      }
      if (p == 1) break;
      const int to = pool.take();
      root.product(root.at(s), root.at(s), nullptr, root.at(to), 1, 0, 0, false);
      if (!keep) pool.give(s);
      keep = false;
      s = to;
    }
    if (!keep) pool.give(s);
    if (count + 1 == steps) break;
    if (threadIdx.x == 0) step = next_step(plan, *rows, sqrt(sum), 0, state);
    __syncthreads();
    if (step.lost) break;
  }
  if (threadIdx.x == 0) states[b] = state;
  if (state.status != RootStatus::converged) return;
  T* const out = static_cast<T*>(x_out.data) + b * x_out.stride;
  for (int at = static_cast<int>(threadIdx.x); at < side * side; at += block_threads) {
    const int i = at / side;
    const int j = at % side;
    if (i < m && j < m) out[i * x_out.ld + j] = root.at(x)[i * Shape::ld + j];
  }
}

template <bool is_complex, int side>
void start(const Queue& queue, index_t batch, index_t m, const RootPlan& plan, const RootRows* rows,
           const double* scalars, int steps, Matrices b, Matrices x, RootState* states) {
  const auto kernel = small_roots_kernel<is_complex, side>;
  constexpr int bytes = SmallShape<is_complex, side>::shared_bytes;
  allow_shared_memory(reinterpret_cast<const void*>(kernel), queue.device, bytes);
  launch_after(queue, kernel, Grid{grid_size(batch), block_threads, static_cast<unsigned>(bytes)},
               "launching roots of small matrices", static_cast<int>(m), plan, rows, scalars, steps,
               b, x, states);
}

}  // namespace

bool fit_small_roots(int device, Storage storage, index_t m) {
  constexpr int others = 2048;  // what a block has besides, and what CUDA takes
  const int room = most_shared_memory(device) - others;
  if (storage == Storage::complex128)  // twice the side is too much for any device yet
    return m <= 32 && SmallShape<true, 32>::shared_bytes <= room;
  return storage == Storage::float64 && m <= 64 && SmallShape<false, 64>::shared_bytes <= room;
}

void small_roots(const Queue& queue, Storage storage, index_t batch, index_t m,
                 const RootPlan& plan, const RootRows* rows, const double* scalars, int steps,
                 Matrices b, Matrices x, RootState* states) {
  if (!fit_small_roots(queue.device, storage, m)) throw Error("no such size of a small matrix");
  const auto run = storage == Storage::complex128 ? start<true, 32>
                   : m <= 32                      ? start<false, 32>
                                                  : start<false, 64>;
  run(queue, batch, m, plan, rows, scalars, steps, b, x, states);
}

}  // namespace gramian::cuda
