#include "inverse_root_ends.hpp"

#include <algorithm>

#include "device_properties.hpp"
#include "gramian/start_vector.hpp"
#include "inverse_root_tridiagonal.cuh"
#include "vector_arithmetic.cuh"

namespace gramian::cuda {

namespace {

constexpr std::uint64_t seed = 0x67726d6e;  // any

struct Task {
  RootBuffers buffers;
  const RootState* states;
  const int* skip;
  index_t batch, m, groups;
  int blocks;
  bool in_shared;
  double tolerance, cluster;
  int least_steps;
  EndsMemory memory;
};

__device__ double entry(index_t i, double) {
  return detail::random_entry(seed, static_cast<std::uint64_t>(i));
}
__device__ double2 entry(index_t i, double2) { return {entry(2 * i, 0.0), entry(2 * i + 1, 0.0)}; }

/// conj(v) w.
__device__ inline double2 times(double v, double w) { return {v * w, 0}; }
__device__ inline double2 times(double2 v, double2 w) {
  return {fma(v.x, w.x, v.y * w.y), fma(v.x, w.y, -v.y * w.x)};
}
/// next - c q.
__device__ inline double without(double next, double2 c, double q) { return fma(-c.x, q, next); }
__device__ inline double2 without(double2 next, double2 c, double2 q) {
  return {next.x - (c.x * q.x - c.y * q.y), next.y - (c.x * q.y + c.y * q.x)};
}

/// Past L1, which does not see what other multiprocessors write.
__device__ inline double fresh(const double* p) { return __ldcg(p); }
__device__ inline double2 fresh(const double2* p) { return __ldcg(p); }

/// Sum of row[j] v[j], for every lane of the warp. Rows and vectors begin at multiples of 16 bytes;
/// entries past m are not used.
__device__ inline double2 dot(const double* row, const double* v, index_t m, int lane) {
  constexpr int unroll = 4;
  const auto* const rows = reinterpret_cast<const double2*>(row);
  const auto* const pairs = reinterpret_cast<const double2*>(v);
  const index_t count = m / 2;
  double sums[unroll] = {};
  index_t j = lane;
  for (; j + 32 * (unroll - 1) < count; j += 32 * unroll) {
    double2 r[unroll];
#pragma unroll
    for (int k = 0; k < unroll; ++k) r[k] = rows[j + 32 * k];
#pragma unroll
    for (int k = 0; k < unroll; ++k) {
      const double2 x = pairs[j + 32 * k];
      sums[k] = fma(r[k].x, x.x, fma(r[k].y, x.y, sums[k]));
    }
  }
  for (; j < count; j += 32) {
    const double2 r = rows[j];
    const double2 x = pairs[j];
    sums[0] = fma(r.x, x.x, fma(r.y, x.y, sums[0]));
  }
  if (m % 2 != 0 && lane == 0) sums[1] = fma(row[m - 1], v[m - 1], sums[1]);
  return {warp_sum((sums[0] + sums[1]) + (sums[2] + sums[3])), 0};
}
__device__ inline double2 dot(const double2* row, const double2* v, index_t m, int lane) {
  return row_times_vector(row, v, m, lane);
}

/// Vectors of m entries lie that many apart.
__host__ __device__ constexpr index_t vector_room(index_t m) { return (m + 1) / 2 * 2; }

/// Waits until all blocks of the group have come here: `target` arrivals in all.
__device__ void meet(unsigned* arrived, unsigned target) {
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    atomicAdd(arrived, 1u);
    unsigned seen;
    do {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(arrived) : "memory");
    } while (seen < target);
    __threadfence();
  }
  __syncthreads();
}

template <class T, int threads>
class Lanczos {
 public:
  __device__ Lanczos(const Task& k, index_t group, int rank, T* vectors, double* a, double* b,
                     Sections<threads>& sections, double (*sums)[threads / 32])
      : k_(k),
        group_(group),
        rank_(rank),
        m_(k.m),
        now_(vectors),
        before_(vectors + vector_room(k.m)),
        next_(vectors + 2 * vector_room(k.m)),
        a_(a),
        b_(b),
        sections_(sections),
        sums_(sums) {}

