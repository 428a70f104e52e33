// gramian._cpu: coefficient tables.
#include <pybind11/pybind11.h>

#include <string>
#include <tuple>
#include <vector>

#include "gramian/coefficients.hpp"
#include "released_gil.hpp"
#include "table.hpp"

namespace gramian::python {

namespace py = pybind11;

namespace {

using PyRow = std::tuple<double, double, double>;

std::vector<PyRow> from_rows(const std::vector<gramian::Row>& rows) {
  std::vector<PyRow> table;
  table.reserve(rows.size());
  for (const gramian::Row& row : rows) table.emplace_back(row.a, row.b, row.c);
  return table;
}

gramian::PresetScale to_scale(const std::string& normalization) {
  if (normalization == "schatten") return gramian::PresetScale::schatten;
  if (normalization == "frobenius") return gramian::PresetScale::frobenius;
  throw py::value_error("normalization='" + normalization +
                        "' is unknown; allowed: 'schatten', 'frobenius'");
}

void check_steps(int steps) {
  if (steps < 1)
    throw py::value_error("steps=" + std::to_string(steps) +
                          " is not allowed; steps must be at least 1");
}

std::vector<PyRow> coefficients_table(const std::string& name, int steps,
                                      const std::string& normalization) {
  check_steps(steps);
  const auto rows = gramian::preset_table(name, steps, to_scale(normalization));
  if (!rows) {
    std::string message = "name='" + name + "' is unknown; allowed:";
    const char* separator = " ";
    for (const auto known : gramian::preset_names()) {
      message.append(separator).append("'").append(known).append("'");
      separator = ", ";
    }
    throw py::value_error(message);
  }
  return from_rows(*rows);
}

std::vector<PyRow> polar_express(double lower, int steps, double cushion, double safety) {
  const auto rows = gramian::polar_express(lower, steps, cushion, safety);
  if (rows.empty()) {
    throw py::value_error("lower=" + std::to_string(lower) + ", steps=" + std::to_string(steps) +
                          ", cushion=" + std::to_string(cushion) +
                          ", safety=" + std::to_string(safety) +
                          ": needs 0 < lower < 1, steps >= 1, 0 <= cushion < 1, safety >= 1");
  }
  return from_rows(rows);
}

std::vector<std::string> preset_names() {
  const auto names = gramian::preset_names();
  return {names.begin(), names.end()};
}

py::tuple lint_table(const PyTable& table, double lower) {
  if (!(lower > 0.0 && lower < 1.0)) {
    throw py::value_error("lower=" + std::to_string(lower) +
                          " is not allowed; needs 0 < lower < 1");
  }
  const std::vector<Row> rows = to_rows(table);
  gramian::LintReport report;
  {
    const ReleasedGil released;  // long tables take a while
    report = gramian::lint(rows, lower);
  }
  std::vector<std::tuple<double, double>> flips;
  for (const auto& [low, high] : report.sign_flips) flips.emplace_back(low, high);
  return py::make_tuple(report.lower, report.upper, flips, report.divergence_margin,
                        report.restarts);
}

}  // namespace

void bind_coefficients(py::module_& m) {
  m.def("coefficients_names", &preset_names);
  m.def("coefficients_table", &coefficients_table, py::arg("name"), py::arg("steps"),
        py::arg("normalization") = "schatten");
  m.def(
      "coefficients_lower",
      [](int steps, const std::string& normalization) {
        check_steps(steps);
        return gramian::preset_lower(steps, to_scale(normalization));
      },
      py::arg("steps"), py::arg("normalization") = "schatten");
  m.attr("coefficients_safety") = gramian::preset_safety;
  m.def("polar_express", &polar_express, py::arg("lower"), py::arg("steps"), py::arg("cushion"),
        py::arg("safety"));
  m.def("lint_table", &lint_table, py::arg("table"), py::arg("lower"));
  m.def(
      "best_restarts",
      [](const PyTable& table, double delta, int count) {
        return gramian::best_restarts(to_rows(table), delta, count);
      },
      py::arg("table"), py::arg("delta"), py::arg("count"));
  m.def(
      "gram_condition",
      [](const PyTable& table, const std::vector<int>& restarts, double delta) {
        return gramian::gram_condition(to_rows(table), restarts, delta);
      },
      py::arg("table"), py::arg("restarts"), py::arg("delta"));
  m.def(
      "gram_error",
      [](const PyTable& table, const std::vector<int>& restarts, double delta) {
        return gramian::gram_error(to_rows(table), restarts, delta);
      },
      py::arg("table"), py::arg("restarts"), py::arg("delta"));
}

}  // namespace gramian::python
