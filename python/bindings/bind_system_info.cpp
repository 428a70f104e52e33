#include <pybind11/pybind11.h>

#include "gramian/system_info.hpp"

namespace gramian::python {

void bind_system_info(pybind11::module_& m) {
  m.def("version", &version);
  m.def("instruction_set", &instruction_set);
  m.def("blas_description", &blas_description);
  m.def("compiler", &compiler);
}

}  // namespace gramian::python
