// Batches of small matrices in ordinary arithmetic: sizes, thread counts and the launch.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "gramian/cuda/queue.hpp"
#include "small_matrices.hpp"
#include "small_simt_kernel.cuh"

namespace gramian::cuda {

namespace {

// Sides above this are in no shared memory; what is left is counted in int.
constexpr index_t longest_side = 65535;

// float32 up to this short side in tiles of 16 x 32 entries, beyond in tiles of 32 x 32: these read
// less for each product, but waste more where they stick out.
constexpr int narrow_float_side = 48;

// A slice of the Gram product's sums has at least this many packs; adding it to the others takes as
// long as computing with about half as many.
constexpr int shortest_slice = 8;

/// How one matrix lies in shared memory and how many warps work on it. The shape alone decides, so
/// that a matrix gives the same bits in any batch.
struct Layout {
  simt::Shape shape{};
  int square = 0;  // leading dimension of the m x m matrices
  int warps = 0;
  int slices = 0;
  std::size_t bytes = 0;
};

/// Row length of `cols` elements: whole packs, an odd number of them.
template <class T>
int leading(int cols) {
  return (simt::ceil_div(cols, simt::pack_size<T>) | 1) * simt::pack_size<T>;
}

/// Nothing where the block's registers do not hold an m x m result. Sides are at most longest_side.
template <class T, int TM, int TN>
std::optional<Layout> lay_out(int m, int n, bool gram_form) {
  // Walk::place is exact below 2^32. No shared memory of today holds that many (227 KB: 2^31.7).
  const auto long_side = static_cast<std::uint64_t>(n);
  if (static_cast<std::uint64_t>(m) * long_side * long_side >> 32 != 0) return std::nullopt;
  const int tiles = simt::lower_tiles<TM, TN>(m);
  if (tiles > simt::max_warps) return std::nullopt;
  Layout layout;
  layout.shape = {m, n, leading<T>(n)};
  layout.square = leading<T>(m);
  const int strips = simt::ceil_div(m, simt::tile_rows<TM>);
  layout.warps =
      std::min(simt::max_warps, std::max(tiles, strips * simt::ceil_div(n, simt::tile_cols<TN>)));
  layout.slices =
      std::clamp(simt::ceil_div(n, simt::pack_size<T>) / shortest_slice, 1, layout.warps / tiles);
  const auto row_elements = static_cast<std::size_t>(layout.shape.ld) +
                            static_cast<std::size_t>(layout.square) * (gram_form ? 3 : 1);
  layout.bytes = simt::header_bytes + static_cast<std::size_t>(m) * row_elements * sizeof(T);
  return layout;
}

template <class T, int TM, int TN>
struct Kernel {
  using Scalar = T;
  static std::optional<Layout> layout(int m, int n, bool gram_form) {
    return lay_out<T, TM, TN>(m, n, gram_form);
  }
  static void launch(const Queue& queue, const simt::Parameters& parameters, unsigned blocks,
                     const Layout& layout, int shared_limit) {
    const auto kernel = simt::small_simt_kernel<T, TM, TN>;
    // The same values in every call, so that calls from several threads do not disturb each other.
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_limit),
          "cudaFuncSetAttribute(MaxDynamicSharedMemorySize)");
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                               cudaSharedmemCarveoutMaxShared),
          "cudaFuncSetAttribute(PreferredSharedMemoryCarveout)");
    kernel<<<blocks, static_cast<unsigned>(layout.warps * simt::warp_size), layout.bytes,
             queue.stream>>>(parameters);
    check(cudaGetLastError(), "small_simt_kernel");
  }
};

/// Calls body with the kernel for this type and short side. Tile sizes: as many entries as leave
/// room for the operands in 128 registers.
template <class F>
auto with_kernel(DType dtype, bool wide, int m, F&& body) {
  const bool complex = dtype == DType::complex64 || dtype == DType::complex128;
  if (complex) return wide ? body(Kernel<double2, 4, 2>{}) : body(Kernel<float2, 4, 4>{});
  if (wide) return body(Kernel<double, 4, 4>{});
  return m <= narrow_float_side ? body(Kernel<float, 4, 4>{}) : body(Kernel<float, 8, 4>{});
}

int shared_memory_limit(const Queue& queue) {
  int bytes = 0;
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, queue.device),
        "cudaDeviceGetAttribute(MaxSharedMemoryPerBlockOptin)");
  return bytes;
}

/// The batch's dimensions, those merged that lie behind each other in both arrays.
struct BatchDims {
  std::vector<index_t> shape;
  std::vector<index_t> x;
  std::vector<index_t> out;
};

BatchDims merged_dims(const ArrayRef& x, const ArrayRef& out) {
  BatchDims dims;
  for (std::size_t d = 0; d + 2 < x.shape.size(); ++d) {
    const index_t size = x.shape[d];
    if (size == 1) continue;
    if (!dims.shape.empty() && dims.x.back() == x.strides[d] * size &&
        dims.out.back() == out.strides[d] * size) {
      dims.shape.back() *= size;
      dims.x.back() = x.strides[d];
      dims.out.back() = out.strides[d];
    } else {
      dims.shape.push_back(size);
      dims.x.push_back(x.strides[d]);
      dims.out.push_back(out.strides[d]);
    }
  }
  return dims;
}

