#include "gramian/rsvd.hpp"

#include <algorithm>
#include <vector>

#include "check.hpp"
#include "gramian/sketch.hpp"
#include "gramian/threads.hpp"
#include "reference.hpp"

using namespace gramian;
using namespace gramian::test;

namespace {

constexpr RsvdMethod methods[] = {RsvdMethod::subspace, RsvdMethod::krylov, RsvdMethod::gram,
                                  RsvdMethod::single_pass};

struct Found {
  std::vector<double> u, s, vh;
  RsvdFigures figures;
  Status status;
};

Found rsvd(std::vector<double>& entries, index_t m, index_t n, const RsvdOptions& options) {
  const ArrayRef a{entries.data(), DType::float64, {m, n}, {n, 1}};
  Rsvd result;
  Found f{};
  f.status = result.compute(a, options);
  if (f.status != Status::ok) return f;
  const index_t k = result.rank();
  f.u.resize(static_cast<std::size_t>(m * k));
  f.s.resize(static_cast<std::size_t>(k));
  f.vh.resize(static_cast<std::size_t>(k * n));
  result.write({f.u.data(), DType::float64, {m, k}, {k, 1}}, {f.s.data(), DType::float64, {k}, {1}},
               {f.vh.data(), DType::float64, {k, n}, {n, 1}});
  f.figures = result.figures()[0];
  return f;
}

RsvdOptions with(index_t rank, RsvdMethod method) {
  RsvdOptions options;
  options.rank = rank;
  options.method = method;
  return options;
}

/// The known answers of Random123 for Philox4x32-10.
void philox_gives_its_known_answers() {
  CHECK((philox4x32_10({0, 0, 0, 0}, {0, 0}) ==
         PhiloxBlock{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  const std::uint32_t f = 0xffffffffu;
  CHECK((philox4x32_10({f, f, f, f}, {f, f}) ==
         PhiloxBlock{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
}

/// Over several tiles of the sketch, vectors of every instruction set and groups of 128 columns:
/// one read spans what the sketch by its definition spans.
void one_read_is_with_the_sketch_as_defined() {
  constexpr index_t m = 400;
  constexpr index_t n = 301;
  auto x = random_entries<double>(m * n, 6);
  for (const index_t size : {1, 31, 33, 150}) {
    RsvdOptions options;
    options.rank = size;
    options.oversample = 0;
    options.passes = 1;
    options.seed = 0x123456789abcdefULL;
    std::vector<double> q(static_cast<std::size_t>(m * size));
    std::vector<RsvdFigures> figures;
    const ArrayRef a{x.data(), DType::float64, {m, n}, {n, 1}};
    CHECK(range_finder(a, options, {q.data(), DType::float64, {m, size}, {size, 1}}, figures) ==
          Status::ok);
    double left = 0;
    double all = 0;
    for (index_t c = 0; c < size; c += 7) {
      std::vector<double> y(m);
      for (index_t i = 0; i < m; ++i)
        for (index_t j = 0; j < n; ++j)
          y[static_cast<std::size_t>(i)] +=
              x[static_cast<std::size_t>(i * n + j)] * sketch_entry(options.seed,
                                                                    static_cast<std::uint64_t>(j),
                                                                    static_cast<std::uint64_t>(c));
      for (double v : y) all += v * v;
      for (index_t k = 0; k < size; ++k) {
        double dot = 0;
        for (index_t i = 0; i < m; ++i)
          dot += q[static_cast<std::size_t>(i * size + k)] * y[static_cast<std::size_t>(i)];
        for (index_t i = 0; i < m; ++i)
          y[static_cast<std::size_t>(i)] -= dot * q[static_cast<std::size_t>(i * size + k)];
      }
      for (double v : y) left += v * v;
    }
    CHECK_AT_MOST(std::sqrt(left / all), 1e-12);
  }
}

void a_matrix_of_low_rank_is_found() {
  constexpr index_t m = 90;
  constexpr index_t n = 37;
  std::vector<double> x(m * n);
  const auto left = random_entries<double>(m * 3, 1);
  const auto right = random_entries<double>(n * 3, 2);
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < n; ++j)
      for (std::size_t r = 0; r < 3; ++r) x[i * n + j] += left[i * 3 + r] * right[j * 3 + r];
  for (const RsvdMethod method : methods) {
    const Found f = rsvd(x, m, n, with(5, method));
    CHECK(f.status == Status::ok);
    double error = 0;
    for (std::size_t i = 0; i < m; ++i)
      for (std::size_t j = 0; j < n; ++j) {
        double sum = 0;
        for (std::size_t r = 0; r < 5; ++r) sum += f.u[i * 5 + r] * f.s[r] * f.vh[r * n + j];
        error = std::max(error, std::abs(sum - x[i * n + j]));
      }
    CHECK_AT_MOST(error, 1e-12 * f.s[0]);
    CHECK_AT_MOST(f.s[3], 1e-12 * f.s[0]);
  }
}

void reads_are_counted() {
  auto x = random_entries<double>(80 * 60, 3);
  for (int passes = 1; passes <= 4; ++passes) {
    RsvdOptions options = with(4, RsvdMethod::subspace);
    options.passes = passes;
    CHECK(rsvd(x, 80, 60, options).figures.passes == passes);
  }
  CHECK(rsvd(x, 80, 60, with(4, RsvdMethod::gram)).figures.passes == 2);
  CHECK(rsvd(x, 80, 60, with(4, RsvdMethod::single_pass)).figures.passes == 1);
}

void threads_do_not_change_a_bit() {
  auto x = random_entries<double>(1000 * 300, 4);
  const int before = num_threads();
  for (const RsvdMethod method : methods) {
    set_num_threads(1);
    const Found one = rsvd(x, 1000, 300, with(6, method));
    set_num_threads(3);
    const Found three = rsvd(x, 1000, 300, with(6, method));
    CHECK(one.u == three.u && one.s == three.s && one.vh == three.vh);
  }
  set_num_threads(before);
}

void what_is_not_finite_is_refused() {
  auto x = random_entries<double>(20 * 10, 5);
  x[77] = std::numeric_limits<double>::infinity();
  for (const RsvdMethod method : methods)
    CHECK(rsvd(x, 20, 10, with(2, method)).status == Status::not_finite);
}

}  // namespace

int main() {
  philox_gives_its_known_answers();
  one_read_is_with_the_sketch_as_defined();
  a_matrix_of_low_rank_is_found();
  reads_are_counted();
  threads_do_not_change_a_bit();
  what_is_not_finite_is_refused();
  return finish();
}
