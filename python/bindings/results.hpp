// What every binding does with results: the type of figures, arrays of them, errors.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "dlpack.hpp"
#include "gramian/status.hpp"

namespace gramian::python {

/// The type of figures about arrays of this type.
inline DType figures_of(DType type) { return is_double(type) ? DType::float64 : DType::float32; }

inline void raise_for(Status status, const char* name) {
  switch (status) {
    case Status::ok:
      return;
    case Status::not_finite:
      throw py::value_error(std::string(name) +
                            " contains NaN or infinity; pass check_finite=False to let it through");
    case Status::out_of_memory:
      PyErr_NoMemory();
      throw py::error_already_set();
  }
}

/// An array of one figure for each matrix of the batch; absent where none was passed.
inline ArrayRef figures(const std::optional<Array>& from, const char* name, const ArrayRef& of) {
  if (!from) return {};
  ArrayRef out = from->ref(name, figures_of(of.dtype), true);
  if (!std::equal(out.shape.begin(), out.shape.end(), of.shape.begin(), of.shape.end() - 2))
    throw py::value_error(std::string(name) + " must hold one figure for each matrix");
  return out;
}

}  // namespace gramian::python
