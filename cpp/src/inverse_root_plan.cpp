// Rows of the iteration for inverse roots: minimax polynomials by Remez' exchange, and Taylor's.
#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>
#include <numbers>
#include <optional>

#include "gramian/inverse_root.hpp"

namespace gramian {

namespace {

// Eigenvalues this near to 1 are left to the Taylor polynomial: here the minimax polynomial's error
// is a fourth of Taylor's.
constexpr double near_one = 1e-3;

// A row is made for [cushion u, u] at least, so that no eigenvalue in the middle is sent nearer to
// zero than that: it would come back with its error divided by as much. With 0.01 the residual
// stays under 16 u kappa, with 0.024^2 it reached 200 u kappa, for the same number of steps.
constexpr double cushion(int p) { return p == 1 ? 0.1 : 0.01; }

constexpr int longest_table = 64;
constexpr int finest = 26;  // 4^-26 = 2e-16

/// m^(1/p) T(m).
double mapped(const Row& row, int p, double m) {
  return std::pow(m, 1.0 / p) * (row.a + m * (row.b + m * row.c));
}

/// Solution of A x = y of order 4 by elimination with exchange of rows.
std::array<double, 4> solve(std::array<std::array<double, 5>, 4> a) {
  for (std::size_t k = 0; k < 4; ++k) {
    std::size_t top = k;
    for (std::size_t i = k + 1; i < 4; ++i)
      if (std::abs(a[i][k]) > std::abs(a[top][k])) top = i;
    std::swap(a[k], a[top]);
    for (std::size_t i = k + 1; i < 4; ++i) {
      const double f = a[i][k] / a[k][k];
      for (std::size_t j = k; j < 5; ++j) a[i][j] -= f * a[k][j];
    }
  }
  std::array<double, 4> x{};
  for (std::size_t i = 4; i-- > 0;) {
    double sum = a[i][4];
    for (std::size_t j = i + 1; j < 4; ++j) sum -= a[i][j] * x[j];
    x[i] = sum / a[i][i];
  }
  return x;
}

/// The quadratic T with m^(1/p) T(m) closest to 1 on [lower, upper]: the error alternates at four
/// points, of which the inner two are where the derivative, m^(1/p - 1) times a quadratic, is zero.
Row minimax_row(int p, double lower, double upper) {
  const double ratio = lower / upper;
  const double root = 1.0 / p;
  // Chebyshev's points in m^(1/p).
  const double t0 = std::pow(ratio, root);
  std::array<double, 4> m{};
  for (std::size_t i = 0; i < 4; ++i) {
    const double c = std::cos(std::numbers::pi * (3.0 - static_cast<double>(i)) / 3.0);
    m[i] = std::pow(t0 + (1 - t0) * (c + 1) / 2, p);
  }
  m[0] = ratio;
  m[3] = 1;
  Row row;
  constexpr int most_exchanges = 60;
  for (int step = 0; step < most_exchanges; ++step) {
    std::array<std::array<double, 5>, 4> equations{};
    for (std::size_t i = 0; i < 4; ++i) {
      const double s = std::pow(m[i], root);
      equations[i] = {s, s * m[i], s * m[i] * m[i], i % 2 == 0 ? 1.0 : -1.0, 1.0};
    }
    const auto x = solve(equations);
    row = {x[0], x[1], x[2]};
    const double q0 = row.a * root;
    const double q1 = row.b * (root + 1);
    const double q2 = row.c * (root + 2);
    const double discriminant = q1 * q1 - 4 * q2 * q0;
    if (!(discriminant > 0)) break;  // the two met within rounding
    const double large = (-q1 + std::sqrt(discriminant)) / (2 * q2);
    const double small = q0 / (q2 * large);
    if (!(ratio < small && small < large && large < 1)) break;
    const bool settled = std::abs(small - m[1]) + std::abs(large - m[2]) <= 1e-13;
    m[1] = small;
    m[2] = large;
    if (settled) break;
  }
  return scaled_row(row, p, upper);
}

std::vector<Row> make_rows(int p, double lower) {
  std::vector<Row> rows;
  double l = lower;
  double u = 1;
  while (std::max(1 - l, u - 1) > near_one && static_cast<int>(rows.size()) < longest_table) {
    const double cushioned = cushion(p) * u;
    Row row = minimax_row(p, std::max(l, cushioned), u);
    if (cushioned > l) {
      // Centred on 1 again over the true interval.
      const double centre = 2 / (mapped(row, p, l) + mapped(row, p, u));
      row = {row.a * centre, row.b * centre, row.c * centre};
    }
    rows.push_back(row);
    // [l, u] goes to [f(l)^p, (2 - f(l))^p].
    const double low = mapped(row, p, l);
    l = std::pow(low, p);
    u = std::pow(2 - low, p);
  }
  return rows;
}

}  // namespace

Row scaled_row(const Row& row, int p, double top) {
  const double f = std::pow(top, -1.0 / p);
  return {row.a * f, row.b * f / top, row.c * f / top / top};
}

Row taylor_row(int p) {
  // 1 + e/p + (1 + p) e^2 / (2 p^2), e = 1 - m.
  const double linear = 1.0 / p;
  const double square = (1.0 + p) / (2.0 * p * p);
  return {1 + linear + square, -linear - 2 * square, square};
}

double taylor_constant(int p) {
  // The next term of the series times p, and twice that for the terms after it.
  return 2 * (1.0 + p) * (1.0 + 2.0 * p) / (6.0 * p * p);
}

const std::vector<Row>& inverse_root_rows(int p, double lower) {
  struct Entry {
    std::once_flag made;
    std::vector<Row> rows;
  };
  static std::array<std::array<Entry, finest + 1>, largest_iterated_root + 1> cache;
  const int k = std::clamp(static_cast<int>(std::ceil(-std::log2(lower) / 2 - 1e-9)), 1, finest);
  Entry& entry = cache[static_cast<std::size_t>(p)][static_cast<std::size_t>(k)];
  std::call_once(entry.made, [&] { entry.rows = make_rows(p, std::ldexp(1.0, -2 * k)); });
  return entry.rows;
}

}  // namespace gramian
