// Lets other Python threads run while a kernel computes.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

namespace gramian::python {

/// A daemon thread whose kernel returns while the interpreter shuts down must not go on. CPython
/// up to 3.13 ends it there by pthread_exit, which glibc carries out as an exception: it would
/// abort the process at the first destructor, pybind11's gil_scoped_release among them, and objects
/// would be released without the GIL on its way. So the thread stops for good where it is, as
/// CPython from 3.14 on has it stop.
class ReleasedGil {
 public:
  ReleasedGil() : thread_(PyEval_SaveThread()) {}
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;

  ~ReleasedGil() {
    try {
      PyEval_RestoreThread(thread_);
    } catch (...) {
      for (;;) pause();
    }
  }

 private:
  PyThreadState* thread_;
};

}  // namespace gramian::python
