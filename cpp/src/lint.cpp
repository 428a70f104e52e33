// What a table does to singular values. No sampling: the image of an interval under a continuous
// map is an interval, so ranges go through the rows one by one by each row's own critical points,
// and sign changes are pulled back row by row through monotone pieces.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "gramian/coefficients.hpp"

namespace gramian {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
// Values past this count as infinite; its fifth power is still finite in double for any sensible
// coefficient.
constexpr double far_away = 1e50;
constexpr std::size_t max_intervals = 4096;

struct CriticalPoints {
  std::array<double, 4> at{};  // in no order; each with its negative
  std::size_t count = 0;
};

// Real zeros of p' = a + 3b z + 5c z^2, z = x^2.
CriticalPoints critical_points(const Row& row) {
  const double a = row.a;
  const double b = 3.0 * row.b;
  const double c = 5.0 * row.c;
  std::array<double, 2> z{-1.0, -1.0};
  if (c == 0.0) {
    if (b != 0.0) z[0] = -a / b;
  } else if (const double discriminant = b * b - 4.0 * a * c; discriminant >= 0.0) {
    const double w = -0.5 * (b + std::copysign(std::sqrt(discriminant), b));
    z[0] = w / c;
    if (w != 0.0) z[1] = a / w;
  }
  CriticalPoints points;
  for (const double root : z) {
    if (!(root > 0.0) || !std::isfinite(root)) continue;
    points.at[points.count++] = std::sqrt(root);
    points.at[points.count++] = -std::sqrt(root);
  }
  return points;
}

double clamped(double value) {
  if (std::isnan(value)) return far_away;
  return std::clamp(value, -far_away, far_away);
}

Interval image(const Row& row, Interval domain) {
  const double first = clamped(evaluate(row, domain.lower));
  Interval range{first, first};
  const auto include = [&](double x) {
    const double y = clamped(evaluate(row, x));
    range.lower = std::min(range.lower, y);
    range.upper = std::max(range.upper, y);
  };
  include(domain.upper);
  const CriticalPoints points = critical_points(row);
  for (std::size_t i = 0; i < points.count; ++i) {
    if (domain.lower < points.at[i] && points.at[i] < domain.upper) include(points.at[i]);
  }
  return range;
}

// The x in [x0, x1] where the row, monotone there, takes the value y (which lies between its end
// values).
double solve_monotone(const Row& row, double x0, double x1, bool rising, double y) {
  for (int i = 0; i < 2000; ++i) {
    const double middle = x0 + 0.5 * (x1 - x0);
    if (!(x0 < middle && middle < x1)) break;
    (evaluate(row, middle) < y) == rising ? x0 = middle : x1 = middle;
  }
  return x0 + 0.5 * (x1 - x0);
}

// Sorts, joins what overlaps or touches; past the cap joins neighbours, which reports too much
// rather than too little.
void merge(std::vector<Interval>& set) {
  std::sort(set.begin(), set.end(),
            [](const Interval& p, const Interval& q) { return p.lower < q.lower; });
  std::vector<Interval> merged;
  for (const Interval& part : set) {
    const double slack = 4.0 * std::numeric_limits<double>::epsilon() * std::abs(part.lower);
    if (!merged.empty() && part.lower <= merged.back().upper + slack) {
      merged.back().upper = std::max(merged.back().upper, part.upper);
    } else {
      merged.push_back(part);
    }
  }
  while (merged.size() > max_intervals) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < merged.size(); i += 2) {
      merged[kept++] = {merged[i].lower, merged[std::min(i + 1, merged.size() - 1)].upper};
    }
    merged.resize(kept);
  }
  set = std::move(merged);
}