  /// `meetings`: how often this group has met.
  __device__ void run(const T* rows, index_t ld, double* ends, unsigned& meetings) {
    T* now = now_;
    T* before = before_;
    T* next = next_;
    double sum = 0;
    for (index_t i = threadIdx.x; i < m_; i += threads) sum += squared(entry(i, T{}));
    double scale = 1 / sqrt(total(sum));
    for (index_t i = threadIdx.x; i < m_; i += threads) now[i] = scaled(scale, entry(i, T{}));
    __syncthreads();

    double size = 0;
    double theta = 0;
    int steps = 0;
    int next_check = min(k_.least_steps, most_lanczos_steps);
    bool invariant = false;
    while (steps < most_lanczos_steps && !invariant) {
      const int j = steps++;
      multiply(rows, ld, now, next, j, meetings);
      double inner = 0;
      for (index_t i = threadIdx.x; i < m_; i += threads) inner += times(now[i], next[i]).x;
      const double alpha = total(inner);
      if (!isfinite(alpha)) {
        put(ends, nan(""), nan(""));
        return;
      }
      const double beta = j > 0 ? b_[j - 1] : 0.0;
      double squares = 0;
      for (index_t i = threadIdx.x; i < m_; i += threads) {
        T v = added(next[i], scaled(-alpha, now[i]));
        if (j > 0) v = added(v, scaled(-beta, before[i]));
        next[i] = v;
        squares += squared(v);
      }
      double norm = sqrt(total(squares));
      size = fmax(size, fabs(alpha) + norm);
      if (norm < 0x1p-4 * size) {
        // What is left is in good part rounding, and along its neighbours, which would count twice.
        take_out(now, next);
        if (j > 0) take_out(before, next);
        squares = 0;
        for (index_t i = threadIdx.x; i < m_; i += threads) squares += squared(next[i]);
        norm = sqrt(total(squares));
      }
      if (threadIdx.x == 0) {
        a_[j] = alpha;
        b_[j] = norm;
      }
      invariant = !(norm > 0x1p-51 * size) || steps >= 2 * m_ + 8;
      scale = invariant ? 0.0 : 1 / norm;
      for (index_t i = threadIdx.x; i < m_; i += threads) next[i] = scaled(scale, next[i]);
      __syncthreads();
      T* const free = before;
      before = now;
      now = next;
      next = free;

      if (steps < next_check || invariant || steps == most_lanczos_steps) continue;
      next_check = steps + max(4, steps / 8);
      if (sections_.settled(a_, b_, steps, k_.tolerance, k_.cluster, theta)) break;
    }
    const double2 found = sections_.ends(a_, b_, steps, k_.tolerance, theta);
    put(ends, found.x, found.y);
  }

 private:
  __device__ double total(double v) {
    turn_ ^= 1;
    return block_sum<threads>(v, sums_[turn_]);
  }

  __device__ void put(double* ends, double largest, double smallest) const {
    if (rank_ != 0 || threadIdx.x != 0) return;
    ends[0] = largest;
    ends[1] = smallest;
  }

  /// next <- H now, whole, in every block.
  __device__ void multiply(const T* rows, index_t ld, const T* now, T* next, int step,
                           unsigned& meetings) {
    const int warps = threads / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    T* const common =
        k_.blocks > 1 ? static_cast<T*>(k_.memory.products) + (2 * group_ + (step & 1)) * m_ : next;
    for (index_t i = static_cast<index_t>(rank_) * warps + threadIdx.x / 32; i < m_;
         i += static_cast<index_t>(k_.blocks) * warps) {
      const double2 product = dot(rows + i * ld, now, m_, lane);
      if (lane == 0) store(product, common[i]);
    }
    if (k_.blocks == 1) {
      __syncthreads();
      return;
    }
    // Who writes this half of `common` again has met the others once more, after they read it.
    meet(k_.memory.arrived + group_, ++meetings * static_cast<unsigned>(k_.blocks));
    for (index_t i = threadIdx.x; i < m_; i += threads) next[i] = fresh(common + i);
    // Each thread goes on with the entries that it copied.
  }

  /// next <- next - q (q^H next).
  __device__ void take_out(const T* q, T* next) {
    double re = 0;
    double im = 0;
    for (index_t i = threadIdx.x; i < m_; i += threads) {
      const double2 p = times(q[i], next[i]);
      re += p.x;
      im += p.y;
    }
    const double2 c{total(re), total(im)};
    for (index_t i = threadIdx.x; i < m_; i += threads) next[i] = without(next[i], c, q[i]);
  }

  const Task& k_;
  index_t group_;
  int rank_;
  index_t m_;
  T *now_, *before_, *next_;
  double *a_, *b_;
  Sections<threads>& sections_;
  double (*sums_)[threads / 32];
  int turn_ = 0;
};

