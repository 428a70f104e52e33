// Registers what the bind_*.cpp files define; nothing else lives here.
#include <pybind11/pybind11.h>

namespace gramian::python {

void bind_bounds(pybind11::module_& m);
void bind_coefficients(pybind11::module_& m);
void bind_inverse_root(pybind11::module_& m);
void bind_newton_schulz(pybind11::module_& m);
void bind_polar(pybind11::module_& m);
void bind_rsvd(pybind11::module_& m);
void bind_streaming_fd(pybind11::module_& m);
void bind_streaming(pybind11::module_& m);
void bind_system_info(pybind11::module_& m);
void bind_threads(pybind11::module_& m);

}  // namespace gramian::python

PYBIND11_MODULE(_cpu, m, pybind11::mod_gil_not_used()) {
  m.doc() = "The CPU kernels of gramian; private.";
  gramian::python::bind_bounds(m);
  gramian::python::bind_coefficients(m);
  gramian::python::bind_inverse_root(m);
  gramian::python::bind_newton_schulz(m);
  gramian::python::bind_polar(m);
  gramian::python::bind_rsvd(m);
  gramian::python::bind_streaming_fd(m);
  gramian::python::bind_streaming(m);
  gramian::python::bind_system_info(m);
  gramian::python::bind_threads(m);
}
