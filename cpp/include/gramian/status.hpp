// How a call ended. Kernels return it; only the Python binding turns it into an exception.
#pragma once

namespace gramian {

enum class Status {
  ok,
  not_finite,     // the input holds NaN or infinity and was to be checked; no output was touched
  out_of_memory,  // no output was touched
};

}  // namespace gramian
