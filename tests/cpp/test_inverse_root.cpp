#include "gramian/inverse_root.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "check.hpp"
#include "gramian/threads.hpp"
#include "reference.hpp"

using namespace gramian;
using namespace gramian::test;

namespace {

ArrayRef array(std::vector<double>& entries, index_t count, index_t n) {
  return {entries.data(), DType::float64, {count, n, n}, {n * n, n, 1}};
}

/// Householder reflection H diag(values) H with v = 1/sqrt(n): eigenvalues known exactly but for
/// rounding, and every entry is full.
std::vector<double> with_eigenvalues(const std::vector<double>& values) {
  const auto n = values.size();
  const auto h = [&](std::size_t i, std::size_t j) {
    return (i == j ? 1.0 : 0.0) - 2.0 / static_cast<double>(n);
  };
  std::vector<double> a(n * n);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::size_t k = 0; k < n; ++k) sum += h(i, k) * values[k] * h(k, j);
      a[i * n + j] = sum;
    }
  return a;
}

std::vector<double> powers(std::vector<double> values, double power) {
  for (double& v : values) v = std::pow(v, power);
  return values;
}

double largest_difference(const std::vector<double>& x, const std::vector<double>& y) {
  double top = 0;
  for (std::size_t e = 0; e < x.size(); ++e) {
    const double d = std::abs(x[e] - y[e]);
    top = d <= top ? top : d;  // NaN stays
  }
  return top;
}

std::vector<double> geometric(index_t n, double lowest) {
  std::vector<double> values;
  for (index_t i = 0; i < n; ++i)
    values.push_back(std::pow(lowest, static_cast<double>(i) / static_cast<double>(n - 1)));
  return values;
}

void roots_of_known_eigenvalues() {
  for (const index_t n : {2, 5, 31, 32, 33, 130, 260})
    for (const double lowest : {0.5, 1e-2, 1e-5})
      for (const index_t p : {1, 2, 3, 4, 6, 8, 11}) {
        const auto values = geometric(n, lowest);
        auto a = with_eigenvalues(values);
        std::vector<double> x(a.size());
        InverseRootOutcome outcome;
        const Status status =
            inverse_root(array(a, 1, n), array(x, 1, n), {p, 0, 0, true}, {}, outcome);
        CHECK(status == Status::ok);
        CHECK(outcome.failures == 0);
        CHECK((outcome.iterated == 1) == (outcome.steps > 0));
        const auto order = static_cast<double>(p);
        const auto truth = with_eigenvalues(powers(values, -1 / order));
        const double norm = std::pow(lowest, -1 / order);
        CHECK_AT_MOST(largest_difference(x, truth),
                      32 * std::sqrt(double(n)) * 0x1p-53 * (1 + 1 / lowest / order) * norm);
      }
}

void both_square_roots() {
  for (const index_t n : {3, 40, 150}) {
    const auto values = geometric(n, 1e-3);
    auto a = with_eigenvalues(values);
    std::vector<double> root(a.size());
    std::vector<double> inverse(a.size());
    InverseRootOutcome outcome;
    const Status status =
        sqrt_psd(array(a, 1, n), array(root, 1, n), array(inverse, 1, n), {}, outcome);
    CHECK(status == Status::ok);
    CHECK(outcome.failures == 0);
    CHECK_AT_MOST(largest_difference(root, with_eigenvalues(powers(values, 0.5))), 1e-13);
    CHECK_AT_MOST(largest_difference(inverse, with_eigenvalues(powers(values, -0.5))), 1e-10);
  }
}

void what_has_no_answer_is_told() {
  constexpr index_t n = 20;
  auto singular = geometric(n, 0.1);
  singular.back() = 0;
  auto negative = geometric(n, 0.1);
  negative.front() = -0.5;
  std::vector<double> a = with_eigenvalues(geometric(n, 0.1));
  for (const auto& values : {singular, negative})
    for (const double v : with_eigenvalues(values)) a.push_back(v);
  std::vector<double> x(a.size());
  std::vector<double> residual(3);
  InverseRootInfo info;
  info.residual = {residual.data(), DType::float64, {3}, {1}};
  InverseRootOutcome outcome;
  CHECK(inverse_root(array(a, 3, n), array(x, 3, n), {2, 0, 0, true}, info, outcome) == Status::ok);
  CHECK(outcome.failures == 2);
  CHECK(outcome.first == 1);
  CHECK(outcome.failure == RootFailure::singular);
  CHECK_AT_MOST(std::abs(outcome.eigenvalue), 1e-14);
  CHECK_AT_MOST(residual[0], 1e-12);
  CHECK_AT_MOST(std::abs(residual[1] - std::sqrt(1.0 / n)), 1e-12);  // one direction of n is lost
  for (double& v : singular) v = v > 0 ? std::pow(v, -0.5) : 0;
  const std::vector<double> found(x.begin() + n * n, x.begin() + 2 * n * n);
  CHECK_AT_MOST(largest_difference(found, with_eigenvalues(singular)), 1e-12);

  std::vector<double> last(a.begin() + 2 * n * n, a.end());
  std::vector<double> y(last.size());
  CHECK(inverse_root(array(last, 1, n), array(y, 1, n), {2, 0, 0, true}, {}, outcome) ==
        Status::ok);
  CHECK(outcome.failure == RootFailure::negative);
  CHECK_AT_MOST(std::abs(outcome.eigenvalue + 0.5 / geometric(n, 0.1)[1]), 1e-13);
}

