// What CUDA sees on this machine.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace gramian::cuda {

struct DeviceInfo {
  std::string name;
  int major;  // compute capability
  int minor;
  int multiprocessors;
  std::size_t memory;  // bytes
};

struct SystemInfo {
  int runtime;  // as CUDA counts versions: 13000 is 13.0
  int driver;   // 0: no driver
  std::vector<DeviceInfo> devices;
  std::string error;  // why there are no devices, in CUDA's words; empty if there are
};

SystemInfo system_info();

}  // namespace gramian::cuda
