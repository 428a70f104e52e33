// Minimax odd quintics on an interval, and their greedy composition.
//
// Amsel, Persson, Musco, Gower, "The Polar Express: Optimal Matrix Sign Methods and Their
// Application to the Muon Algorithm", 2025, arXiv 2505.16932: composing the best odd quintic of
// each step's interval gives the best composition. Remez itself is arranged here so that no step
// cancels: see minimax_quintic.
#include <algorithm>
#include <array>
#include <cmath>

#include "gramian/coefficients.hpp"

namespace gramian {
namespace {

// Above this ratio of the interval's ends the minimax error is under 3e-16 and the Taylor
// polynomial is as good.
constexpr double taylor_ratio = 1.0 - 5e-6;
constexpr int max_exchanges = 60;

struct Quintic {
  Row row;
  double error;
};

// The odd quintic p with p(x_i) = 1 - E, 1 + E, 1 - E, 1 + E at four points 0 < x0 < x1 < x2 < x3.
//
// With z = x^2 and p(x) = x g(z), g is the quadratic that takes the values (1 -+ E)/x_i at the z_i.
// E makes the third divided difference over the z_i vanish: [1/x] + E [s/x] = 0. Two things keep
// full relative accuracy even where E ~ 1e-16 (points close together) or 1 - E ~ 1e-12 (x0 tiny):
//  * divided differences of 1/x = z^(-1/2) are written as quotients of sums of positive terms
//  (Schur polynomials):
//    -1/(x0x1(x0+x1)), (x0+x1+x2)/(x0x1x2 prod(xi+xj)), -s21(x)/(prod x prod(xi+xj));
//  * g is interpolated from x1, x2, x3 alone, so that (1 - E)/x0 is never formed.
Quintic interpolate(const std::array<double, 4>& x) {
  std::array<double, 4> z{};
  std::transform(x.begin(), x.end(), z.begin(), [](double v) { return v * v; });
  constexpr std::array<double, 4> sign{-1.0, 1.0, -1.0, 1.0};

  double pair_sums = 1.0;
  double e2 = 0.0;
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      pair_sums *= x[i] + x[j];
      e2 += x[i] * x[j];
    }
  }
  const double e1 = x[0] + x[1] + x[2] + x[3];
  const double e3 = x[0] * x[1] * (x[2] + x[3]) + x[2] * x[3] * (x[0] + x[1]);
  // s21 = e1 e2 - e3 has no cancellation to speak of: e1 e2 holds e3 three times.
  const double base3 = -(e1 * e2 - e3) / (x[0] * x[1] * x[2] * x[3] * pair_sums);
  double alternating3 = 0.0;  // every term is positive
  for (std::size_t i = 0; i < 4; ++i) {
    double d = x[i];
    for (std::size_t j = 0; j < 4; ++j) {
      if (j != i) d *= z[i] - z[j];
    }
    alternating3 += sign[i] / d;
  }
  const double error = -base3 / alternating3;

  // Newton's form on x3, x2, x1: the smooth part in closed form plus E times the alternating part.
  const auto base1 = [&](std::size_t i, std::size_t j) {
    return -1.0 / (x[i] * x[j] * (x[i] + x[j]));
  };
  const auto alternating1 = [&](std::size_t i, std::size_t j) {
    return (sign[j] / x[j] - sign[i] / x[i]) / ((x[j] - x[i]) * (x[j] + x[i]));
  };
  const double base2 =
      (x[1] + x[2] + x[3]) / (x[1] * x[2] * x[3] * (x[1] + x[2]) * (x[1] + x[3]) * (x[2] + x[3]));
  const double alternating2 =
      (alternating1(1, 2) - alternating1(2, 3)) / ((x[1] - x[3]) * (x[1] + x[3]));
  const double g0 = (1.0 + error) / x[3];
  const double g1 = base1(2, 3) + error * alternating1(2, 3);
  const double g2 = base2 + error * alternating2;
  return {{g0 - g1 * z[3] + g2 * z[3] * z[2], g1 - g2 * (z[3] + z[2]), g2}, error};
}

// The best odd quintic to 1 on [lower, upper], lower > 0.
Row minimax_quintic(double lower, double upper) {
  const double u2 = upper * upper;
  const double u3 = upper * u2;
  const double u5 = u3 * u2;
  const double ratio = lower / upper;
  if (ratio > taylor_ratio) return {15.0 / 8.0 / upper, -10.0 / 8.0 / u3, 3.0 / 8.0 / u5};
  // Remez on [ratio, 1]: the interior extrema are the roots of p' = a + 3bz + 5cz^2, so each
  // exchange is exact.
  std::array<double, 4> x{ratio, (3.0 * ratio + 1.0) / 4.0, (ratio + 3.0) / 4.0, 1.0};
  Row row;
  for (int i = 0; i < max_exchanges; ++i) {
    row = interpolate(x).row;
    const double discriminant = 9.0 * row.b * row.b - 20.0 * row.a * row.c;
    if (!(discriminant > 0.0)) break;  // the two extrema met within rounding
    const double large = (-3.0 * row.b + std::sqrt(discriminant)) / (10.0 * row.c);
    const double small = row.a / (5.0 * row.c * large);
    const double q = std::sqrt(small);
    const double r = std::sqrt(large);
    if (!(ratio < q && q < r && r < 1.0)) break;
    const bool settled = std::abs(q - x[1]) + std::abs(r - x[2]) <= 1e-14;
    x[1] = q;
    x[2] = r;
    if (settled) break;
  }
  return {row.a / upper, row.b / u3, row.c / u5};
}

}  // namespace

std::vector<Row> polar_express(double lower, int steps, double cushion, double safety) {
  std::vector<Row> rows;
  const bool valid = lower > 0.0 && lower < 1.0 && steps >= 1 && cushion >= 0.0 && cushion < 1.0 &&
                     safety >= 1.0 && std::isfinite(safety);
  if (!valid) return rows;
  rows.reserve(static_cast<std::size_t>(steps));
  double l = lower;
  double u = 1.0;
  for (int step = 0; step < steps; ++step) {
    // The cushion keeps the row from spending itself on the smallest singular values: it grows them
    // a little slower and has a lower peak, hence tolerates rounding. Centred on 1 again over the
    // true [l, u].
    Row row = minimax_quintic(std::max(l, cushion * u), u);
    if (cushion * u > l) {
      const double centre = 2.0 / (evaluate(row, l) + evaluate(row, u));
      row = {row.a * centre, row.b * centre, row.c * centre};
    }
    // x -> p(x/s): arguments up to s*u are now inside the row's range. The last row stays as it is:
    // nothing follows it that could diverge, and its fixed point must be 1 (p(1/s) is not).
    if (step + 1 < steps) {
      const double s3 = safety * safety * safety;
      row = {row.a / safety, row.b / s3, row.c / (s3 * safety * safety)};
    }
    rows.push_back(row);
    // p maps [l, u] onto [p(l), 2 - p(l)]. With a safety factor the image of [l, s u] is [p(l/s), 1
    // + E], inside [p(l/s), 2 - p(l/s)]: the same update holds, and u only ever errs upwards.
    l = evaluate(row, l);
    u = 2.0 - l;
    if (l > u) l = u = 1.0;  // converged, rounding crossed them
  }
  return rows;
}

}  // namespace gramian
