#include "gramian/rsvd.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>

#include "gramian/sketch.hpp"
#include "released_gil.hpp"
#include "results.hpp"

namespace gramian::python {

namespace {

RsvdMethod method_from(const std::string& name) {
  if (name == "auto") return RsvdMethod::automatic;
  if (name == "subspace") return RsvdMethod::subspace;
  if (name == "krylov") return RsvdMethod::krylov;
  if (name == "gram") return RsvdMethod::gram;
  if (name == "single_pass") return RsvdMethod::single_pass;
  throw py::value_error("unknown method " + name);
}

const char* name_of(RsvdMethod method) {
  switch (method) {
    case RsvdMethod::krylov:
      return "krylov";
    case RsvdMethod::gram:
      return "gram";
    case RsvdMethod::single_pass:
      return "single_pass";
    case RsvdMethod::automatic:
    case RsvdMethod::subspace:
      break;
  }
  return "subspace";
}

py::tuple to_tuple(const RsvdFigures& f) {
  return py::make_tuple(f.rank, f.passes, f.error, f.certified, f.reached, f.floor,
                        name_of(f.method), f.shifted, f.householder);
}

py::list to_list(const std::vector<RsvdFigures>& figures) {
  py::list out;
  for (const RsvdFigures& f : figures) out.append(to_tuple(f));
  return out;
}

}  // namespace

void bind_rsvd(py::module_& m) {
  py::class_<Rsvd>(m, "Rsvd", "The factors of a batch until they are written out.")
      .def("rank", &Rsvd::rank)
      .def("figures", [](const Rsvd& self) { return to_list(self.figures()); })
      .def(
          "write",
          [](const Rsvd& self, Array u, Array s, Array vh, const std::string& dtype) {
            const DType type = dtype_from_name(dtype);
            const ArrayRef left = u.ref("U", type, true);
            const ArrayRef values = s.ref("S", figures_of(type), true);
            const ArrayRef right = vh.ref("Vh", type, true);
            const ReleasedGil released;
            self.write(left, values, right);
          },
          py::arg("u"), py::arg("s"), py::arg("vh"), py::arg("dtype"));

  m.def(
      "rsvd",
      [](Array a, const std::string& dtype, index_t rank, index_t oversample, int passes,
         double tolerance, const std::string& method, bool center, std::uint64_t seed,
         bool check_finite, std::optional<Array> start) {
        const DType type = dtype_from_name(dtype);
        const ArrayRef in = a.ref("a", type, false);
        RsvdOptions options;
        options.rank = rank;
        options.oversample = oversample;
        options.passes = passes;
        options.tolerance = tolerance;
        options.method = method_from(method);
        options.center = center;
        options.seed = seed;
        options.check_finite = check_finite;
        if (start) {
          options.start = start->ref("v0", type, false);
          // A few vectors, which would spoil every matrix of theirs.
          if (!all_finite(options.start)) throw py::value_error("v0 contains NaN or infinity");
        }
        auto result = std::make_unique<Rsvd>();
        Status status = Status::ok;
        {
          const ReleasedGil released;
          status = result->compute(in, options);
        }
        raise_for(status, "a");
        return result;
      },
      py::arg("a"), py::arg("dtype"), py::arg("rank"), py::arg("oversample"), py::arg("passes"),
      py::arg("tolerance"), py::arg("method"), py::arg("center"), py::arg("seed"),
      py::arg("check_finite"), py::arg("start").none(true) = py::none());

  m.def(
      "range_finder",
      [](Array a, Array q, const std::string& dtype, index_t size, int passes, std::uint64_t seed,
         bool check_finite) {
        const DType type = dtype_from_name(dtype);
        const ArrayRef in = a.ref("a", type, false);
        const ArrayRef out = q.ref("Q", type, true);
        RsvdOptions options;
        options.rank = size;
        options.oversample = 0;
        options.passes = passes;
        options.seed = seed;
        options.check_finite = check_finite;
        std::vector<RsvdFigures> figures;
        Status status = Status::ok;
        {
          const ReleasedGil released;
          status = range_finder(in, options, out, figures);
        }
        raise_for(status, "a");
        return to_list(figures);
      },
      py::arg("a"), py::arg("q"), py::arg("dtype"), py::arg("size"), py::arg("passes"),
      py::arg("seed"), py::arg("check_finite"));

  m.def(
      "nystrom_eigh",
      [](Array a, Array w, Array v, const std::string& dtype, index_t oversample,
         std::uint64_t seed, bool check_finite) {
        const DType type = dtype_from_name(dtype);
        const ArrayRef in = a.ref("a", type, false);
        const ArrayRef values = w.ref("w", figures_of(type), true);
        const ArrayRef vectors = v.ref("V", type, true);
        RsvdOptions options;
        options.rank = vectors.shape.back();
        options.oversample = oversample;
        options.seed = seed;
        options.check_finite = check_finite;
        Status status = Status::ok;
        {
          const ReleasedGil released;
          status = nystrom_eigh(in, options, values, vectors);
        }
        raise_for(status, "a");
      },
      py::arg("a"), py::arg("w"), py::arg("v"), py::arg("dtype"), py::arg("oversample"),
      py::arg("seed"), py::arg("check_finite"));

  m.def(
      "sketch_entry",
      [](std::uint64_t seed, std::uint64_t i, std::uint64_t j) { return sketch_entry(seed, i, j); },
      py::arg("seed"), py::arg("i"), py::arg("j"), "Entry (i, j) of the test matrix.");
}

}  // namespace gramian::python
