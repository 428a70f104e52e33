#include <pybind11/pybind11.h>

#include "gramian/threads.hpp"

// Exported under plain names, so that threadpoolctl can tell this library from others.
extern "C" __attribute__((visibility("default"))) int gramian_get_num_threads() {
  return gramian::num_threads();
}
extern "C" __attribute__((visibility("default"))) int gramian_set_num_threads(int n) {
  return gramian::set_num_threads(n) ? 0 : -1;
}

namespace gramian::python {

void bind_threads(pybind11::module_& m) {
  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads, pybind11::arg("n"));
}

}  // namespace gramian::python
