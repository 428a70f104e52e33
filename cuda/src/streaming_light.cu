// Rows for RandomOrderTopEigenvector: which are kept, and the power iteration on the others. One
// launch to a piece of rows, all of whose blocks run at the same time: squared norms, a look at
// them one by one, and for each part of the piece that lies in one block of the iteration a product
// there and a product back. How many parts there are is known on the device alone.
#include <cooperative_groups.h>

#include <algorithm>
#include <cmath>

#include "device_properties.hpp"
#include "element.cuh"
#include "streaming_light_plan.cuh"

namespace gramian::cuda {

namespace {

constexpr int threads = 512;
constexpr int warps = threads / 32;
constexpr index_t piece_entries = index_t{1} << 22;
constexpr index_t most_rows = 4096;

/// Rows of the longest piece: they stay in the second-level cache between the passes.
index_t piece_rows(index_t features) {
  return std::clamp<index_t>(piece_entries / features, 64, most_rows);
}

template <class T>
struct Rows {
  const LightCall& a;

  __device__ double entry(index_t row, index_t j) const {
    return convert<double>(static_cast<const T*>(a.x)[row * a.row_stride + j * a.col_stride]);
  }
  __device__ double entry_of(index_t source, index_t j) const {
    return source >= 0 ? entry(source, j) : a.state.heavy[(-1 - source) * a.features + j];
  }
  __device__ double weight(index_t row) const { return a.weights ? a.weights[row] : 1.0; }
};

__device__ index_t first_warp() {
  return static_cast<index_t>(blockIdx.x) * warps + static_cast<int>(threadIdx.x) / 32;
}
__device__ index_t all_warps() { return static_cast<index_t>(gridDim.x) * warps; }

template <class T>
__device__ void square_rows(const Rows<T>& rows) {
  const LightCall& a = rows.a;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (index_t r = first_warp(); r < a.rows; r += all_warps()) {
    double sum = 0;
#pragma unroll 4
    for (index_t j = lane; j < a.features; j += 32) {
      const double f = rows.entry(r, j);
      sum = fma(f, f, sum);
    }
    sum = warp_sum(sum) * rows.weight(r);
    if (lane == 0) a.room.squares[r] = sum;
  }
}

/// Products of the light rows first to last with z, a row to a warp, times the row's weight.
template <class T>
__device__ void products_with_z(const Rows<T>& rows, index_t first, index_t last) {
  const LightCall& a = rows.a;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (index_t e = first + first_warp(); e < last; e += all_warps()) {
    const index_t source = a.room.sources[e];
    double sum = 0;
#pragma unroll 4
    for (index_t j = lane; j < a.features; j += 32)
      sum = fma(rows.entry_of(source, j), a.state.vectors[j], sum);
    sum = warp_sum(sum);
    // Rows that were kept have the root of their weight.
    if (lane == 0) a.room.products[e] = source >= 0 ? sum * rows.weight(source) : sum;
  }
}

/// The calling block's columns: fn(j, lane's column is one).
template <class F>
__device__ void for_own_columns(index_t features, F&& fn) {
  for (index_t first = static_cast<index_t>(blockIdx.x) * 32; first < features;
       first += static_cast<index_t>(gridDim.x) * 32) {
    const index_t j = first + static_cast<int>(threadIdx.x) % 32;
    fn(j, j < features);
  }
}

/// sum += the products times the rows. Gives the squared norm of this block's columns, in warp 0.
template <class T>
__device__ double add_rows(const Rows<T>& rows, index_t first, index_t last) {
  __shared__ double shared[warps][32];
  const LightCall& a = rows.a;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  double* const sums = a.state.vectors + a.features;
  double norm = 0;
  for_own_columns(a.features, [&](index_t j, bool inside) {
    double sum = 0;
    if (inside) {
#pragma unroll 4
      for (index_t e = first + warp; e < last; e += warps)
        sum = fma(a.room.products[e], rows.entry_of(a.room.sources[e], j), sum);
    }
    shared[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && inside) {
      sum = sums[j];
#pragma unroll
      for (int w = 0; w < warps; ++w) sum += shared[w][lane];
      sums[j] = sum;
      norm = fma(sum, sum, norm);
    }
    __syncthreads();
  });
  return warp == 0 ? warp_sum(norm) : 0.0;
}

/// A step of the power iteration, in this block's columns.
__device__ void take_step(const LightCall& a) {
  if (threadIdx.x >= 32) return;
  double square = 0;
  for (unsigned b = threadIdx.x; b < gridDim.x; b += 32) square += a.room.norms[b];
  const double norm = sqrt(warp_sum(square));
  double* const z = a.state.vectors;
  double* const sums = z + a.features;
  double* const before = sums + a.features;
  for_own_columns(a.features, [&](index_t j, bool inside) {
    if (!inside) return;
    if (norm > 0) z[j] = sums[j] / norm;
    before[j] = sums[j];
    sums[j] = 0;
  });
}

/// Rows into their slots. None that was kept before moves up, so that none is lost on the way.
template <class T>
__device__ void keep_rows(const Rows<T>& rows) {
  const LightCall& a = rows.a;
  if (threadIdx.x >= 32) return;
  const auto kept = static_cast<index_t>(a.state.figures[Figure::kept]);
  for_own_columns(a.features, [&](index_t j, bool inside) {
    if (!inside) return;
    for (index_t s = 0; s < kept; ++s) {
      const index_t source = a.room.slots[s];
      if (source == -1 - s) continue;
      const double root = source >= 0 ? sqrt(rows.weight(source)) : 1.0;
      a.state.heavy[s * a.features + j] = root * rows.entry_of(source, j);
    }
  });
}

template <class T>
__global__ void __launch_bounds__(threads) light_kernel(const __grid_constant__ LightCall a) {
  const auto grid = cooperative_groups::this_grid();
  const Rows<T> rows{a};
  const bool leads = blockIdx.x == 0 && threadIdx.x < 32;  // a warp that adds up
  square_rows(rows);
  grid.sync();
  if (leads) Plan(a).run();
  grid.sync();
  double* const f = a.state.figures;
  const index_t light = *a.room.light;
  double count = f[Figure::count];
  double length = f[Figure::length];
  double block_squares = f[Figure::block_squares];
  double last_squares = f[Figure::last_squares];
  double light_squares = f[Figure::light_squares];
  for (index_t first = 0; first < light;) {
    const index_t last = min(light, first + static_cast<index_t>(length - count));
    products_with_z(rows, first, last);
    grid.sync();
    const double norm = add_rows(rows, first, last);
    if (leads) {
      double sum = 0;
      for (index_t e = first + threadIdx.x; e < last; e += 32) sum += a.room.source_squares[e];
      sum = warp_sum(sum);
      block_squares += sum;
      light_squares += sum;
    }
    count += static_cast<double>(last - first);
    first = last;
    if (count < length) continue;  // no rows are left
    if (threadIdx.x == 0) a.room.norms[blockIdx.x] = norm;
    grid.sync();
    take_step(a);
    last_squares = block_squares;
    block_squares = 0;
    count = 0;
    length = ceil(HeavyLayout::growth * length);
    grid.sync();
  }
  __syncthreads();
  keep_rows(rows);
  if (leads && threadIdx.x == 0 && light > 0) {
    f[Figure::count] = count;
    f[Figure::length] = length;
    f[Figure::block_squares] = block_squares;
    f[Figure::last_squares] = last_squares;
    f[Figure::light_squares] = light_squares;
  }
}

template <class T>
void launch(const Queue& queue, LightCall call, unsigned blocks) {
  void* arguments[] = {&call};
  check(cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(light_kernel<T>), dim3(blocks),
                                    dim3(threads), arguments, 0, queue.stream),
        "launching rows in random order");
}

/// Blocks that find something to do, as far as they run at the same time: one on each
/// multiprocessor fits.
unsigned blocks_for(const Queue& queue, const HeavyLayout& layout, index_t rows) {
  const index_t useful = std::max(ceil_div(rows, warps), ceil_div(layout.features, 32));
  return static_cast<unsigned>(
      std::clamp<index_t>(useful, 1, static_cast<index_t>(multiprocessors(queue.device))));
}

}  // namespace

