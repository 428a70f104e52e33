// The fused float16 kernels: where they fit, and their launch.
#include "small_matrices.hpp"

#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdlib>

#include "device_properties.hpp"
#include "small_half_block.cuh"
#include "small_half_cluster.cuh"

namespace gramian::cuda {

namespace {

using namespace small_half_detail;

// Matrices of one launch: with two blocks each still inside of what a grid takes.
constexpr index_t launch_limit = index_t{1} << 29;

constexpr int cached_devices = 64;

index_t round_up(index_t v, index_t unit) { return (v + unit - 1) / unit * unit; }

/// Strides of the internal m x n matrix; those of sides of 1 do not count.
Layout layout(const ArrayRef& a, bool tall) {
  const auto d = a.shape.size();
  Layout to{};
  to.row = a.strides[d - 2];
  to.col = a.strides[d - 1];
  index_t m = a.shape[d - 2];
  index_t n = a.shape[d - 1];
  if (tall) {
    std::swap(to.row, to.col);
    std::swap(m, n);
  }
  if (m == 1) to.row = 0;
  if (n == 1) to.col = 1;
  constexpr index_t group = 8;  // entries of 16 bytes
  to.vector = to.col == 1 && n % group == 0 && to.row % group == 0 &&
              reinterpret_cast<std::uintptr_t>(a.data) % 16 == 0;
  for (std::size_t i = 0; i + 2 < d; ++i)
    if (a.shape[i] > 1 && a.strides[i] % group != 0) to.vector = false;
  to.along_rows = m > 1 && std::abs(to.row) < std::abs(to.col);
  return to;
}

/// Joins neighbouring batch dimensions where both arrays step through them evenly.
void set_batch(const ArrayRef& x, const ArrayRef& out, Call& call) {
  call.dims = 0;
  for (std::size_t i = 0; i + 2 < x.shape.size(); ++i) {
    if (x.shape[i] == 1) continue;
    if (call.dims > 0) {
      const int before = call.dims - 1;
      if (call.x_stride[before] == x.strides[i] * x.shape[i] &&
          call.out_stride[before] == out.strides[i] * x.shape[i]) {
        call.shape[before] *= x.shape[i];
        call.x_stride[before] = x.strides[i];
        call.out_stride[before] = out.strides[i];
        continue;
      }
    }
    if (call.dims == max_dims) throw Error("newton_schulz: too many batch dimensions");
    call.shape[call.dims] = x.shape[i];
    call.x_stride[call.dims] = x.strides[i];
    call.out_stride[call.dims] = out.strides[i];
    ++call.dims;
  }
}

using Kernel = void (*)(Call);

/// Shared memory beyond 48 KB must be asked for, once per kernel and device.
void allow_shared(Kernel kernel, std::size_t bytes, int device,
                  std::array<std::atomic<bool>, cached_devices>& done) {
  const bool cached = device >= 0 && device < cached_devices;
  if (cached && done[static_cast<std::size_t>(device)].load(std::memory_order_relaxed)) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(bytes)),
        "cudaFuncSetAttribute");
  if (cached) done[static_cast<std::size_t>(device)].store(true, std::memory_order_relaxed);
}

template <class Start>
void launch_all(Call& call, index_t batch, Start start) {
  for (call.first = 0; call.first < batch; call.first += launch_limit) {
    start(static_cast<unsigned>(std::min(launch_limit, batch - call.first)));
    check(cudaGetLastError(), "the fused newton_schulz kernel");
  }
}

template <class Type, int slabs, int chunk, int blocks_per_sm>
void launch_blocks(const Queue& queue, Call& call, index_t batch) {
  static std::array<std::atomic<bool>, cached_devices> allowed{};
  constexpr int padded = 64 * slabs;
  constexpr int longest = static_cast<int>(longest_small_half(padded)) / 64;
  call.panels = static_cast<int>(round_up(call.n, chunk) / 64);
  const Kernel kernel = block_kernel<Type, slabs, chunk, blocks_per_sm>;
  allow_shared(kernel, block_bytes<padded>(longest), queue.device, allowed);
  const std::size_t bytes = block_bytes<padded>(call.panels);
  launch_all(call, batch, [&](unsigned matrices) {
    kernel<<<matrices, 128 * slabs, bytes, queue.stream>>>(call);
  });
}

