// What the CPU and the CUDA binding of newton_schulz take and return alike.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "gramian/newton_schulz.hpp"
#include "results.hpp"
#include "table.hpp"

namespace gramian::python {

/// None for "auto".
inline std::optional<NewtonSchulzMethod> to_method(const std::string& name) {
  if (name == "standard") return NewtonSchulzMethod::standard;
  if (name == "gram") return NewtonSchulzMethod::gram;
  return std::nullopt;
}

inline Normalization to_normalization(const std::string& name) {
  if (name == "schatten") return Normalization::schatten;
  if (name == "frobenius") return Normalization::frobenius;
  if (name == "bound") return Normalization::bound;
  throw py::value_error("unknown normalization " + name);
}

inline py::tuple to_tuple(const NewtonSchulzPlan& plan) {
  return py::make_tuple(plan.method == NewtonSchulzMethod::gram ? "gram" : "standard",
                        py::tuple(py::cast(plan.restarts)));
}

/// The options of either library, but for the precision.
template <class Options>
Options to_options(const PyTable& table, const std::string& normalization, double bound,
                   const std::string& method, const std::vector<int>& restarts, bool check_finite) {
  Options options;
  options.table = to_rows(table);
  options.normalization = to_normalization(normalization);
  options.bound = bound;
  options.plan = {to_method(method).value_or(NewtonSchulzMethod::standard), restarts};
  options.check_finite = check_finite;
  return options;
}

}  // namespace gramian::python
