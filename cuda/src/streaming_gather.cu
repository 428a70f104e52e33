// One read of rows without any step: products with vectors, and sums of the rows, for steps that
// are taken elsewhere.
#include <algorithm>

#include "carver.hpp"
#include "dependent_launch.cuh"
#include "element.cuh"
#include "streaming_read.hpp"
#include "streaming_step.hpp"

namespace gramian::cuda {

namespace {

constexpr int threads = 256;
constexpr index_t sum_groups = 64;
constexpr index_t most_rows = 65536;

/// Sums of every so many-th row, a column to a thread; the last one is that of the weights.
template <class T>
__global__ void __launch_bounds__(threads) sums_kernel(StreamRead a, double* parts) {
  await_earlier_kernels();
  const index_t strips = (a.features + threads) / threads;
  const index_t j = blockIdx.x % strips * threads + threadIdx.x;
  const index_t group = blockIdx.x / strips;
  if (j > a.features) return;
  const T* x = static_cast<const T*>(a.x);
  double sum = 0;
#pragma unroll 4
  for (index_t r = group; r < a.rows; r += sum_groups) {
    const double weight = a.weights ? a.weights[r] : 1.0;
    const double f = j < a.features ? convert<double>(x[r * a.row_stride + j * a.col_stride]) : 1.0;
    sum = fma(weight, f, sum);
  }
  parts[group * (a.features + 1) + j] = sum;
}

/// sums <- decayed by the rows' number, and the parts added.
__global__ void __launch_bounds__(threads)
    add_sums_kernel(index_t count, const double* parts, index_t groups, const double* figures,
                    double decay, double* sums) {
  await_earlier_kernels();
  double present = 0;
  for (index_t g = 0; g < groups; ++g) present += figures[3 * g + 2];
  const index_t j = static_cast<index_t>(blockIdx.x) * threads + threadIdx.x;
  if (j >= count) return;
  double sum = 0;
#pragma unroll 8
  for (index_t g = 0; g < sum_groups; ++g) sum += parts[g * count + j];
  sums[j] = fma(decay == 1 ? 1.0 : pow(decay, present), sums[j], sum);
}

template <class T>
void launch_sums(const Queue& queue, const StreamRead& read, double* parts) {
  launch_after(queue, sums_kernel<T>, grid_size(ceil_div(read.features + 1, threads) * sum_groups),
               unsigned{threads}, "launching sums of rows", read, parts);
}

struct Room {
  double* parts = nullptr;
  double* figures = nullptr;
  double* products = nullptr;
  double* sums = nullptr;
  std::size_t bytes = 0;

  Room(std::byte* base, const StreamLayout& layout, index_t rows) {
    Carver carver(base);
    const index_t groups = stream_groups(layout.features);
    parts = carver.take<double>(groups * layout.columns() * layout.features);
    figures = carver.take<double>(3 * groups);
    products = carver.take<double>(rows * (layout.columns() + 1));
    sums = carver.take<double>(sum_groups * (layout.features + 1));
    bytes = carver.used();
  }
};

}  // namespace

std::size_t gather_workspace(const StreamLayout& layout, index_t rows) {
  return Room(nullptr, layout, std::min(rows, most_rows)).bytes;
}

void stream_gather(const Queue& queue, const StreamLayout& layout, const StreamState& state,
                   double* sums, const ArrayRef& rows, const double* weights, Workspace workspace) {
  const DeviceGuard guard(queue.device);
  const index_t count = rows.shape[0];
  const index_t most = std::min(count, most_rows);
  const std::size_t bytes = Room(nullptr, layout, most).bytes;
  if (bytes > workspace.bytes()) throw Error("the workspace of a stream is too small");
  const Room room(workspace.take<std::byte>(static_cast<index_t>(bytes)), layout, most);
  const index_t row_bytes = rows.strides[0] * element_size(rows.dtype);
  for (index_t first = 0; first < count; first += most) {
    StreamRead read{};
    read.x = static_cast<const std::byte*>(rows.data) + first * row_bytes;
    read.dtype = rows.dtype;
    read.rows = std::min(most, count - first);
    read.features = layout.features;
    read.row_stride = rows.strides[0];
    read.col_stride = layout.features == 1 ? 1 : rows.strides[1];
    read.weights = weights ? weights + first : nullptr;
    read.vectors = state.vectors;
    read.columns = layout.columns();
    read.parts = room.parts;
    read.figures = room.figures;
    read.products = room.products;
    const index_t groups = read_rows(queue, read);
    add_parts(queue, layout, state, groups, room.parts, room.figures);
    if (!sums) continue;
    switch (rows.dtype) {
      case DType::float16:
        launch_sums<__half>(queue, read, room.sums);
        break;
      case DType::bfloat16:
        launch_sums<__nv_bfloat16>(queue, read, room.sums);
        break;
      case DType::float32:
        launch_sums<float>(queue, read, room.sums);
        break;
      default:
        launch_sums<double>(queue, read, room.sums);
    }
    launch_after(queue, add_sums_kernel, grid_size(ceil_div(layout.features + 1, threads)),
                 unsigned{threads}, "launching a sum of sums", layout.features + 1, room.sums,
                 groups, room.figures, layout.decay, sums);
  }
}

}  // namespace gramian::cuda
