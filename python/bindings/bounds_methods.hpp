// Names of the methods of spectral_norm_bounds.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <string_view>
#include <utility>

#include "gramian/bounds.hpp"

namespace gramian::python {

inline constexpr std::pair<const char*, BoundsMethod> bounds_methods[] = {
    {"auto", BoundsMethod::automatic},
    {"gram", BoundsMethod::gram},
    {"cholesky", BoundsMethod::cholesky},
    {"eigh", BoundsMethod::eigh}};

inline BoundsMethod method_from(std::string_view name) {
  for (const auto& [known, method] : bounds_methods)
    if (name == known) return method;
  throw pybind11::value_error("unknown method " + std::string(name));
}

inline const char* name_of(BoundsMethod method) {
  for (const auto& [name, known] : bounds_methods)
    if (method == known) return name;
  return "unknown";
}

}  // namespace gramian::python