template <class T, int threads>
__global__ void __launch_bounds__(threads) ends_kernel(const __grid_constant__ Task k) {
  extern __shared__ __align__(16) unsigned char shared_vectors[];
  __shared__ double a[most_lanczos_steps];
  __shared__ double b[most_lanczos_steps];
  __shared__ double sums[2][threads / 32];
  __shared__ SectionsMemory<threads> room;
  const auto group = static_cast<index_t>(blockIdx.x / static_cast<unsigned>(k.blocks));
  const int rank = static_cast<int>(blockIdx.x % static_cast<unsigned>(k.blocks));
  T* const vectors = k.in_shared ? reinterpret_cast<T*>(shared_vectors)
                                 : static_cast<T*>(k.memory.vectors) +
                                       3 * vector_room(k.m) * static_cast<index_t>(blockIdx.x);
  unsigned meetings = 0;
  for (index_t i = group; i < k.batch; i += k.groups) {
    if (k.skip && k.skip[i]) continue;
    const Matrices h = k.buffers.buffer[k.states ? k.states[i].where : 0];
    Sections<threads> sections(room);
    Lanczos<T, threads> lanczos(k, group, rank, vectors, a, b, sections, sums);
    lanczos.run(static_cast<const T*>(h.data) + i * h.stride, h.ld, k.memory.ends + 2 * i,
                meetings);
    __syncthreads();  // before the next matrix overwrites what this one has read
  }
}

constexpr int own_shared_bytes = 24576;  // of the kernel itself, and what CUDA takes
constexpr int few_threads = 256;
constexpr int many_threads = 1024;
constexpr index_t few_rows = 64;

template <class T, int threads>
void launch(const Queue& queue, const Task& task) {
  const auto kernel = ends_kernel<T, threads>;
  const index_t bytes =
      task.in_shared ? 3 * vector_room(task.m) * static_cast<index_t>(sizeof(T)) : 0;
  if (bytes > 0)
    allow_shared_memory(reinterpret_cast<const void*>(kernel), queue.device,
                        most_shared_memory(queue.device) - own_shared_bytes);
  cudaLaunchAttribute together{};
  together.id = cudaLaunchAttributeCooperative;
  together.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(grid_size(task.groups * task.blocks));
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = static_cast<std::size_t>(bytes);
  config.stream = queue.stream;
  config.attrs = &together;
  config.numAttrs = task.blocks > 1 ? 1 : 0;  // blocks that wait for each other all run at once
  check(cudaLaunchKernelEx(&config, kernel, task), "launching the ends of spectra");
}

}  // namespace

SpectrumEnds::SpectrumEnds(const Queue& queue, Storage storage, index_t batch, index_t m)
    : queue_(queue), storage_(storage), batch_(batch), m_(m) {
  const index_t devices = multiprocessors(queue.device);
  in_shared_ = 3 * vector_room(m) * element_size(storage) <=
               most_shared_memory(queue.device) - own_shared_bytes;
  // A block takes a row to each of its warps, and two of them at least for the barrier's sake.
  const index_t wanted = m <= few_rows ? 1 : ceil_div(m, 2 * many_threads / 32);
  blocks_ = static_cast<int>(std::max<index_t>(1, std::min(devices / batch, wanted)));
  groups_ = in_shared_ || blocks_ > 1 ? batch : std::min(batch, devices);
}

EndsMemory SpectrumEnds::take(Carver& carver) const {
  EndsMemory memory{};
  const index_t size = element_size(storage_);
  memory.ends = carver.take<double>(2 * batch_);
  memory.arrived = carver.take<unsigned>(groups_);
  if (blocks_ > 1) memory.products = carver.take<std::byte>(groups_ * 2 * m_ * size);
  if (!in_shared_)
    memory.vectors = carver.take<std::byte>(groups_ * blocks_ * 3 * vector_room(m_) * size);
  return memory;
}

void SpectrumEnds::run(const RootBuffers& buffers, const RootState* states, const int* skip,
                       double tolerance, double cluster, int least_steps,
                       const EndsMemory& memory) const {
  const DeviceGuard guard(queue_.device);
  const Task task{buffers, states,     skip,      batch_,  m_,          groups_,
                  blocks_, in_shared_, tolerance, cluster, least_steps, memory};
  if (blocks_ > 1)
    check(cudaMemsetAsync(memory.arrived, 0, sizeof(unsigned) * static_cast<std::size_t>(groups_),
                          queue_.stream),
          "clearing barriers");
  const bool few = m_ <= few_rows;
  if (storage_ == Storage::complex128)
    return few ? launch<double2, few_threads>(queue_, task)
               : launch<double2, many_threads>(queue_, task);
  few ? launch<double, few_threads>(queue_, task) : launch<double, many_threads>(queue_, task);
}

}  // namespace gramian::cuda
