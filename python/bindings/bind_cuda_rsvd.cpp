// gramian._cuda: the sketch and the reads of a randomized SVD.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>

#include "dlpack.hpp"
#include "gpu_call.hpp"
#include "gramian/cuda/rsvd.hpp"
#include "released_gil.hpp"

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

/// A factor of any strides, or absent.
ArrayRef factor_of(const std::optional<Array>& from, const char* name, const std::string& dtype,
                   index_t rows, const Place& place) {
  if (!from) return {};
  ArrayRef x = from->ref(name, dtype_from_name(dtype), true, place);
  if (x.shape.size() != 2 || x.shape[0] != rows)
    throw py::value_error(std::string(name) + " has the wrong shape");
  return x;
}

void bind_direct(py::module_& m) {
  m.attr("direct_squares") = cuda::direct_squares;
  m.attr("direct_values") = cuda::direct_values;
  m.attr("direct_looks") = cuda::direct_looks;

  m.def("direct_limit", &cuda::direct_limit_on, py::arg("device"),
        "The most vectors that direct_svd takes.");

  m.def(
      "direct_svd",
      [](const Array& a, const std::string& dtype, const Array& z, const Array& y, const Array& w,
         const Array& figures, std::uint64_t seed, int first, int last, int reads, bool ritz,
         bool ends, const std::optional<Array>& u, const std::optional<Array>& s,
         const std::optional<Array>& v, bool sign_of_v, int device, std::uintptr_t stream,
         const py::function& allocate) {
        const Place place = gpu(device);
        cuda::DirectSvd svd;
        svd.a = a.ref("a", dtype_from_name(dtype), false, place);
        if (svd.a.shape.size() != 2) throw py::value_error("a must be a matrix");
        const index_t rows = svd.a.shape[0];
        const index_t cols = svd.a.shape[1];
        svd.z = z.ref("z", dtype_from_name("float32"), true, place);
        if (svd.z.shape.size() != 2 || svd.z.shape[0] != cols || !gapless(svd.z))
          throw py::value_error("z has the wrong shape or gaps");
        const index_t width = svd.z.shape[1];
        if (width < 1 || width > std::min(rows, cols) || width > cuda::direct_limit_on(device))
          throw py::value_error("z has too many columns");
        svd.y = rows_of(y, "y", "float32", {rows, width}, true, place);
        svd.w = rows_of(w, "w", "float64", {cols, width}, true, place);
        svd.figures = rows_of(figures, "figures", "float64", {cuda::direct_figures(width, reads)},
                              true, place);
        if (first < 1 || last > reads) throw py::value_error("no such reads");
        svd.u = factor_of(u, "u", dtype, rows, place);
        svd.v = factor_of(v, "v", dtype, cols, place);
        if (u.has_value() != s.has_value() || u.has_value() != v.has_value())
          throw py::value_error("u, s and v go together");
        if (u) {
          const index_t rank = svd.u.shape[1];
          if (rank < 1 || rank > width || svd.v.shape[1] != rank)
            throw py::value_error("u has the wrong shape");
          svd.s = rows_of(*s, "s", "float32", {rank}, true, place);
        }
        svd.seed = seed;
        svd.first = first;
        svd.last = last;
        svd.ritz = ritz;
        svd.ends = ends;
        svd.sign_of_v = sign_of_v;
        const cuda::Queue queue = queue_of(device, stream);
        std::size_t bytes = 0;
        {
          const ReleasedGil released;
          bytes = cuda::direct_svd_workspace(queue, svd);
        }
        const DeviceMemory memory(bytes, place, allocate);
        const ReleasedGil released;
        cuda::direct_svd(queue, svd, memory.workspace());
      },
      py::arg("a"), py::arg("dtype"), py::arg("z"), py::arg("y"), py::arg("w"), py::arg("figures"),
      py::arg("seed"), py::arg("first"), py::arg("last"), py::arg("reads"), py::arg("ritz"),
      py::arg("ends"), py::arg("u").none(true), py::arg("s").none(true), py::arg("v").none(true),
      py::arg("sign_of_v"), py::arg("device"), py::arg("stream"), py::arg("allocate"),
      "Queues reads `first` to `last` of a subspace iteration, and its factors.");

  // The small problems by themselves, for tests.
  m.def(
      "small_cholesky",
      [](const Array& gram, const Array& triangle, const Array& inverse, const Array& figures,
         double least, double shift, int device, std::uintptr_t stream) {
        const Place place = gpu(device);
        const ArrayRef g = gram.ref("gram", dtype_from_name("float64"), false, place);
        if (g.shape.size() != 2 || g.shape[0] != g.shape[1] || !gapless(g))
          throw py::value_error("gram must be square, without gaps");
        const index_t size = g.shape[0];
        const ArrayRef r = rows_of(triangle, "triangle", "float64", {size, size}, true, place);
        const ArrayRef x = rows_of(inverse, "inverse", "float64", {size, size}, true, place);
        const ArrayRef f = rows_of(figures, "figures", "float64", {3}, true, place);
        const ReleasedGil released;
        cuda::small_cholesky(queue_of(device, stream), g, least, shift, r, x, f);
      },
      py::arg("gram"), py::arg("triangle"), py::arg("inverse"), py::arg("figures"),
      py::arg("least"), py::arg("shift"), py::arg("device"), py::arg("stream"),
      "Queues gram = R^T R and the inverse of R.");
  m.def(
      "small_values",
      [](const Array& grams, const Array& values, const Array& figures, int device,
         std::uintptr_t stream) {
        const Place place = gpu(device);
        const ArrayRef g = grams.ref("grams", dtype_from_name("float64"), false, place);
        if (g.shape.size() != 3 || g.shape[0] < 1 || g.shape[1] != g.shape[2] || !gapless(g))
          throw py::value_error("grams must be square matrices, without gaps");
        const ArrayRef e =
            rows_of(values, "values", "float64", {g.shape[0], g.shape[1]}, true, place);
        const ArrayRef f = rows_of(figures, "figures", "float64", {3}, true, place);
        const ReleasedGil released;
        cuda::small_values(queue_of(device, stream), g, e, f);
      },
      py::arg("grams"), py::arg("values"), py::arg("figures"), py::arg("device"), py::arg("stream"),
      "Queues the eigenvalues of Gram matrices.");
  m.def(
      "small_jacobi",
      [](const Array& triangle, const Array& values, const Array& vectors, const Array& divided,
         const Array& figures, double tolerance, int device, std::uintptr_t stream) {
        const Place place = gpu(device);
        const ArrayRef r = triangle.ref("triangle", dtype_from_name("float64"), false, place);
        if (r.shape.size() != 2 || r.shape[0] != r.shape[1] || !gapless(r))
          throw py::value_error("triangle must be square, without gaps");
        const index_t size = r.shape[0];
        const ArrayRef e = rows_of(values, "values", "float64", {size}, true, place);
        const ArrayRef v = rows_of(vectors, "vectors", "float64", {size, size}, true, place);
        const ArrayRef d = rows_of(divided, "divided", "float64", {size, size}, true, place);
        const ArrayRef f = rows_of(figures, "figures", "float64", {3}, true, place);
        const ReleasedGil released;
        cuda::small_jacobi(queue_of(device, stream), r, tolerance, e, v, d, f);
      },
      py::arg("triangle"), py::arg("values"), py::arg("vectors"), py::arg("divided"),
      py::arg("figures"), py::arg("tolerance"), py::arg("device"), py::arg("stream"),
      "Queues eigenvalues and eigenvectors of triangle^T triangle.");
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
        const ReleasedGil released;
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
          const ReleasedGil released;
          bytes = cuda::two_sided_read_workspace(queue, read);
        }
        const DeviceMemory memory(bytes, place, allocate);
        const ReleasedGil released;
        cuda::two_sided_read(queue, read, memory.workspace());
      },
      py::arg("a"), py::arg("dtype"), py::arg("computed"), py::arg("wide"), py::arg("z"),
      py::arg("y"), py::arg("w").none(true), py::arg("means").none(true),
      py::arg("sums").none(true), py::arg("squares").none(true), py::arg("device"),
      py::arg("stream"), py::arg("allocate"),
      "Queues y = a z and w = a^H y in one read of a, less means, with column sums and the sum of "
      "squares.");

  bind_direct(m);
}

}  // namespace gramian::python