void threads_and_overlap_change_no_bit() {
  for (const index_t n : {40, 270}) {
    constexpr index_t count = 3;
    std::vector<double> a;
    for (index_t b = 0; b < count; ++b)
      for (const double v : with_eigenvalues(geometric(n, 0.1 / double(b + 1)))) a.push_back(v);
    std::vector<double> first;
    for (const int threads : {1, 2, 3}) {
      set_num_threads(threads);
      std::vector<double> x(a.size());
      InverseRootOutcome outcome;
      CHECK(inverse_root(array(a, count, n), array(x, count, n), {2, 1e-3, 0, true}, {}, outcome) ==
            Status::ok);
      if (first.empty()) first = x;
      CHECK(x == first);
    }
    // Backwards into the same memory: written before it is read, but for the copy.
    ArrayRef backwards = array(a, count, n);
    backwards.data = a.data() + (count - 1) * n * n;
    backwards.strides[0] = -n * n;
    InverseRootOutcome outcome;
    CHECK(inverse_root(array(a, count, n), backwards, {2, 1e-3, 0, true}, {}, outcome) ==
          Status::ok);
    for (index_t b = 0; b < count; ++b)
      CHECK(std::equal(a.begin() + b * n * n, a.begin() + (b + 1) * n * n,
                       first.begin() + (count - 1 - b) * n * n));
  }
}

void what_is_not_finite_touches_no_output() {
  constexpr index_t n = 8;
  auto a = with_eigenvalues(geometric(n, 0.1));
  a[n + 2] =
      std::numeric_limits<double>::quiet_NaN();  // above the diagonal: looked at all the same
  std::vector<double> x(a.size(), 7.0);
  InverseRootOutcome outcome;
  CHECK(inverse_root(array(a, 1, n), array(x, 1, n), {2, 0, 0, true}, {}, outcome) ==
        Status::not_finite);
  CHECK(x == std::vector<double>(a.size(), 7.0));
  CHECK(inverse_root(array(a, 1, n), array(x, 1, n), {2, 0, 0, false}, {}, outcome) == Status::ok);
  CHECK(std::all_of(x.begin(), x.end(), [](double v) { return std::isnan(v); }));
}

/// m^(1/p) T(m) stays between 1 - e and 1 + e, and reaches both ends: closest to 1, for within
/// reach.
void rational_rows_are_closest_to_one() {
  for (const int p : {2, 3, 4, 5, 6, 7, 8}) {
    const double lower = 0.0625;  // within the reach of all, and a lower end of the tables
    const Row row = inverse_root_rational_rows(p, lower).front();
    const auto f = [&](double m) {
      return std::pow(m, 1.0 / p) * (row.a + row.b * m) / (1 + row.c * m);
    };
    double least = 2;
    double most = 0;
    for (int i = 0; i <= 4000; ++i) {
      const double v = f(std::pow(lower, i / 4000.0));
      least = std::min(least, v);
      most = std::max(most, v);
    }
    CHECK_AT_MOST(std::abs(least + most - 2), 1e-6);
    CHECK_AT_MOST(std::abs(f(lower) - least), 1e-9);
    CHECK_AT_MOST(std::abs(f(1) - most), 1e-9);
    CHECK_AT_MOST(most - 1, 0.02);
    CHECK_AT_MOST(1e-4, most - 1);
  }
}

}  // namespace

int main() {
  rational_rows_are_closest_to_one();
  roots_of_known_eigenvalues();
  both_square_roots();
  what_has_no_answer_is_told();
  threads_and_overlap_change_no_bit();
  what_is_not_finite_touches_no_output();
  return finish();
}
