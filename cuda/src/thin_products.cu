#include "thin_products.hpp"

#include <algorithm>
#include <limits>

#include "carver.hpp"
#include "device_properties.hpp"
#include "element.cuh"
#include "tensor_map.hpp"
#include "thin_products.cuh"

namespace gramian::cuda {

namespace thin {
namespace {

constexpr int pass_threads = 256;

/// `depth` rows of X to a block: rounded to tf32 and what is left, transposed, in the order and at
/// the places (swizzled) in which the tensor cores are to find them. Zeros beyond X.
__global__ void __launch_bounds__(pass_threads)
    split_kernel(const float* x, std::int64_t ld, std::int64_t length, int vectors, int width,
                 bool across, std::byte* to) {
  __shared__ float tile[depth][widest + 1];
  await_earlier_kernels();
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * depth;
  for (int at = static_cast<int>(threadIdx.x); at < depth * width; at += pass_threads) {
    const int k = at / width;
    const int n = at % width;
    tile[k][n] = first + k < length && n < vectors ? x[(first + k) * ld + n] : 0.0f;
  }
  __syncthreads();
  to += static_cast<std::int64_t>(blockIdx.x) * split_bytes(width);
  for (int at = static_cast<int>(threadIdx.x); at < 8 * width; at += pass_threads) {
    const int piece = at % 8;  // of 16 bytes: slots 0 to 3 or 4 to 7 of step piece / 2
    const int n = at / 8;
    const int s = piece / 2;
    const int e = piece % 2;
    std::uint32_t high[4], low[4];
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      split(tile[across ? 8 * t + 2 * s + e : 8 * s + 2 * t + e][n], high[t], low[t]);
      // Rounded, not cut off; NaN may not wrap to a number.
      if (low[t] << 1 <= 0xff000000u) low[t] = (low[t] + 0x1000u) & 0xffffe000u;
    }
    const std::uint32_t place = swizzled(n, 16 * piece);
    *reinterpret_cast<uint4*>(to + place) = {high[0], high[1], high[2], high[3]};
    *reinterpret_cast<uint4*>(to + width * row_bytes + place) = {low[0], low[1], low[2], low[3]};
  }
}

__global__ void __launch_bounds__(pass_threads)
    add_parts_kernel(const float* parts, int count, std::int64_t part, int width,
                     std::int64_t length, int vectors, float* out, std::int64_t ld) {
  await_earlier_kernels();
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * pass_threads + threadIdx.x;
  if (at >= length * vectors) return;
  const std::int64_t i = divide(at, vectors);
  const std::int64_t j = at - i * vectors;
  const float* const from = parts + i * width + j;
  double sum = 0;
#pragma unroll 4
  for (int k = 0; k < count; ++k) sum += from[k * part];
  out[i * ld + j] = static_cast<float>(sum);
}

/// How the work is divided.
struct Plan {
  index_t length;  // rows of the result
  int stages;
  int panels;  // of vectors
  int width;   // of a panel
  int tiles;
  int parts;

  Plan(const Queue& queue, index_t length_, index_t summed, index_t vectors) : length(length_) {
    stages = static_cast<int>(ceil_div(summed, depth));
    panels = static_cast<int>(ceil_div(vectors, widest));
    width = static_cast<int>(ceil_div(ceil_div(vectors, panels), 16) * 16);
    tiles = static_cast<int>(ceil_div(length, rows_of(width)));
    // In units of the time a stage takes: filling and emptying the ring is worth some, so is a part
    // that is written, read and added up.
    constexpr index_t ends = 8;
    constexpr int most_parts = 256;
    index_t best = std::numeric_limits<index_t>::max();
    parts = 1;
    const index_t at_once = multiprocessors(queue.device);
    for (int n = 1; n <= std::min(stages, most_parts); ++n) {
      const index_t rounds = ceil_div(index_t{tiles} * n, at_once);
      const index_t cost = rounds * (ceil_div(stages, n) + ends + (n > 1 ? width / 16 : 0));
      if (cost < best) {
        best = cost;
        parts = n;
      }
    }
  }

  void carve(Carver& carver) {
    split = carver.take<std::byte>(index_t{stages} * split_bytes(width));
    sums = parts > 1 ? carver.take<float>(parts * length * width) : nullptr;
  }

