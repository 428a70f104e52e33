#include "gramian/bounds.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "check.hpp"
#include "gramian/factor_proof.hpp"
#include "gramian/rounding.hpp"
#include "reference.hpp"

using namespace gramian;
using namespace gramian::test;

namespace {

constexpr BoundsMethod methods[] = {BoundsMethod::gram, BoundsMethod::cholesky, BoundsMethod::eigh};

struct Found {
  std::vector<double> lower, upper, converged, estimate, stable_rank;
  Status status;
};

ArrayRef vector_ref(std::vector<double>& v) {
  return {v.data(), DType::float64, {static_cast<index_t>(v.size())}, {1}};
}

Found bounds(std::vector<double>& entries, index_t count, index_t rows, index_t cols,
             const BoundsOptions& options) {
  const auto size = static_cast<std::size_t>(count);
  Found f{std::vector<double>(size), std::vector<double>(size), std::vector<double>(size),
          std::vector<double>(size), std::vector<double>(size), Status::ok};
  const ArrayRef a{entries.data(), DType::float64, {count, rows, cols}, {rows * cols, cols, 1}};
  Bracket out{vector_ref(f.lower),    vector_ref(f.upper),       vector_ref(f.converged),
              vector_ref(f.estimate), vector_ref(f.stable_rank), 0};
  f.status = spectral_norm_bounds(a, options, out);
  return f;
}

/// An outer product of integers: sigma_1 = |u| |v|.
void brackets_hold_where_sigma_is_known() {
  constexpr index_t n = 40;
  std::vector<double> x(n * n);
  for (index_t i = 0; i < n; ++i)
    for (index_t j = 0; j < n; ++j)
      x[static_cast<std::size_t>(i * n + j)] = double((i + 1) * (j + 2));
  double u2 = 0;
  double v2 = 0;
  for (index_t i = 0; i < n; ++i) {
    u2 += double((i + 1) * (i + 1));
    v2 += double((i + 2) * (i + 2));
  }
  const double sigma = std::sqrt(u2 * v2);  // to half an ulp
  for (const BoundsMethod method : methods)
    for (const double rtol : {1e-2, 1e-6, 1e-9}) {
      const Found f = bounds(x, 1, n, n, {rtol, method, 3, true});
      CHECK(f.status == Status::ok);
      CHECK_AT_MOST(f.lower[0], sigma * (1 + 1e-15));
      CHECK_AT_MOST(sigma * (1 - 1e-15), f.upper[0]);
      CHECK_AT_MOST(f.upper[0] / f.lower[0] - 1, rtol);
      CHECK(f.converged[0] == 1);
      CHECK_AT_MOST(std::abs(f.estimate[0] / sigma - 1), rtol);
      CHECK_AT_MOST(std::abs(f.stable_rank[0] - 1), 2 * rtol);
    }
}

void a_batch_treats_each_matrix_on_its_own() {
  const auto entries = random_entries<double>(3 * 20 * 30, 5);
  std::vector<double> x = entries;
  for (std::size_t i = 0; i < 600; ++i) {
    x[i] = std::ldexp(x[i], 900);
    x[600 + i] = 0;
    x[1200 + i] = std::ldexp(x[1200 + i], -900);
  }
  for (const BoundsMethod method : methods) {
    const Found f = bounds(x, 3, 20, 30, {1e-9, method, 0, true});
    for (const std::size_t b : {std::size_t{0}, std::size_t{2}}) {
      std::vector<double> one(entries.begin() + static_cast<std::ptrdiff_t>(600 * b),
                              entries.begin() + static_cast<std::ptrdiff_t>(600 * (b + 1)));
      const Found alone = bounds(one, 1, 20, 30, {1e-9, method, 0, true});
      const int exponent = b == 0 ? 900 : -900;
      CHECK(f.lower[b] == std::ldexp(alone.lower[0], exponent));
      CHECK(f.upper[b] == std::ldexp(alone.upper[0], exponent));
    }
    CHECK(f.lower[1] == 0 && f.upper[1] == 0 && f.converged[1] == 1 && f.stable_rank[1] == 0);
  }
}

void what_is_not_finite_is_refused_or_confined() {
  std::vector<double> x(3 * 4, 1.0);
  x[5] = std::numeric_limits<double>::quiet_NaN();
  CHECK(bounds(x, 3, 2, 2, {}).status == Status::not_finite);
  const Found f = bounds(x, 3, 2, 2, {1e-6, BoundsMethod::cholesky, 0, false});
  CHECK(f.status == Status::ok);
  CHECK(f.upper[0] >= 2 && std::isnan(f.upper[1]) && f.upper[2] >= 2);
  CHECK(std::isnan(f.lower[1]) && f.converged[1] == 0);
}

void gram_bound_follows_its_formula() {
  // Singular values 4, 2, 1: (4^p + 2^p + 1)^(1/p) with p = 2^(t+1).
  std::vector<double> x = {4, 0, 0, 0, 2, 0, 0, 0, 1};
  double bound = 0;
  for (int t = 0; t < 8; ++t) {
    const Status status = gram_bound({x.data(), DType::float64, {3, 3}, {3, 1}}, t, true,
                                     {&bound, DType::float64, {}, {}});
    const double p = std::ldexp(1.0, t + 1);
    const double wanted = 4 * std::pow(1 + std::pow(0.5, p) + std::pow(0.25, p), 1 / p);
    CHECK(status == Status::ok);
    CHECK_AT_MOST(std::abs(bound / wanted - 1), 1e-14);
  }
}

template <class R>
void rounding_is_outwards_over_the_whole_range() {
  std::mt19937_64 engine(1);
  std::uniform_real_distribution<double> mantissa(0.5, 2.0);
  constexpr int top = std::numeric_limits<R>::max_exponent;
  constexpr int bottom = std::numeric_limits<R>::min_exponent - std::numeric_limits<R>::digits;
  for (int exponent = bottom - 3; exponent < top + 3; ++exponent) {
    const double v = mantissa(engine);
    const R down = rounding::round_down<R>(v, exponent);
    const R up = rounding::round_up<R>(v, exponent);
    // Undone exactly: down and up are no more than two bits from v's scale.
    CHECK(std::isfinite(down));
    CHECK_AT_MOST(std::ldexp(static_cast<double>(down), -exponent), v);
    CHECK_AT_MOST(v, std::ldexp(static_cast<double>(up), -exponent));
    CHECK(up == down || std::nextafter(down, std::numeric_limits<R>::infinity()) == up);
  }
  for (const double exact : {0.5, 1.0, 1.5}) {
    CHECK(rounding::round_down<R>(exact, 3) == R(8 * exact));
    CHECK(rounding::round_up<R>(exact, 3) == R(8 * exact));
  }
}

/// Sums of equal terms err one way; g(j) must hold them, and does not hold them eight times over.
void rounding_constant_is_of_the_right_size() {
  double worst = 0;
  std::mt19937_64 engine(2);
  std::uniform_real_distribution<double> entry(1.0, 2.0);
  constexpr int count = 500;
  for (int trial = 0; trial < 400; ++trial) {
    const double term = entry(engine);
    double sum = 0;
    for (int i = 0; i < count; ++i) sum += term;
    const long double exact = static_cast<long double>(term) * count;
    worst = std::max(worst, static_cast<double>(std::abs(sum / exact - 1)));
  }
  CHECK_AT_MOST(worst, rounding::accumulated<double>(count));
  CHECK_AT_MOST(rounding::accumulated<double>(count), 8 * worst);
  CHECK(rounding::accumulated<std::complex<double>>(count) > 2.83 * rounding::u * count);
}

/// Any L at all proves what it proves: good ones, scaled ones, ones with entries left out, zero.
void a_wrong_factor_proves_no_falsehood() {
  constexpr index_t n = 12;
  const auto at = [](index_t i, index_t j) { return static_cast<std::size_t>(i * n + j); };
  std::mt19937 engine(7);
  std::normal_distribution<double> normal;
  for (int trial = 0; trial < 300; ++trial) {
    // G = Q diag(1, 1/2, 1/3, ...) Q for the reflection Q = I - 2 v v^T: lambda_1 = 1.
    std::vector<double> v(n);
    double length = 0;
    for (double& x : v) {
      x = normal(engine);
      length += x * x;
    }
    std::vector<double> g(n * n);
    for (index_t i = 0; i < n; ++i)
      for (index_t j = 0; j < n; ++j)
        for (index_t k = 0; k < n; ++k) {
          const auto q = [&](index_t a, index_t b) {
            return (a == b) -
                   2 * v[static_cast<std::size_t>(a)] * v[static_cast<std::size_t>(b)] / length;
          };
          g[at(i, j)] += q(i, k) * q(j, k) / static_cast<double>(k + 1);
        }
    for (const double s : {0.3, 0.999, 1 + 1e-12, 1.5}) {
      // A factorization of s I - G that goes on whatever the pivots are.
      std::vector<double> l(n * n);
      for (index_t j = 0; j < n; ++j)
        for (index_t i = j; i < n; ++i) {
          double sum = (i == j ? s : 0) - g[at(i, j)];
          for (index_t k = 0; k < j; ++k) sum -= l[at(i, k)] * l[at(j, k)];
          l[at(i, j)] = i == j ? std::sqrt(std::abs(sum)) : sum / l[at(j, j)];
        }
      if (trial % 4 == 1) l[static_cast<std::size_t>(engine() % (n * n))] *= 1 + 1e-7;
      if (trial % 4 == 2) l[static_cast<std::size_t>(engine() % (n * n))] = 0;
      if (trial % 4 == 3) l.assign(n * n, 0);
      double squares = 0;
      for (index_t i = 0; i < n; ++i)
        for (index_t j = 0; j < n; ++j) {
          double product = 0;
          for (index_t k = 0; k < n; ++k) product += l[at(i, k)] * l[at(j, k)];
          const double r = (i == j ? s : 0) - g[at(i, j)] - product;
          squares += r * r;
        }
      const double upper = detail::upper_by_factor<double>(s, squares, n);
      CHECK(std::isnan(upper) || upper >= 1 - 1e-14);  // G itself is off by its roundings
      CHECK(std::isnan(upper) || upper >= s * (1 + n * (n + 4) * rounding::u));
      if (trial % 4 == 0 && s > 1) CHECK_AT_MOST(upper, s * (1 + detail::factor_error<double>(n)));
    }
  }
}

}  // namespace

int main() {
  brackets_hold_where_sigma_is_known();
  a_batch_treats_each_matrix_on_its_own();
  what_is_not_finite_is_refused_or_confined();
  gram_bound_follows_its_formula();
  rounding_is_outwards_over_the_whole_range<double>();
  rounding_is_outwards_over_the_whole_range<float>();
  rounding_constant_is_of_the_right_size();
  a_wrong_factor_proves_no_falsehood();
  return finish();
}
