#include "inverse_root_small.hpp"

#include "dependent_launch.cuh"
#include "device_properties.hpp"
#include "inverse_root_step.cuh"
#include "small_tile.cuh"

namespace gramian::cuda {

namespace {

using small::block_threads;

constexpr int buffers = 4;

template <class Shape>
class SmallRoot {
  using T = typename Shape::T;

 public:
  __device__ SmallRoot(T* room, int m, double* sums) : room_(room), m_(m), sums_(sums) {}

  __device__ T* at(int buffer) const { return room_ + buffer * Shape::entries; }

  /// c <- alpha s z + beta d + gamma I, for Hermitian matrices that commute; d may be null. The sum
  /// of squares of c, for every thread, where it is asked for.
  __device__ double product(const T* s, const T* z, const T* d, T* c, double alpha, double beta,
                            double gamma, bool measured) {
    double sum = 0;
    small::product<Shape>(s, z, alpha, [&](int row, int col, T v) {
      if (d) v = added(v, scaled(beta, d[row * Shape::ld + col]));
      if (row == col && row < m_) v = added(v, real_number<T>(gamma));
      small::put_mirrored<Shape>(c, row, col, v);
      sum += (row == col ? 1.0 : 2.0) * squared(v);
    });
    if (measured) sum = block_sum<block_threads>(sum, sums_);
    __syncthreads();
    return sum;
  }

 private:
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
  using Shape = small::Shape<is_complex, side, buffers>;
  using T = typename Shape::T;
  extern __shared__ __align__(16) unsigned char small_roots_memory[];
  __shared__ double sums[small::block_warps];
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
  small::fetch<Shape>(from, given.ld, m, root.at(0));
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
  constexpr int bytes = small::Shape<is_complex, side, buffers>::shared_bytes;
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
    return m <= 32 && small::Shape<true, 32, buffers>::shared_bytes <= room;
  return storage == Storage::float64 && m <= 64 &&
         small::Shape<false, 64, buffers>::shared_bytes <= room;
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
