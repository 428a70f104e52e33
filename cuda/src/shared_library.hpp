// NVIDIA's libraries, found and loaded when they are first needed: gramian neither links to them
// nor bundles them, and runs on the copies that torch or CuPy have loaded already, if there are
// any.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "gramian/cuda/queue.hpp"

namespace gramian::cuda {

/// Where to look besides the process and the loader's own path. For calls to come; a library that
/// is loaded stays.
void set_library_directories(std::vector<std::string> directories);

class SharedLibrary {
 public:
  using Names = std::initializer_list<const char*>;

  /// `names`: file names, the latest version first. `parts`: of libraries that these need, which
  /// their own search path need not find; once loaded they count. Throws Error, naming the package
  /// that provides the library and what was tried, if none can be loaded.
  SharedLibrary(Names names, Names parts, const char* package);

  /// Throws Error if the library lacks it.
  template <class F>
  void resolve(F& function, const char* name) const {
    function = reinterpret_cast<F>(find(name));
  }

 private:
  void* find(const char* name) const;

  std::string name_;
  void* handle_ = nullptr;
};

/// Lets this thread allocate although some stream is being captured: a library's new handle may.
class RelaxedCapture {
 public:
  RelaxedCapture();
  ~RelaxedCapture();
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

}  // namespace gramian::cuda
