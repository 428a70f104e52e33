// Coefficient tables of the quintic Newton-Schulz step X <- aX + (bA + cA^2)X, A = X X^H: presets,
// minimax rows (Polar Express), what a table does to singular values (lint), and where the Gram
// form has to restart. Everything here is scalar work in double: a table acts on each singular
// value on its own.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace gramian {

// One step acts on a singular value x as p(x) = a x + b x^3 + c x^5.
struct Row {
  double a = 0.0;
  double b = 0.0;
  double c = 0.0;
};

[[nodiscard]] constexpr double evaluate(const Row& row, double x) noexcept {
  const double z = x * x;
  return x * (row.a + z * (row.b + z * row.c));
}

// The composed map: the rows in order.
[[nodiscard]] double evaluate(std::span<const Row> rows, double x) noexcept;

inline constexpr double default_cushion = 0.02407;

// Minimax odd quintics, composed (Amsel, Persson, Musco, Gower 2025, arXiv 2505.16932). `lower`
// bounds the singular values that the table is made for, which lie in [lower, 1]; `safety` lets
// every row but the last take arguments a factor `safety` larger. Needs 0 < lower < 1, steps >= 1,
// 0 <= cushion < 1, safety >= 1; returns no rows otherwise.
[[nodiscard]] std::vector<Row> polar_express(double lower, int steps,
                                             double cushion = default_cushion, double safety = 1.0);

// What the matrix is divided by before step one. A known bound on the norm counts as `schatten`.
enum class PresetScale { schatten, frobenius };

// Lower end and safety factor that the preset "polar_express" uses for this number of steps (steps
// >= 1).
[[nodiscard]] double preset_lower(int steps, PresetScale scale) noexcept;
inline constexpr double preset_safety = 1.01;

[[nodiscard]] std::span<const std::string_view> preset_names() noexcept;

// Exactly `steps` rows: a shorter table repeats its last row, a longer one is cut. No value: the
// name is unknown or steps < 1.
[[nodiscard]] std::optional<std::vector<Row>> preset_table(
    std::string_view name, int steps, PresetScale scale = PresetScale::schatten);

// Gram form: a restart before step t means X <- QX, R <- X X^H, Q <- I there; indices lie in [1,
// steps).
//
// Restarts that keep the accumulated Q best conditioned when every fresh Gram matrix has its
// eigenvalues moved by `delta` (negative: what rounding does at worst). Sorted; min(count, steps -
// 1) of them.
[[nodiscard]] std::vector<int> best_restarts(std::span<const Row> rows, double delta, int count);

// max over steps of cond(Q_t) in that model, which gives the rows the safety factor that `delta`
// asks for (1.05 at -4e-4); infinite where Q turns singular or overflows. Measured errors of the
// Gram form follow it.
[[nodiscard]] double gram_condition(std::span<const Row> rows, std::span<const int> restarts,
                                    double delta);

// A-priori model of the Gram form's error: the largest |p_gram(x) - p(x)| over x in [0, 1] when
// every fresh Gram matrix has its eigenvalues moved by +-delta. Infinite where the model overflows.
// `restarts` sorted.
[[nodiscard]] double gram_error(std::span<const Row> rows, std::span<const int> restarts,
                                double delta);

// Eigenvalue error of a fresh Gram matrix in half precision, relative to its norm; lint's restarts
// are made for it.
inline constexpr double half_precision_delta = -4e-4;

struct Interval {
  double lower = 0.0;
  double upper = 0.0;
};

struct LintReport {
  double lower = 0.0;  // range of the composed map over [lower argument, 1]
  double upper = 0.0;
  std::vector<Interval> sign_flips;  // parts of (0, 1] that the composed map sends below 0
  double divergence_margin = 0.0;    // see divergence_margin()
  std::vector<int> restarts;         // fewest restarts that hold in half precision
};

// Range of the composed map over [lower, upper].
[[nodiscard]] Interval composed_range(std::span<const Row> rows, double lower, double upper);

// The parts of (0, 1] that the composed map sends below zero, sorted and disjoint.
[[nodiscard]] std::vector<Interval> sign_flips(std::span<const Row> rows);

// The largest t >= 0 such that every x in [0, 1 + t] stays bounded under the rows and then under
// the last row repeated for ever; infinite if t = 1 still does, 0 if x = 1 (or a smaller x) does
// not.
[[nodiscard]] double divergence_margin(std::span<const Row> rows);

[[nodiscard]] LintReport lint(std::span<const Row> rows, double lower = 1e-3);

}  // namespace gramian
