// The CUDA module: what CUDA sees of the machine, and what the bind_cuda_*.cpp files define.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "gramian/cuda/device_info.hpp"
#include "gramian/system_info.hpp"
#include "shared_library.hpp"

namespace gramian::python {

namespace py = pybind11;

void bind_cuda_bounds(py::module_& m);
void bind_cuda_inverse_root(py::module_& m);
void bind_cuda_newton_schulz(py::module_& m);
void bind_cuda_polar(py::module_& m);
void bind_cuda_rsvd(py::module_& m);
void bind_cuda_streaming(py::module_& m);

namespace {

py::dict system_info() {
  const cuda::SystemInfo info = cuda::system_info();
  py::list devices;
  for (const auto& d : info.devices) {
    py::dict device;
    device["name"] = d.name;
    device["compute_capability"] = py::make_tuple(d.major, d.minor);
    device["multiprocessors"] = d.multiprocessors;
    device["memory"] = d.memory;
    devices.append(device);
  }
  py::dict out;
  out["runtime"] = info.runtime;
  out["driver"] = info.driver;
  out["devices"] = devices;
  out["error"] = info.error;
  return out;
}

}  // namespace

}  // namespace gramian::python

PYBIND11_MODULE(_cuda, m, pybind11::mod_gil_not_used()) {
  m.doc() = "The CUDA side of gramian; private.";
  m.def("version", &gramian::version);
  m.def("system_info", &gramian::python::system_info,
        "Runtime and driver versions, devices, and why there are none.");
  m.def("set_library_directories", &gramian::cuda::set_library_directories,
        pybind11::arg("directories"), "Where cuBLAS is looked for, before the system's places.");
  gramian::python::bind_cuda_bounds(m);
  gramian::python::bind_cuda_inverse_root(m);
  gramian::python::bind_cuda_newton_schulz(m);
  gramian::python::bind_cuda_polar(m);
  gramian::python::bind_cuda_rsvd(m);
  gramian::python::bind_cuda_streaming(m);
}
