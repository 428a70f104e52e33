// Where the Gram form has to restart, by simulating it on single eigenvalues.
//
// The Gram form squares the singular values, so an eigenvalue error delta of R = X X^H swamps
// everything under sqrt(|delta|): such eigenvalues come out slightly negative, z = a + b r + c r^2
// exceeds a there, and r <- r z^2 grows them by more than a^2 a step. A restart forms R afresh from
// the singular values that have grown meanwhile. Model: r = x^2 + delta, then q <- q z, r <- r z^2
// (Zhang, Amsel, Chen, Dao 2026).
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "gramian/coefficients.hpp"

namespace gramian {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr std::size_t samples = 201;  // x in logspace(0, -10)
constexpr std::size_t max_exhaustive =
    2000;  // sets of restarts tried one by one; past that, greedily

struct State {
  std::array<double, samples> x;
  std::array<double, samples> r;
  std::array<double, samples> q;
  double condition = 1.0;  // the largest so far
};

void restart(State& state, double delta) {
  for (std::size_t i = 0; i < samples; ++i) {
    state.x[i] *= state.q[i];
    state.r[i] = state.x[i] * state.x[i] + delta;
    state.q[i] = 1.0;
  }
}

void step(State& state, const Row& row) {
  double largest = 0.0;
  double smallest = infinity;
  for (std::size_t i = 0; i < samples; ++i) {
    const double r = state.r[i];
    const double z = row.a + r * (row.b + r * row.c);
    state.q[i] *= z;
    state.r[i] = r * z * z;
    const double size = std::abs(state.q[i]);
    largest = std::max(largest, size);
    smallest = std::min(smallest, size);
    if (!std::isfinite(state.r[i]) || !std::isfinite(size)) largest = infinity;
  }
  const double condition = largest / smallest;
  state.condition = std::isfinite(condition) ? std::max(state.condition, condition) : infinity;
}

State start(double delta) {
  State state;
  for (std::size_t i = 0; i < samples; ++i) {
    state.x[i] = std::pow(10.0, -10.0 * static_cast<double>(i) / static_cast<double>(samples - 1));
    state.q[i] = 1.0;
  }
  restart(state, delta);
  return state;
}

// Tries every set of `left` further restarts after the ones in `chosen`; states are shared along
// the prefix.
struct Search {
  std::span<const Row> rows;
  double delta;
  double best = infinity;
  std::vector<int> best_set;
  std::vector<int> chosen;

  void run(const State& at, int next, int left) {
    const int steps = static_cast<int>(rows.size());
    State state = at;
    for (int t = next; t < steps; ++t) {
      if (left > 0 && t >= 1 && (chosen.empty() || t > chosen.back())) {
        State fresh = state;
        restart(fresh, delta);
        chosen.push_back(t);
        run_after(fresh, t, left - 1);
        chosen.pop_back();
      }
      if (left > 0 && steps - t <= left) return;  // not enough steps left for the other restarts
      step(state, rows[static_cast<std::size_t>(t)]);
    }
    if (left == 0 && (best_set.empty() || state.condition < best)) {
      best = state.condition;
      best_set = chosen;
    }
  }

  void run_after(State& fresh, int t, int left) {
    step(fresh, rows[static_cast<std::size_t>(t)]);
    run(fresh, t + 1, left);
  }
};

// An eigenvalue error also lifts singular values past the interval that a minimax row is made for,
// x/sqrt(x^2 + delta) at the lowest x that one row carries to its peak (about 0.06), and a raw
// table diverges from there whatever the restarts. That is the safety factor's business; 1.05 is
// what half precision (delta = -4e-4) is known to need. The search takes it for granted, so that it
// compares restarts and not two ways to diverge.
std::vector<Row> with_safety(std::span<const Row> rows, double delta) {
  const double s = 1.0 + 125.0 * std::abs(delta);
  const double s3 = s * s * s;
  std::vector<Row> safe(rows.begin(), rows.end());
  for (Row& row : safe) row = {row.a / s, row.b / s3, row.c / (s3 * s * s)};
  return safe;
}

double simulated_condition(std::span<const Row> rows, std::span<const int> restarts, double delta) {
  State state = start(delta);
  for (std::size_t t = 0; t < rows.size(); ++t) {
    if (std::find(restarts.begin(), restarts.end(), static_cast<int>(t)) != restarts.end())
      restart(state, delta);
    step(state, rows[t]);
  }
  return state.condition;
}

double combinations(int n, int k) {
  double value = 1.0;
  for (int i = 1; i <= k; ++i) value = value * (n - k + i) / i;
  return value;
}

// `sorted` restarts of a table of `steps` rows; some index between is free.
int middle_of_widest_gap(const std::vector<int>& sorted, int steps) {
  int low = 0;
  int widest = 0;
  int middle = 0;
  const auto consider = [&](int high) {
    if (high - low > widest) {
      widest = high - low;
      middle = low + widest / 2;
    }
    low = high;
  };
  for (const int place : sorted) consider(place);
  consider(steps);
  return middle;
}

}  // namespace