simt::Walk walk_of(const ArrayRef& a, bool tall, int m, int n) {
  simt::Walk walk;
  const std::size_t d = a.shape.size();
  walk.row_stride = a.strides[tall ? d - 1 : d - 2];
  walk.col_stride = a.strides[tall ? d - 2 : d - 1];
  const auto distance = [](index_t stride) { return stride < 0 ? -stride : stride; };
  walk.down = distance(walk.row_stride) < distance(walk.col_stride);
  walk.length = static_cast<unsigned>(walk.down ? m : n);
  constexpr std::uint64_t two_32 = std::uint64_t{1} << 32;
  if (walk.length > 1)
    walk.reciprocal = static_cast<std::uint32_t>((two_32 + walk.length - 1) / walk.length);
  return walk;
}

simt::Figures figures_of(const ArrayRef& a) { return {a.data, a.dtype == DType::float64}; }

}  // namespace

bool small_simt_fits(const Queue& queue, index_t rows, index_t cols, DType dtype,
                     const NewtonSchulzOptions& options) {
  if (options.arithmetic == Arithmetic::half) return false;
  if (rows < 1 || cols < 1 || std::max(rows, cols) > longest_side) return false;
  if (options.table.empty() || options.table.size() > std::size_t{simt::max_rows}) return false;
  const int m = static_cast<int>(std::min(rows, cols));
  const int n = static_cast<int>(std::max(rows, cols));
  const bool gram_form = options.plan.method == NewtonSchulzMethod::gram;
  const auto layout = with_kernel(dtype, options.arithmetic == Arithmetic::float64, m,
                                  [&](auto kernel) { return kernel.layout(m, n, gram_form); });
  return layout && layout->bytes <= static_cast<std::size_t>(shared_memory_limit(queue));
}

void small_simt(const Queue& queue, const ArrayRef& x, const ArrayRef& out,
                const NewtonSchulzOptions& options, const NewtonSchulzInfo& info) {
  const std::size_t d = x.shape.size();
  const bool tall = x.shape[d - 2] > x.shape[d - 1];
  const int m = static_cast<int>(std::min(x.shape[d - 2], x.shape[d - 1]));
  const int n = static_cast<int>(std::max(x.shape[d - 2], x.shape[d - 1]));
  const BatchDims dims = merged_dims(x, out);

  simt::Parameters p{};
  p.x_walk = walk_of(x, tall, m, n);
  p.out_walk = walk_of(out, tall, m, n);
  p.dtype = x.dtype;
  p.gram_form = options.plan.method == NewtonSchulzMethod::gram;
  p.normalization = options.normalization;
  p.bound = options.bound;
  p.steps = static_cast<int>(options.table.size());
  std::copy(options.table.begin(), options.table.end(), p.table);
  for (int t : options.plan.restarts)
    if (t > 0 && t < p.steps) p.restarts[t / 32] |= 1u << (t % 32);

  // The kernel's dimensions are the last ones; over those in front of them the launches go.
  const std::size_t outer =
      dims.shape.size() - std::min<std::size_t>(dims.shape.size(), simt::max_batch_dims);
  p.batch_dims = static_cast<int>(dims.shape.size() - outer);
  index_t inner_count = 1;
  for (int i = 0; i < p.batch_dims; ++i) {
    p.batch_shape[i] = dims.shape[outer + static_cast<std::size_t>(i)];
    p.x_batch[i] = dims.x[outer + static_cast<std::size_t>(i)];
    p.out_batch[i] = dims.out[outer + static_cast<std::size_t>(i)];
    inner_count *= p.batch_shape[i];
  }
  index_t outer_count = 1;
  for (std::size_t i = 0; i < outer; ++i) outer_count *= dims.shape[i];
  if (inner_count == 0 || outer_count == 0) return;

  const DeviceGuard guard(queue.device);
  const int limit = shared_memory_limit(queue);
  const auto move = [](void* data, index_t count, DType dtype) -> void* {
    return data ? static_cast<std::byte*>(data) + count * element_size(dtype) : nullptr;
  };
  with_kernel(x.dtype, options.arithmetic == Arithmetic::float64, m, [&](auto kernel) {
    const std::optional<Layout> layout = kernel.layout(m, n, p.gram_form);
    if (!layout || layout->bytes > static_cast<std::size_t>(limit))
      throw Error("small_simt: the matrices do not fit");
    p.shape = layout->shape;
    p.square = layout->square;
    p.slices = layout->slices;
    for (index_t o = 0; o < outer_count; ++o) {
      index_t x_offset = 0;
      index_t out_offset = 0;
      index_t rest = o;
      for (std::size_t i = outer; i-- > 0; rest /= dims.shape[i]) {
        x_offset += rest % dims.shape[i] * dims.x[i];
        out_offset += rest % dims.shape[i] * dims.out[i];
      }
      p.x = move(x.data, x_offset, x.dtype);
      p.out = move(out.data, out_offset, out.dtype);
      p.residual = figures_of(info.residual);
      p.residual.data = move(p.residual.data, o * inner_count, info.residual.dtype);
      p.norm_bound = figures_of(info.norm_bound);
      p.norm_bound.data = move(p.norm_bound.data, o * inner_count, info.norm_bound.dtype);
      constexpr index_t most_blocks = std::numeric_limits<std::int32_t>::max();  // of a grid
      for (p.first = 0; p.first < inner_count; p.first += most_blocks)
        kernel.launch(queue, p, static_cast<unsigned>(std::min(inner_count - p.first, most_blocks)),
                      *layout, limit);
    }
  });
}

}  // namespace gramian::cuda
