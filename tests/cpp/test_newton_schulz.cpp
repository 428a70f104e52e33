#include "gramian/newton_schulz.hpp"

#include <cstring>
#include <limits>

#include "arrays.hpp"
#include "check.hpp"
#include "reference.hpp"

using namespace gramian;
using namespace gramian::test;

namespace {

template <class T>
NewtonSchulzOptions options_for(index_t rows, index_t cols, NewtonSchulzMethod method,
                                Normalization normalization) {
  NewtonSchulzOptions options;
  options.table = *preset_table("polar_express", 5);
  options.normalization = normalization;
  options.bound = 40.0;
  options.double_precision = std::is_same_v<real_t<T>, double>;
  options.plan = plan_newton_schulz(
      rows, cols, options.table,
      options.double_precision ? unit_roundoff<double> : unit_roundoff<float>, method);
  return options;
}

/// The plain iteration in double.
template <class T>
std::vector<wide> reference(const std::vector<T>& entries, index_t rows, index_t cols,
                            const NewtonSchulzOptions& options) {
  const bool tall = rows > cols;
  std::vector<wide> x(entries.size());
  for (std::size_t e = 0; e < x.size(); ++e) x[e] = widen(entries[e]);
  const auto view = [&] { return row_major<const wide>(x.data(), rows, cols); };
  const auto gram_of_x = [&] { return gram_reference(view(), !tall); };
  const index_t m = std::min(rows, cols);
  const auto square = [&](const std::vector<wide>& g) {
    return product_reference<wide, wide>(row_major<const wide>(g.data(), m, m),
                                         row_major<const wide>(g.data(), m, m));
  };
  const auto norm = [](const std::vector<wide>& a) {
    double sum = 0;
    for (const wide& v : a) sum += std::norm(v);
    return std::sqrt(sum);
  };
  double s = options.bound;
  if (options.normalization == Normalization::frobenius) s = norm(x);
  if (options.normalization == Normalization::schatten)
    s = std::sqrt(std::sqrt(norm(square(gram_of_x()))));
  for (wide& v : x) v /= s;
  for (const Row& row : options.table) {
    const auto g = gram_of_x();
    auto p = square(g);
    for (index_t i = 0; i < m; ++i)
      for (index_t j = 0; j < m; ++j) {
        const auto e = static_cast<std::size_t>(i * m + j);
        p[e] = row.c * p[e] + row.b * g[e] + (i == j ? row.a : 0.0);
      }
    const auto pv = row_major<const wide>(p.data(), m, m);
    x = tall ? product_reference<wide, wide>(view(), pv)
             : product_reference<wide, wide>(pv, view());
  }
  return x;
}

template <class T>
void matches_reference(index_t rows, index_t cols) {
  auto x = random_entries<T>(rows * cols, 21);
  std::vector<T> out(x.size());
  for (const auto method : {NewtonSchulzMethod::standard, NewtonSchulzMethod::gram})
    for (const auto normalization :
         {Normalization::schatten, Normalization::frobenius, Normalization::bound}) {
      const auto options = options_for<T>(rows, cols, method, normalization);
      CHECK(newton_schulz(array(x, {rows, cols}), array(out, {rows, cols}), options) == Status::ok);
      // The slope of the composed map at 0 is about 700: it amplifies what rounding does to small
      // singular values; the Gram form adds what its model allows (accepted_error in the plan).
      const double bound = (method == NewtonSchulzMethod::gram ? 16384 : 700) *
                           static_cast<double>(std::numeric_limits<real_t<T>>::epsilon());
      const auto want = reference(x, rows, cols, options);
      CHECK_AT_MOST(relative_error(row_major<const T>(out.data(), rows, cols), want), bound);
    }
}

/// In a direction by differences of the plain iteration; the gradient as its adjoint.
template <class T>
void derivative_matches_differences(index_t rows, index_t cols) {
  const auto x = random_entries<T>(rows * cols, 21);
  const auto d = random_entries<T>(rows * cols, 22);
  const auto g = random_entries<T>(rows * cols, 23);
  std::vector<T> along(x.size());
  std::vector<T> gradient(x.size());
  std::vector<wide> want(x.size());
  const auto ref = [&](const std::vector<T>& a) {
    return array(const_cast<std::vector<T>&>(a), {rows, cols});
  };
  const auto inner = [](const std::vector<T>& a, const std::vector<T>& b) {
    double sum = 0;
    for (std::size_t e = 0; e < a.size(); ++e)
      sum += std::real(std::conj(widen(a[e])) * widen(b[e]));
    return sum;
  };
  constexpr double unit = static_cast<double>(std::numeric_limits<real_t<T>>::epsilon());
  for (const auto method : {NewtonSchulzMethod::standard, NewtonSchulzMethod::gram})
    for (const auto normalization :
         {Normalization::schatten, Normalization::frobenius, Normalization::bound}) {
      auto options = options_for<T>(rows, cols, method, normalization);
      options.table.assign(5, {1.875, -1.25, 0.375});
      options.plan.restarts.clear();
      if (method == NewtonSchulzMethod::gram) options.plan.restarts = {3};
      CHECK(newton_schulz_derivative(ref(x), ref(d), ref(along), options, false) == Status::ok);
      CHECK(newton_schulz_derivative(ref(x), ref(g), ref(gradient), options, true) == Status::ok);
      constexpr double h = 1e-5;
      std::vector<wide> ahead(x.size());
      std::vector<wide> back(x.size());
      for (std::size_t e = 0; e < x.size(); ++e) {
        ahead[e] = widen(x[e]) + h * widen(d[e]);
        back[e] = widen(x[e]) - h * widen(d[e]);
      }
      ahead = reference(ahead, rows, cols, options);
      back = reference(back, rows, cols, options);
      for (std::size_t e = 0; e < x.size(); ++e) want[e] = (ahead[e] - back[e]) / (2 * h);
      CHECK_AT_MOST(relative_error(row_major<const T>(along.data(), rows, cols), want),
                    2000 * unit + 1e-6);
      const double size = std::sqrt(inner(g, g) * inner(along, along)) + 1;
      CHECK_AT_MOST(std::abs(inner(g, along) - inner(gradient, d)) / size, 2000 * unit);
    }
}

void bad_and_empty_input_is_told() {
  auto x = random_entries<float>(2 * 30 * 20, 4);
  x[700] = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> out(x.size(), -7.0f);
  auto options = options_for<float>(30, 20, NewtonSchulzMethod::standard, Normalization::schatten);
  CHECK(newton_schulz(array(x, {2, 30, 20}), array(out, {2, 30, 20}), options) ==
        Status::not_finite);
  CHECK(out == std::vector<float>(x.size(), -7.0f));  // nothing half-written

  options.check_finite = false;
  CHECK(newton_schulz(array(x, {2, 30, 20}), array(out, {2, 30, 20}), options) == Status::ok);
  bool first_finite = true;
  bool second_nan = true;
  for (std::size_t e = 0; e < 600; ++e) {
    first_finite = first_finite && std::isfinite(out[e]);
    second_nan = second_nan && std::isnan(out[600 + e]);
  }
  CHECK(first_finite);
  CHECK(second_nan);

  std::vector<float> zeros(600);
  CHECK(newton_schulz(array(zeros, {30, 20}), array(out, {30, 20}), options) == Status::ok);
  CHECK(std::equal(zeros.begin(), zeros.end(), out.begin()));
  CHECK(newton_schulz(array(zeros, {0, 30, 20}), array(out, {0, 30, 20}), options) == Status::ok);
  std::vector<float> residual(3, -1.0f);
  NewtonSchulzInfo info;
  info.residual = array(residual, {3});
  CHECK(newton_schulz(array(zeros, {3, 0, 20}), array(out, {3, 0, 20}), options, info) ==
        Status::ok);
  CHECK(residual == std::vector<float>(3));
}

/// Output over shifted input gives what separate output gives.
void overlap_is_handled() {
  const index_t m = 40;
  const index_t n = 70;
  auto memory = random_entries<double>(m * n + 25, 8);
  auto x = std::vector<double>(memory.begin() + 25, memory.end());
  std::vector<double> want(x.size());
  const auto options =
      options_for<double>(m, n, NewtonSchulzMethod::standard, Normalization::schatten);
  CHECK(newton_schulz(array(x, {m, n}), array(want, {m, n}), options) == Status::ok);
  ArrayRef shifted = array(memory, {m, n});
  ArrayRef in = shifted;
  in.data = memory.data() + 25;
  CHECK(newton_schulz(in, shifted, options) == Status::ok);
  CHECK(std::memcmp(memory.data(), want.data(), want.size() * sizeof(double)) == 0);
}

}  // namespace

int main() {
  for (const auto& [rows, cols] : {std::pair<index_t, index_t>{1, 1},
                                   {1, 12},
                                   {12, 1},
                                   {20, 20},
                                   {33, 70},
                                   {70, 33},
                                   {128, 128},
                                   {150, 160}}) {
    matches_reference<float>(rows, cols);
    matches_reference<double>(rows, cols);
    matches_reference<std::complex<float>>(rows, cols);
    matches_reference<std::complex<double>>(rows, cols);
  }
  for (const auto& [rows, cols] :
       {std::pair<index_t, index_t>{1, 1}, {1, 12}, {20, 20}, {33, 70}, {70, 33}, {130, 140}}) {
    derivative_matches_differences<float>(rows, cols);
    derivative_matches_differences<double>(rows, cols);
    derivative_matches_differences<std::complex<float>>(rows, cols);
    derivative_matches_differences<std::complex<double>>(rows, cols);
  }
  bad_and_empty_input_is_told();
  overlap_is_handled();
  return finish();
}
