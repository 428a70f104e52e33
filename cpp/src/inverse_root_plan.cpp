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

/// The second divided difference of y over three of four points, times a positive number.
double second_difference(const double* m, const double* y) {
  return (y[2] - y[1]) / (m[2] - m[1]) - (y[1] - y[0]) / (m[1] - m[0]);
}

/// (a + b m) / (1 + c m) with m^(1/p) times it closest to 1 on [lower, 1]: the error is -E, E, -E,
/// E at lower, two points between and 1. With s = m^(1/p) and signs e, a + b m is (1 + c m) (1 + e
/// E) / s at the four: that this is linear in m are two equations, linear in c and in E, from which
/// c is eliminated. The inner extrema are the roots of a quadratic again.
Row minimax_rational_row(int p, double lower) {
  using Points = std::array<double, 4>;
  const double root = 1.0 / p;
  const Points sign{-1, 1, -1, 1};
  Points m{lower, std::pow(lower, 0.75), std::pow(lower, 0.3), 1};
  Row row;
  constexpr int most_exchanges = 60;
  for (int step = 0; step < most_exchanges; ++step) {
    Points one, signed_one, linear, signed_linear;
    for (std::size_t i = 0; i < 4; ++i) {
      one[i] = std::pow(m[i], -root);
      signed_one[i] = sign[i] * one[i];
      linear[i] = m[i] * one[i];
      signed_linear[i] = sign[i] * linear[i];
    }
    // p0 + p1 E + c (q0 + q1 E) = 0 twice.
    double p0[2], p1[2], q0[2], q1[2];
    for (std::size_t i = 0; i < 2; ++i) {
      p0[i] = second_difference(&m[i], &one[i]);
      p1[i] = second_difference(&m[i], &signed_one[i]);
      q0[i] = second_difference(&m[i], &linear[i]);
      q1[i] = second_difference(&m[i], &signed_linear[i]);
    }
    const double square = p1[0] * q1[1] - p1[1] * q1[0];
    const double middle = p0[0] * q1[1] + p1[0] * q0[1] - p0[1] * q1[0] - p1[1] * q0[0];
    const double constant = p0[0] * q0[1] - p0[1] * q0[0];
    const double discriminant = middle * middle - 4 * square * constant;
    if (!(discriminant >= 0)) break;
    bool found = false;
    double c = 0;
    for (const double side : {-1.0, 1.0}) {
      const double e = (-middle + side * std::sqrt(discriminant)) / (2 * square);
      const double of = -(p0[0] + e * p1[0]) / (q0[0] + e * q1[0]);
      if (!(of > 0 && std::abs(e) < 1)) continue;  // the other one has a pole
      found = true;
      c = of;
      const double first = (1 + c * m[0]) * (1 - e) * one[0];
      const double last = (1 + c) * (1 + e);
      row.b = (last - first) / (1 - m[0]);
      row.a = first - row.b * m[0];
      row.c = c;
    }
    if (!found) break;
    const double k2 = row.b * c;
    const double k1 = row.b + row.a * c + p * (row.b - row.a * c);
    const double rest = k1 * k1 - 4 * k2 * row.a;
    if (!(rest > 0)) break;  // the two met within rounding
    const double large = (-k1 + std::sqrt(rest)) / (2 * k2);
    const double small = row.a / (k2 * large);
    if (!(lower < small && small < large && large < 1)) break;
    const bool settled = std::abs(small / m[1] - 1) + std::abs(large / m[2] - 1) <= 1e-10;
    m[1] = small;
    m[2] = large;
    if (settled) break;
  }
  return row;
}

// Rational rows are made for [reach u, u] at least. M T^p is M T or M T^2, which take no product
// with M, times what is left of T^2, whose rounding is of the size of its norm: this keeps
// a^(p - 1), or a^(p - 2) for even p, under about 64.
constexpr double reach(int p) {
  constexpr std::array<double, 9> by_root{1, 1, 1e-6, 2e-3, 1e-4, 1e-2, 2e-3, 1e-2, 4e-3};
  return by_root[static_cast<std::size_t>(p)];
}

double mapped_rationally(const Row& row, int p, double m) {
  return std::pow(m, 1.0 / p) * (row.a + row.b * m) / (1 + row.c * m);
}

std::vector<Row> make_rational_rows(int p, double lower) {
  std::vector<Row> rows;
  double l = lower;
  double u = 1;
  while (std::max(1 - l, u - 1) > near_one && static_cast<int>(rows.size()) < longest_table) {
    Row row = scaled_rational_row(minimax_rational_row(p, std::max(l / u, reach(p))), p, u);
    // Centred on 1 over the true interval, which reaches further down than the row's.
    const double low = mapped_rationally(row, p, l);
    const double centre = 2 / (low + std::max(mapped_rationally(row, p, u), low));
    row.a *= centre;
    row.b *= centre;
    rows.push_back(row);
    l = std::pow(low * centre, p);
    u = std::pow(2 - low * centre, p);
  }
  return rows;
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

Row scaled_rational_row(const Row& row, int p, double top) {
  const double f = std::pow(top, -1.0 / p);
  return {row.a * f, row.b * f / top, row.c / top};
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

double taylor_square(int p) {
  // (1 + e/p)^p (1 - e) is 1 - (p + 1) e^2 / (2 p) + ...; the next terms are below half of that.
  return 1.5 * (1.0 + p) / (2.0 * p);
}

namespace {

/// make(p, lower) for the power of 4 at or below lower, made once for the process and never
/// destroyed: at exit threads may still be reading.
template <std::vector<Row> (*make)(int, double)>
const std::vector<Row>& kept_rows(int p, double lower) {
  struct Entry {
    std::once_flag made;
    std::vector<Row> rows;
  };
  static auto& cache = *new std::array<std::array<Entry, finest + 1>, largest_iterated_root + 1>;
  const int k = std::clamp(static_cast<int>(std::ceil(-std::log2(lower) / 2 - 1e-9)), 1, finest);
  Entry& entry = cache[static_cast<std::size_t>(p)][static_cast<std::size_t>(k)];
  std::call_once(entry.made, [&] { entry.rows = make(p, std::ldexp(1.0, -2 * k)); });
  return entry.rows;
}

}  // namespace

const std::vector<Row>& inverse_root_rows(int p, double lower) {
  return kept_rows<make_rows>(p, lower);
}

const std::vector<Row>& inverse_root_rational_rows(int p, double lower) {
  return kept_rows<make_rational_rows>(p, lower);
}

}  // namespace gramian
