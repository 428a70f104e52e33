// gramian._cuda: estimators that take rows as they come.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "dlpack.hpp"
#include "gpu_call.hpp"
#include "gramian/cuda/streaming.hpp"
#include "released_gil.hpp"

namespace gramian::python {

namespace {

using Position = std::array<index_t, 5>;

cuda::StreamPosition position_of(const Position& p) { return {p[0], p[1], p[2], p[3], p[4]}; }
Position numbers_of(const cuda::StreamPosition& p) {
  return {p.rows, p.block_rows, p.block_reads, p.reads, p.depth};
}

cuda::StreamLayout layout_of(const std::string& step, index_t features, index_t live,
                             double decay) {
  cuda::StreamLayout layout;
  layout.step = step == "grid"   ? cuda::StreamStep::oja_grid
                : step == "rate" ? cuda::StreamStep::oja_rate
                                 : cuda::StreamStep::adaoja;
  const bool is_oja = layout.step != cuda::StreamStep::adaoja;
  if (features < 1 || live < 1 || live > cuda::StreamLayout::most_live ||
      (is_oja && live != cuda::StreamLayout::oja_rates))
    throw py::value_error("no stream has that many vectors");
  layout.features = features;
  layout.live = live;
  layout.decay = decay;
  return layout;
}

/// Exactly so many doubles without gaps.
double* doubles(const Array& from, const char* name, std::initializer_list<index_t> shape,
                bool writable, const Place& place) {
  const ArrayRef x = from.ref(name, DType::float64, writable, place);
  index_t step = 1;
  bool fits = x.shape.size() == shape.size();
  for (std::size_t k = shape.size(); fits && k-- > 0;) {
    const index_t size = shape.begin()[k];
    fits = x.shape[k] == size && (size == 1 || x.strides[k] == step);
    step *= size;
  }
  if (!fits) throw py::value_error(std::string(name) + " has the wrong shape or has gaps");
  return x.vector<double>();
}

cuda::StreamState state_of(const cuda::StreamLayout& layout, const Array& vectors,
                           const Array& gathered, const Array& figures, const Array& totals,
                           const Place& place) {
  using Layout = cuda::StreamLayout;
  const bool ada = layout.step == cuda::StreamStep::adaoja;
  const index_t d = layout.features;
  return {doubles(vectors, "vectors", {layout.columns(), d}, true, place),
          doubles(gathered, "gathered", {layout.columns(), d}, true, place),
          ada ? doubles(figures, "figures", {Layout::ada_figure_count, layout.live}, true, place)
              : doubles(figures, "figures", {layout.live, Layout::oja_figure_count}, true, place),
          doubles(totals, "totals", {Layout::total_count}, true, place)};
}

}  // namespace

void bind_cuda_streaming(py::module_& m) {
  m.def(
      "stream_update",
      [](const std::string& step, index_t features, index_t live, double decay,
         const Array& vectors, const Array& gathered, const Array& figures, const Array& totals,
         const Position& position, const Array& rows, const std::string& dtype,
         const std::optional<Array>& weights, int device, std::uintptr_t stream,
         const py::function& allocate) {
        const Place place = gpu(device);
        const cuda::StreamLayout layout = layout_of(step, features, live, decay);
        const cuda::StreamState state = state_of(layout, vectors, gathered, figures, totals, place);
        const ArrayRef x = rows.ref("rows", dtype_from_name(dtype), false, place);
        if (x.shape.size() != 2 || x.shape[1] != features)
          throw py::value_error("rows must be (n, features)");
        const double* factors =
            weights ? doubles(*weights, "weights", {x.shape[0]}, false, place) : nullptr;
        const cuda::Queue queue = queue_of(device, stream);
        const DeviceMemory memory(cuda::stream_workspace(layout, x), place, allocate);
        cuda::StreamPosition at = position_of(position);
        {
          const ReleasedGil released;
          cuda::stream_update(queue, layout, state, at, x, factors, memory.workspace());
        }
        return numbers_of(at);
      },
      py::arg("step"), py::arg("features"), py::arg("live"), py::arg("decay"), py::arg("vectors"),
      py::arg("gathered"), py::arg("figures"), py::arg("totals"), py::arg("position"),
      py::arg("rows"), py::arg("dtype"), py::arg("weights").none(true), py::arg("device"),
      py::arg("stream"), py::arg("allocate"),
      "Queues the work on rows; returns where the stream stands then.");

  m.def(
      "stream_finish",
      [](const std::string& step, index_t features, index_t live, double decay,
         const Array& vectors, const Array& gathered, const Array& figures, const Array& totals,
         const Position& position, int device, std::uintptr_t stream,
         const py::function& allocate) {
        const Place place = gpu(device);
        const cuda::StreamLayout layout = layout_of(step, features, live, decay);
        const cuda::StreamState state = state_of(layout, vectors, gathered, figures, totals, place);
        const cuda::Queue queue = queue_of(device, stream);
        const DeviceMemory memory(cuda::stream_workspace(layout, {}), place, allocate);
        cuda::StreamPosition at = position_of(position);
        {
          const ReleasedGil released;
          cuda::stream_finish(queue, layout, state, at, memory.workspace());
        }
        return numbers_of(at);
      },
      py::arg("step"), py::arg("features"), py::arg("live"), py::arg("decay"), py::arg("vectors"),
      py::arg("gathered"), py::arg("figures"), py::arg("totals"), py::arg("position"),
      py::arg("device"), py::arg("stream"), py::arg("allocate"),
      "Queues the end of a block that is not full.");

  m.def(
      "stream_decay",
      [](const std::optional<Array>& weights, const Array& decayed, index_t rows, double decay,
         int device, std::uintptr_t stream) {
        const Place place = gpu(device);
        if (rows < 1 || rows > index_t{1} << 24)
          throw py::value_error("rows must be at least 1 and at most 2^24");
        const double* own = weights ? doubles(*weights, "weights", {rows}, false, place) : nullptr;
        double* out = doubles(decayed, "decayed", {rows}, true, place);
        const cuda::Queue queue = queue_of(device, stream);
        const ReleasedGil released;
        cuda::stream_decay(queue, rows, own, decay, out);
      },
      py::arg("weights").none(true), py::arg("decayed"), py::arg("rows"), py::arg("decay"),
      py::arg("device"), py::arg("stream"), "Queues the decay of rows by those that follow.");

  m.def(
      "stream_gather",
      [](index_t features, index_t columns, double decay, const Array& vectors,
         const Array& gathered, const Array& totals, const std::optional<Array>& sums,
         const Array& rows, const std::string& dtype, const std::optional<Array>& weights,
         int device, std::uintptr_t stream, const py::function& allocate) {
        using Layout = cuda::StreamLayout;
        const Place place = gpu(device);
        if (features < 1 || columns < Layout::group || columns % Layout::group != 0)
          throw py::value_error("columns must be a multiple of 16");
        Layout layout;
        layout.features = features;
        layout.live = columns - Layout::fixed_least;
        layout.decay = decay;
        const cuda::StreamState state{
            doubles(vectors, "vectors", {columns, features}, true, place),
            doubles(gathered, "gathered", {columns, features}, true, place), nullptr,
            doubles(totals, "totals", {Layout::total_count}, true, place)};
        double* added = sums ? doubles(*sums, "sums", {features + 1}, true, place) : nullptr;
        const ArrayRef x = rows.ref("rows", dtype_from_name(dtype), false, place);
        if (x.shape.size() != 2 || x.shape[1] != features || x.shape[0] < 1)
          throw py::value_error("rows must be (n, features)");
        const double* own =
            weights ? doubles(*weights, "weights", {x.shape[0]}, false, place) : nullptr;
        const DeviceMemory memory(cuda::gather_workspace(layout, x.shape[0]), place, allocate);
        const cuda::Queue queue = queue_of(device, stream);
        const ReleasedGil released;
        cuda::stream_gather(queue, layout, state, added, x, own, memory.workspace());
      },
      py::arg("features"), py::arg("columns"), py::arg("decay"), py::arg("vectors"),
      py::arg("gathered"), py::arg("totals"), py::arg("sums").none(true), py::arg("rows"),
      py::arg("dtype"), py::arg("weights").none(true), py::arg("device"), py::arg("stream"),
      py::arg("allocate"), "Queues a read of rows without a step.");

  m.def(
      "sketch_update",
      [](index_t features, index_t size, double decay, bool decayed, const Array& held,
         const Array& factors, const Array& totals, index_t filled, const Array& rows,
         const std::string& dtype, const std::optional<Array>& weights, int device,
         std::uintptr_t stream, const py::function& allocate) {
        using Layout = cuda::SketchLayout;
        const Place place = gpu(device);
        Layout layout;
        layout.features = features;
        layout.size = size;
        layout.decay = decay;
        layout.decayed = decayed;
        if (features < 1 || size < 1 || size > Layout::most_size)
          throw py::value_error("no sketch has that many rows");
        if (filled < 0 || filled >= layout.held())
          throw py::value_error("filled must be below the number of rows held");
        const index_t most = layout.held();
        const cuda::SketchState state{
            doubles(held, "held", {features, most}, true, place),
            doubles(factors, "factors", {most}, true, place),
            doubles(totals, "totals", {Layout::figure_count}, true, place)};
        const ArrayRef x = rows.ref("rows", dtype_from_name(dtype), false, place);
        if (x.shape.size() != 2 || x.shape[1] != features)
          throw py::value_error("rows must be (n, features)");
        const double* own =
            weights ? doubles(*weights, "weights", {x.shape[0]}, false, place) : nullptr;
        const cuda::Queue queue = queue_of(device, stream);
        const DeviceMemory memory(cuda::sketch_workspace(queue, layout, filled, x.shape[0]), place,
                                  allocate);
        const ReleasedGil released;
        return cuda::sketch_update(queue, layout, state, filled, x, own, memory.workspace());
      },
      py::arg("features"), py::arg("size"), py::arg("decay"), py::arg("decayed"), py::arg("held"),
      py::arg("factors"), py::arg("totals"), py::arg("filled"), py::arg("rows"), py::arg("dtype"),
      py::arg("weights").none(true), py::arg("device"), py::arg("stream"), py::arg("allocate"),
      "Queues the work on rows; returns how many the sketch holds then.");

  m.def(
      "heavy_update",
      [](index_t features, index_t most, const Array& heavy, const Array& heavy_squares,
         const Array& vectors, const Array& figures, const Array& rows, const std::string& dtype,
         const std::optional<Array>& weights, int device, std::uintptr_t stream,
         const py::function& allocate) {
        using Layout = cuda::HeavyLayout;
        const Place place = gpu(device);
        if (features < 1 || most < 0)
          throw py::value_error("features must be at least 1, most at least 0");
        Layout layout;
        layout.features = features;
        layout.most = most;
        const index_t slots = std::max<index_t>(most, 1);
        const cuda::HeavyState state{
            doubles(heavy, "heavy", {slots, features}, true, place),
            doubles(heavy_squares, "heavy_squares", {slots}, true, place),
            doubles(vectors, "vectors", {3, features}, true, place),
            doubles(figures, "figures", {Layout::figure_count}, true, place)};
        const ArrayRef x = rows.ref("rows", dtype_from_name(dtype), false, place);
        if (x.shape.size() != 2 || x.shape[1] != features || x.shape[0] < 1)
          throw py::value_error("rows must be (n, features)");
        const double* own =
            weights ? doubles(*weights, "weights", {x.shape[0]}, false, place) : nullptr;
        const cuda::Queue queue = queue_of(device, stream);
        const DeviceMemory memory(cuda::heavy_workspace(queue, layout, x.shape[0]), place,
                                  allocate);
        const ReleasedGil released;
        cuda::heavy_update(queue, layout, state, x, own, memory.workspace());
      },
      py::arg("features"), py::arg("most"), py::arg("heavy"), py::arg("heavy_squares"),
      py::arg("vectors"), py::arg("figures"), py::arg("rows"), py::arg("dtype"),
      py::arg("weights").none(true), py::arg("device"), py::arg("stream"), py::arg("allocate"),
      "Queues the work on rows in random order.");
}

}  // namespace gramian::python