  std::byte* split = nullptr;
  float* sums = nullptr;
};

template <int width, bool across>
void start(const Queue& queue, const Plan& plan, const Arguments& a) {
  const auto kernel = product_kernel<width, across>;
  constexpr int bytes = shared_bytes(width);
  allow_shared_memory(reinterpret_cast<const void*>(kernel), queue.device, bytes);
  launch_after(queue, kernel, {grid_size(index_t{plan.tiles} * plan.parts), threads, bytes},
               "launching a thin product", a);
}

template <int width>
void start(const Queue& queue, const Plan& plan, bool across, const Arguments& a) {
  if (plan.width < width) {
    if constexpr (width > 16) return start<width - 16>(queue, plan, across, a);
  }
  return across ? start<width, true>(queue, plan, a) : start<width, false>(queue, plan, a);
}

/// Whether sums run along what is adjacent in memory.
bool sums_along(const ThinFactor& a, bool adjoint) { return a.by_columns == adjoint; }

Plan plan_of(const Queue& queue, const ThinFactor& a, index_t vectors, bool adjoint) {
  return {queue, adjoint ? a.cols : a.rows, adjoint ? a.rows : a.cols, vectors};
}

std::size_t workspace_bytes(const Queue& queue, const ThinFactor& a, index_t vectors,
                            bool adjoint) {
  Carver counting(nullptr);
  plan_of(queue, a, vectors, adjoint).carve(counting);
  return counting.used();
}

void multiply(const Queue& queue, const ThinFactor& a, bool adjoint, index_t vectors,
              const float* x, index_t ld_x, float* out, index_t ld_out, Workspace workspace) {
  const DeviceGuard guard(queue.device);
  Plan plan = plan_of(queue, a, vectors, adjoint);
  Carver carver(workspace.take<std::byte>(0));
  plan.carve(carver);
  const index_t summed = adjoint ? a.rows : a.cols;
  const bool across = sums_along(a, adjoint);
  Arguments arguments{};
  arguments.s =
      float_tensor_map(a.data, a.by_columns ? a.cols : a.rows, a.by_columns ? a.rows : a.cols, a.ld,
                       depth, across ? rows_of(plan.width) : depth);
  arguments.x = plan.split;
  arguments.length = plan.length;
  arguments.tiles = plan.tiles;
  arguments.least_stages = plan.stages / plan.parts;
  arguments.longer_parts = plan.stages % plan.parts;
  for (index_t first = 0; first < vectors; first += plan.width) {
    const int count = static_cast<int>(std::min<index_t>(plan.width, vectors - first));
    launch_after(queue, split_kernel, grid_size(plan.stages), pass_threads,
                 "launching a split of vectors", x + first, ld_x, summed, count, plan.width, across,
                 plan.split);
    const bool whole = plan.parts == 1;
    arguments.out = whole ? out + first : plan.sums;
    arguments.ld = whole ? ld_out : plan.width;
    arguments.part = plan.length * plan.width;
    arguments.vectors = whole ? count : plan.width;
    start<widest>(queue, plan, across, arguments);
    if (whole) continue;
    launch_after(queue, add_parts_kernel, grid_size(ceil_div(plan.length * count, pass_threads)),
                 pass_threads, "launching a sum of parts", static_cast<const float*>(plan.sums),
                 plan.parts, arguments.part, plan.width, plan.length, count, out + first, ld_out);
  }
}

}  // namespace
}  // namespace thin

bool takes_thin_products(const Queue& queue, const ThinFactor& a, index_t vectors) {
  constexpr index_t side = index_t{1} << 30;  // coordinates and counts are 32-bit integers
  const index_t adjacent = a.by_columns ? a.rows : a.cols;
  const index_t others = a.by_columns ? a.cols : a.rows;
  return is_hopper(queue.device) && vectors >= 1 && a.rows >= 1 && a.cols >= 1 && a.rows < side &&
         a.cols < side && vectors < side && reinterpret_cast<std::uintptr_t>(a.data) % 16 == 0 &&
         (others == 1 || (a.ld % 4 == 0 && a.ld >= adjacent && a.ld < (side << 7)));
}

std::size_t thin_product_workspace(const Queue& queue, const ThinFactor& a, index_t vectors) {
  return thin::workspace_bytes(queue, a, vectors, false);
}

std::size_t thin_adjoint_product_workspace(const Queue& queue, const ThinFactor& a,
                                           index_t vectors) {
  return thin::workspace_bytes(queue, a, vectors, true);
}

void thin_product(const Queue& queue, const ThinFactor& a, index_t vectors, const float* z,
                  index_t ld_z, float* y, index_t ld_y, Workspace workspace) {
  thin::multiply(queue, a, false, vectors, z, ld_z, y, ld_y, workspace);
}

void thin_adjoint_product(const Queue& queue, const ThinFactor& a, index_t vectors, const float* y,
                          index_t ld_y, float* w, index_t ld_w, Workspace workspace) {
  thin::multiply(queue, a, true, vectors, y, ld_y, w, ld_w, workspace);
}

}  // namespace gramian::cuda
