// gramian._cuda: estimators that take rows as they come.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <string>

#include "dlpack.hpp"
#include "gpu_call.hpp"
#include "gramian/cuda/streaming.hpp"

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
          const py::gil_scoped_release release;
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
          const py::gil_scoped_release release;
          cuda::stream_finish(queue, layout, state, at, memory.workspace());
        }
        return numbers_of(at);
      },
      py::arg("step"), py::arg("features"), py::arg("live"), py::arg("decay"), py::arg("vectors"),
      py::arg("gathered"), py::arg("figures"), py::arg("totals"), py::arg("position"),
      py::arg("device"), py::arg("stream"), py::arg("allocate"),
      "Queues the end of a block that is not full.");

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
        const py::gil_scoped_release release;
        return cuda::sketch_update(queue, layout, state, filled, x, own, memory.workspace());
      },
      py::arg("features"), py::arg("size"), py::arg("decay"), py::arg("decayed"), py::arg("held"),
      py::arg("factors"), py::arg("totals"), py::arg("filled"), py::arg("rows"), py::arg("dtype"),
      py::arg("weights").none(true), py::arg("device"), py::arg("stream"), py::arg("allocate"),
      "Queues the work on rows; returns how many the sketch holds then.");
}

}  // namespace gramian::python