// The x in `domain` that the row sends into `target`.
std::vector<Interval> preimage(const Row& row, const std::vector<Interval>& target,
                               Interval domain) {
  std::vector<double> cuts{domain.lower, domain.upper};
  if (domain.lower < 0.0 && 0.0 < domain.upper)
    cuts.push_back(0.0);  // p(0) = 0 exactly: no bisection noise there
  const CriticalPoints points = critical_points(row);
  for (std::size_t i = 0; i < points.count; ++i) {
    if (domain.lower < points.at[i] && points.at[i] < domain.upper) cuts.push_back(points.at[i]);
  }
  std::sort(cuts.begin(), cuts.end());
  std::vector<Interval> out;
  for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
    const double x0 = cuts[i];
    const double x1 = cuts[i + 1];
    const double y0 = clamped(evaluate(row, x0));
    const double y1 = clamped(evaluate(row, x1));
    const bool rising = y0 < y1;
    const double low = std::min(y0, y1);
    const double high = std::max(y0, y1);
    for (const Interval& part : target) {
      const double from = std::max(low, part.lower);
      const double to = std::min(high, part.upper);
      if (!(from < to)) continue;
      const double at_from =
          from == low ? (rising ? x0 : x1) : solve_monotone(row, x0, x1, rising, from);
      const double at_to =
          to == high ? (rising ? x1 : x0) : solve_monotone(row, x0, x1, rising, to);
      if (at_from != at_to) out.push_back({std::min(at_from, at_to), std::max(at_from, at_to)});
    }
  }
  merge(out);
  return out;
}

// max |p| over [0, reach]. Odd rows: an interval that holds 0 reaches as far on either side as its
// farther end.
double reach_after(const Row& row, double reach) {
  const Interval range = image(row, {0.0, reach});
  return std::max(-range.lower, range.upper);
}

bool bounded(std::span<const Row> rows, double reach) {
  for (const Row& row : rows) {
    reach = reach_after(row, reach);
    if (reach >= far_away) return false;
  }
  // Once an image does not grow the interval is invariant. Growth is monotone from then on, so it
  // either settles or runs away; only next to a fixed point of slope 1 does it take its time.
  for (int i = 0; i < 4000; ++i) {
    const double next = reach_after(rows.back(), reach);
    if (next <= reach) return true;
    if (next >= far_away) return false;
    reach = next;
  }
  return true;
}

// A conditioning of Q that half precision bears. Measured with float16 storage (n = 256): errors of
// 0.02 to 0.1 of the norm for 40 to 90, 0.2 to 1 for 250 to 450.
constexpr double sound_condition = 150.0;

std::vector<int> recommended_restarts(std::span<const Row> rows) {
  std::vector<int> restarts;
  const int steps = static_cast<int>(rows.size());
  if (steps > 64) {  // nobody's table; the search would take minutes
    for (int t = 2; t < steps; t += 2) restarts.push_back(t);
    return restarts;
  }
  for (int count = 1; count < std::min(steps, 9); ++count) {
    if (gram_condition(rows, restarts, half_precision_delta) <= sound_condition) break;
    restarts = best_restarts(rows, half_precision_delta, count);
  }
  return restarts;
}

}  // namespace

double evaluate(std::span<const Row> rows, double x) noexcept {
  for (const Row& row : rows) x = evaluate(row, x);
  return x;
}

Interval composed_range(std::span<const Row> rows, double lower, double upper) {
  Interval range{lower, upper};
  for (const Row& row : rows) range = image(row, range);
  if (range.lower <= -far_away) range.lower = -infinity;
  if (range.upper >= far_away) range.upper = infinity;
  return range;
}

std::vector<Interval> sign_flips(std::span<const Row> rows) {
  std::vector<Interval> domains{{0.0, 1.0}};  // domains[t]: what reaches row t from [0, 1]
  for (const Row& row : rows) domains.push_back(image(row, domains.back()));
  std::vector<Interval> set{{-infinity, 0.0}};
  for (std::size_t t = rows.size(); t-- > 0 && !set.empty();)
    set = preimage(rows[t], set, domains[t]);
  return set;
}

double divergence_margin(std::span<const Row> rows) {
  if (rows.empty()) return infinity;
  if (!bounded(rows, 1.0)) return 0.0;
  if (bounded(rows, 2.0)) return infinity;
  double safe = 0.0;
  double unsafe = 1.0;
  for (int i = 0; i < 52; ++i) {
    const double middle = 0.5 * (safe + unsafe);
    (bounded(rows, 1.0 + middle) ? safe : unsafe) = middle;
  }
  return safe;
}

LintReport lint(std::span<const Row> rows, double lower) {
  LintReport report;
  const Interval range = composed_range(rows, lower, 1.0);
  report.lower = range.lower;
  report.upper = range.upper;
  report.sign_flips = sign_flips(rows);
  report.divergence_margin = divergence_margin(rows);
  report.restarts = recommended_restarts(rows);
  return report;
}

}  // namespace gramian
