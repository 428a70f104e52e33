// A coefficient table as Python passes it.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <vector>

#include "gramian/coefficients.hpp"

namespace gramian::python {

using PyTable = std::vector<std::array<double, 3>>;

inline std::vector<Row> to_rows(const PyTable& table) {
  std::vector<Row> rows;
  rows.reserve(table.size());
  for (const auto& [a, b, c] : table) rows.push_back({a, b, c});
  if (rows.empty())
    throw pybind11::value_error("table has no rows; at least one (a, b, c) is needed");
  return rows;
}

}  // namespace gramian::python