std::size_t heavy_workspace(const Queue& queue, const HeavyLayout& layout, index_t rows) {
  const index_t piece = std::min(rows, piece_rows(layout.features));
  return LightRoom(nullptr, layout, piece, blocks_for(queue, layout, piece)).bytes;
}

void heavy_update(const Queue& queue, const HeavyLayout& layout, const HeavyState& state,
                  const ArrayRef& rows, const double* weights, Workspace workspace) {
  const DeviceGuard guard(queue.device);
  const index_t count = rows.shape[0];
  const index_t piece = std::min(count, piece_rows(layout.features));
  const unsigned blocks = blocks_for(queue, layout, piece);
  const std::size_t bytes = LightRoom(nullptr, layout, piece, blocks).bytes;
  if (bytes > workspace.bytes()) throw Error("the workspace of a stream is too small");
  const LightRoom room(workspace.take<std::byte>(static_cast<index_t>(bytes)), layout, piece,
                       blocks);
  const double d = static_cast<double>(layout.features);
  const index_t row_bytes = rows.strides[0] * element_size(rows.dtype);
  for (index_t first = 0; first < count; first += piece) {
    LightCall call{static_cast<const std::byte*>(rows.data) + first * row_bytes,
                   std::min(piece, count - first),
                   layout.features,
                   rows.strides[0],
                   rows.strides[1],
                   weights ? weights + first : nullptr,
                   1 / (d * (1 + std::log(d))),
                   state,
                   room};
    switch (rows.dtype) {
      case DType::float16:
        launch<__half>(queue, call, blocks);
        break;
      case DType::bfloat16:
        launch<__nv_bfloat16>(queue, call, blocks);
        break;
      case DType::float32:
        launch<float>(queue, call, blocks);
        break;
      case DType::float64:
        launch<double>(queue, call, blocks);
        break;
      default:
        throw Error("rows of a stream must be real");
    }
  }
}

}  // namespace gramian::cuda