double gram_condition(std::span<const Row> rows, std::span<const int> restarts, double delta) {
  return simulated_condition(with_safety(rows, delta), restarts, delta);
}

std::vector<int> best_restarts(std::span<const Row> rows, double delta, int count) {
  const int places = static_cast<int>(rows.size()) - 1;
  count = std::min(count, places);
  if (count <= 0) return {};
  const std::vector<Row> safe = with_safety(rows, delta);
  if (combinations(places, count) <= static_cast<double>(max_exhaustive)) {
    Search search{safe, delta, infinity, {}, {}};
    search.run(start(delta), 0, count);
    if (std::isfinite(search.best)) return search.best_set;
    std::vector<int> even;  // too few for this table wherever they go
    for (int i = 1; i <= count; ++i) even.push_back(i * (places + 1) / (count + 1));
    return even;
  }
  // Long tables: one restart at a time, each where it helps most, or into the widest gap while
  // nothing helps yet.
  std::vector<int> set;
  while (static_cast<int>(set.size()) < count) {
    int best_place = 0;
    double best = infinity;
    for (int place = 1; place <= places; ++place) {
      if (std::find(set.begin(), set.end(), place) != set.end()) continue;
      set.push_back(place);
      const double condition = simulated_condition(safe, set, delta);
      set.pop_back();
      if (condition < best) {
        best_place = place;
        best = condition;
      }
    }
    set.push_back(std::isfinite(best) ? best_place : middle_of_widest_gap(set, places + 1));
    std::sort(set.begin(), set.end());
  }
  return set;
}

double gram_error(std::span<const Row> rows, std::span<const int> restarts, double delta) {
  // Each fresh Gram matrix may err either way; all sign patterns are tried up to four Gram
  // matrices, later ones repeat the signs of the first four.
  constexpr std::size_t upper_points = 192;  // over [1e-2, 1], where the map oscillates
  constexpr std::size_t points = upper_points + 96;
  const double size = std::abs(delta);
  // Under sqrt(delta) the map is linear in x until growth brings x back to that size: four decades
  // cover any restart that a growth of 1e4 precedes.
  constexpr double split = 1e-2;
  const double smallest = std::clamp(1e-4 * std::sqrt(size), 1e-12, 0.5 * split);
  const double upper_ratio = std::pow(split, 1.0 / static_cast<double>(upper_points - 1));
  const double lower_ratio =
      std::pow(smallest / split, 1.0 / static_cast<double>(points - upper_points));
  std::array<double, points> start_x;
  std::array<double, points> exact;
  double value = 1.0;
  for (std::size_t i = 0; i < points; ++i) {
    start_x[i] = value;
    exact[i] = evaluate(rows, value);
    value *= i + 1 < upper_points ? upper_ratio : lower_ratio;
  }
  const std::size_t patterns = std::size_t{1} << std::min<std::size_t>(restarts.size() + 1, 4);
  double worst = 0.0;
  for (std::size_t pattern = 0; pattern < patterns; ++pattern) {
    std::array<double, points> x = start_x;
    std::array<double, points> r;
    std::array<double, points> q;
    std::size_t fresh = 0;
    std::size_t next = 0;
    const auto form_gram = [&] {
      const double shift = (pattern >> (fresh++ % 4)) & 1U ? size : -size;
      for (std::size_t i = 0; i < points; ++i) {
        r[i] = x[i] * x[i] + shift;
        q[i] = 1.0;
      }
    };
    form_gram();
    for (std::size_t t = 0; t < rows.size(); ++t) {
      if (next < restarts.size() && restarts[next] == static_cast<int>(t)) {
        ++next;
        for (std::size_t i = 0; i < points; ++i) x[i] *= q[i];
        form_gram();
      }
      const Row row = rows[t];
      for (std::size_t i = 0; i < points; ++i) {
        const double z = row.a + r[i] * (row.b + r[i] * row.c);
        q[i] *= z;
        r[i] *= z * z;
      }
    }
    for (std::size_t i = 0; i < points; ++i) {
      const double error = std::abs(x[i] * q[i] - exact[i]);
      if (!std::isfinite(error)) return infinity;
      worst = std::max(worst, error);
    }
  }
  return worst;
}

}  // namespace gramian
