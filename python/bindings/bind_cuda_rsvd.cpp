// gramian._cuda: the sketch and the reads of a randomized SVD.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "dlpack.hpp"
#include "gpu_call.hpp"
#include "gramian/cuda/rsvd.hpp"

namespace gramian::python {

namespace {

bool gapless(const ArrayRef& x) {
  index_t step = 1;
  for (std::size_t d = x.shape.size(); d-- > 0;) {
    if (x.shape[d] != 1 && x.strides[d] != step) return false;
    step *= x.shape[d];
  }
  return true;
}

/// An array of that shape, row by row without gaps.
ArrayRef rows_of(const Array& from, const char* name, const std::string& dtype,
                 std::vector<index_t> shape, bool written, const Place& place) {
  ArrayRef x = from.ref(name, dtype_from_name(dtype), written, place);
  if (!std::equal(x.shape.begin(), x.shape.end(), shape.begin(), shape.end()) || !gapless(x))
    throw py::value_error(std::string(name) + " has the wrong shape or gaps");
  return x;
}

}  // namespace

void bind_cuda_rsvd(py::module_& m) {
  m.attr("sum_parts") = cuda::sum_parts;

  m.def(
      "sketch",
      [](const Array& z, const std::string& dtype, std::uint64_t seed, index_t first, int device,
         std::uintptr_t stream) {
        const ArrayRef out = z.ref("z", dtype_from_name(dtype), true, gpu(device));
        if (out.shape.size() != 2 || !gapless(out)) throw py::value_error("z must be n x l");
        const cuda::Queue queue = queue_of(device, stream);
        const py::gil_scoped_release release;
        cuda::sketch(queue, seed, first, out);
      },
      py::arg("z"), py::arg("dtype"), py::arg("seed"), py::arg("first"), py::arg("device"),
      py::arg("stream"), "Queues the work that fills z with columns of the sketch.");

  m.def(
      "two_sided_read",
      [](const Array& a, const std::string& dtype, const std::string& computed,
         const std::string& wide, const Array& z, const Array& y, const std::optional<Array>& w,
         const std::optional<Array>& means, const std::optional<Array>& sums,
         const std::optional<Array>& squares, int device, std::uintptr_t stream,
         const py::function& allocate) {
        const Place place = gpu(device);
        cuda::TwoSidedRead read;
        read.a = a.ref("a", dtype_from_name(dtype), false, place);
        if (read.a.shape.size() != 2) throw py::value_error("a must be a matrix");
        const index_t rows = read.a.shape[0];
        const index_t cols = read.a.shape[1];
        read.z = z.ref("z", dtype_from_name(computed), false, place);
        if (read.z.shape.size() != 2 || read.z.shape[0] != cols || !gapless(read.z))
          throw py::value_error("z has the wrong shape or gaps");
        const index_t width = read.z.shape[1];
        read.y = rows_of(y, "y", computed, {rows, width}, true, place);
        if (w) read.w = rows_of(*w, "w", wide, {cols, width}, true, place);
        if (means) read.means = rows_of(*means, "means", wide, {cols}, false, place);
        if (sums) read.sums = rows_of(*sums, "sums", wide, {cuda::sum_parts, cols}, true, place);
        if (squares) read.squares = rows_of(*squares, "squares", "float64", {1}, true, place);
        if (rows == 0 || cols == 0 || width == 0) throw py::value_error("nothing to read");
        if (sums && !means) throw py::value_error("sums go with means");
        const cuda::Queue queue = queue_of(device, stream);
        std::size_t bytes = 0;
        {
          py::gil_scoped_release release;
          bytes = cuda::two_sided_read_workspace(queue, read);
        }
        const DeviceMemory memory(bytes, place, allocate);
        const py::gil_scoped_release release;
        cuda::two_sided_read(queue, read, memory.workspace());
      },
      py::arg("a"), py::arg("dtype"), py::arg("computed"), py::arg("wide"), py::arg("z"),
      py::arg("y"), py::arg("w").none(true), py::arg("means").none(true),
      py::arg("sums").none(true), py::arg("squares").none(true), py::arg("device"),
      py::arg("stream"), py::arg("allocate"),
      "Queues y = a z and w = a^H y in one read of a, less means, with column sums and the sum of "
      "squares.");
}

}  // namespace gramian::python
