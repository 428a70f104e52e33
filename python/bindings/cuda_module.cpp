// The CUDA module: so far it tells what CUDA sees; the kernels join it one concept at a time.
#include <pybind11/pybind11.h>

#include "gramian/cuda/device_info.hpp"

namespace py = pybind11;

PYBIND11_MODULE(_cuda, m, py::mod_gil_not_used()) {
  m.doc() = "The CUDA side of gramian; private.";
  m.def(
      "system_info",
      [] {
        const gramian::cuda::SystemInfo info = gramian::cuda::system_info();
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
      },
      "Runtime and driver versions, devices, and why there are none.");
}
