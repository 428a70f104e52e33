#include "shared_library.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <mutex>
#include <utility>

namespace gramian::cuda {

namespace {

struct Directories {
  std::mutex mutex;
  std::vector<std::string> list;
};

/// Never destroyed: threads may still ask while the process ends.
Directories& directories() {
  static Directories* const it = new Directories;
  return *it;
}

void* open(const std::string& path, std::string& tried) {
  void* const found = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  const char* const error = found ? nullptr : dlerror();
  if (!found) tried += "\n  " + (error ? std::string(error) : path);
  return found;
}

}  // namespace

void set_library_directories(std::vector<std::string> list) {
  Directories& d = directories();
  const std::lock_guard lock(d.mutex);
  d.list = std::move(list);
}

SharedLibrary::SharedLibrary(Names names, Names parts, const char* package)
    : name_(*names.begin()) {
  for (const char* name : names) {
    handle_ = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    if (handle_) return;
  }
  std::vector<std::string> places;
  {
    Directories& d = directories();
    const std::lock_guard lock(d.mutex);
    for (const std::string& directory : d.list) places.push_back(directory + "/");
  }
  // The loader's own path, then where toolkits are installed.
  places.emplace_back();
  places.emplace_back("/usr/local/cuda/lib64/");
  std::string tried;
  for (const std::string& place : places) {
    for (const char* name : names) {
      if (!place.empty() && access((place + name).c_str(), F_OK) == 0)
        for (const char* part : parts)
          if (!dlopen(part, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD))
            dlopen((place + part).c_str(), RTLD_NOW | RTLD_LOCAL);
      handle_ = open(place + name, tried);
      if (handle_) return;
    }
  }
  throw Error(name_ + " was not found; `pip install " + package + "` provides it. Tried:" + tried);
}

void* SharedLibrary::find(const char* name) const {
  void* const found = dlsym(handle_, name);
  if (!found) throw Error(name_ + " lacks the function " + name);
  return found;
}

RelaxedCapture::RelaxedCapture() {
  check(cudaThreadExchangeStreamCaptureMode(&mode_), "capture mode");
}

RelaxedCapture::~RelaxedCapture() {
  if (cudaThreadExchangeStreamCaptureMode(&mode_) != cudaSuccess) cudaGetLastError();
}

}  // namespace gramian::cuda