template <class Type>
void launch_clusters(const Queue& queue, Call& call, index_t batch) {
  static std::array<std::atomic<bool>, cached_devices> allowed{};
  call.panels = cluster::panels;
  const Kernel kernel = cluster_kernel<Type>;
  allow_shared(kernel, cluster::bytes, queue.device, allowed);
  launch_all(call, batch, [&](unsigned matrices) {
    cudaLaunchAttribute pair{};
    pair.id = cudaLaunchAttributeClusterDimension;
    pair.val.clusterDim.x = 2;
    pair.val.clusterDim.y = 1;
    pair.val.clusterDim.z = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(2 * matrices);
    config.blockDim = dim3(cluster::threads);
    config.dynamicSmemBytes = cluster::bytes;
    config.stream = queue.stream;
    config.attrs = &pair;
    config.numAttrs = 1;
    check(cudaLaunchKernelEx(&config, kernel, call), "the fused newton_schulz kernel");
  });
}

// Blocks on one multiprocessor: as registers allow without spilling sums; shared memory lowers it
// further for long matrices.
template <class Type>
void launch_by_size(const Queue& queue, Call& call, index_t batch) {
  if (call.m > 128)
    launch_clusters<Type>(queue, call, batch);
  else if (call.m > 64)
    launch_blocks<Type, 2, 128, 2>(queue, call, batch);
  else if (call.n > 64)
    launch_blocks<Type, 1, 128, 4>(queue, call, batch);
  else
    launch_blocks<Type, 1, 64, 6>(queue, call, batch);
}

}  // namespace

bool small_half_fits(const Queue& queue, index_t rows, index_t cols,
                     const NewtonSchulzOptions& options) {
  const index_t m = std::min(rows, cols);
  const index_t n = std::max(rows, cols);
  const bool room = n <= longest_small_half(m);
  return room && m > 0 && options.arithmetic == Arithmetic::half &&
         options.plan.method == NewtonSchulzMethod::standard && !options.table.empty() &&
         options.table.size() <= max_steps && is_hopper(queue.device);
}

void small_half(const Queue& queue, const ArrayRef& x, const ArrayRef& out,
                const NewtonSchulzOptions& options, const NewtonSchulzInfo& info) {
  const DeviceGuard guard(queue.device);
  const auto d = x.shape.size();
  const index_t rows = x.shape[d - 2];
  const index_t cols = x.shape[d - 1];
  const bool tall = rows > cols;
  index_t batch = 1;
  for (std::size_t i = 0; i + 2 < d; ++i) batch *= x.shape[i];
  if (batch == 0) return;

  Call call{};
  call.x = static_cast<const std::uint16_t*>(x.data);
  call.out = static_cast<std::uint16_t*>(out.data);
  call.residual = static_cast<float*>(info.residual.data);
  call.norm_bound = static_cast<float*>(info.norm_bound.data);
  call.m = static_cast<int>(std::min(rows, cols));
  call.n = static_cast<int>(std::max(rows, cols));
  call.root_m = std::sqrt(static_cast<double>(call.m));
  call.from = layout(x, tall);
  call.to = layout(out, tall);
  call.normalization = options.normalization;
  call.bound = options.bound;
  set_batch(x, out, call);
  call.steps = static_cast<int>(options.table.size());
  for (std::size_t t = 0; t < options.table.size(); ++t) {
    const Row row = options.table[t];
    call.rows[t][0] = static_cast<float>(row.a);
    call.rows[t][1] = static_cast<float>(row.b);
    call.rows[t][2] = static_cast<float>(row.c);
  }
  if (x.dtype == DType::float16)
    launch_by_size<Float16>(queue, call, batch);
  else
    launch_by_size<Bfloat16>(queue, call, batch);
}

}  // namespace gramian::cuda
