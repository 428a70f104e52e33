// Many callers at once; under ThreadSanitizer too (cmake --preset sanitize-threads).
#include "gramian/threads.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <functional>
#include <latch>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "arrays.hpp"
#include "check.hpp"
#include "gramian/bounds.hpp"
#include "gramian/context.hpp"
#include "gramian/frequent_directions.hpp"
#include "gramian/inverse_root.hpp"
#include "gramian/newton_schulz.hpp"
#include "gramian/polar.hpp"
#include "gramian/rsvd.hpp"
#include "gramian/streaming.hpp"
#include "reference.hpp"

using namespace gramian;
using namespace gramian::test;

namespace {

using Numbers = std::vector<double>;
using Call = std::function<Numbers(Numbers&)>;  // the input is shared and only read

struct Case {
  std::string name;
  index_t rows, cols, count;
  Call call;
};

/// On the threads that call: CHECK counts without a lock.
void must(Status status) {
  if (status != Status::ok) throw std::runtime_error("a call has failed");
}

ArrayRef batch(Numbers& entries, const Case& c) {
  return {entries.data(), DType::float64, {c.count, c.rows, c.cols}, {c.rows * c.cols, c.cols, 1}};
}

Numbers orthogonalized(Numbers& x, const Case& c) {
  NewtonSchulzOptions options;
  options.table = *preset_table("polar_express", 5);
  options.double_precision = true;
  options.plan = plan_newton_schulz(c.rows, c.cols, options.table, unit_roundoff<double>,
                                    NewtonSchulzMethod::gram);
  Numbers out(x.size());
  must(newton_schulz(batch(x, c), batch(out, c), options));
  return out;
}

Numbers polar_factor(Numbers& x, const Case& c) {
  Numbers out(x.size());
  std::vector<PolarReport> reports;
  must(polar(batch(x, c), batch(out, c), {}, Side::right, {}, reports));
  return out;
}

Numbers clipped(Numbers& x, const Case& c) {
  Numbers out(x.size());
  std::vector<ClipReport> reports;
  must(spectral_clip(batch(x, c), batch(out, c), 5.0, ClipKind::soft, {}, reports));
  return out;
}

Numbers bound_with_gradient(Numbers& x, const Case& c) {
  Numbers out(x.size());
  Numbers bound(static_cast<std::size_t>(c.count));
  const ArrayRef figures{bound.data(), DType::float64, {c.count}, {1}};
  must(gram_bound(batch(x, c), 3, true, figures, batch(out, c)));
  out.insert(out.end(), bound.begin(), bound.end());
  return out;
}

Numbers bracket(Numbers& x, const Case& c) {
  Numbers lower(static_cast<std::size_t>(c.count));
  Numbers upper(lower.size());
  const index_t n = c.count;
  Bracket out{{lower.data(), DType::float64, {n}, {1}},
              {upper.data(), DType::float64, {n}, {1}},
              {},
              {},
              {}};
  must(spectral_norm_bounds(batch(x, c), {}, out));
  lower.insert(lower.end(), upper.begin(), upper.end());
  return lower;
}

/// Of X X^T + I, which is made here: rows x rows.
Numbers root(Numbers& x, const Case& c) {
  const auto m = static_cast<std::size_t>(c.rows);
  const auto n = static_cast<std::size_t>(c.cols);
  Numbers a(m * m);
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j <= i; ++j) {
      double sum = i == j ? 1 : 0;
      for (std::size_t k = 0; k < n; ++k) sum += x[i * n + k] * x[j * n + k];
      a[i * m + j] = a[j * m + i] = sum;
    }
  const Case square{"", c.rows, c.rows, 1, {}};
  Numbers out(a.size());
  InverseRootOptions options;
  options.p = 4;
  InverseRootOutcome outcome;
  must(inverse_root(batch(a, square), batch(out, square), options, {}, outcome));
  return out;
}

Numbers factors(Numbers& x, const Case& c) {
  RsvdOptions options;
  options.rank = 5;
  Rsvd result;
  must(result.compute(batch(x, c), options));
  const index_t k = result.rank();
  Numbers u(static_cast<std::size_t>(c.count * c.rows * k));
  Numbers s(static_cast<std::size_t>(c.count * k));
  Numbers v(static_cast<std::size_t>(c.count * k * c.cols));
  result.write({u.data(), DType::float64, {c.count, c.rows, k}, {c.rows * k, k, 1}},
               {s.data(), DType::float64, {c.count, k}, {k, 1}},
               {v.data(), DType::float64, {c.count, k, c.cols}, {k * c.cols, c.cols, 1}});
  u.insert(u.end(), s.begin(), s.end());
  u.insert(u.end(), v.begin(), v.end());
  return u;
}

Numbers streamed(Numbers& x, const Case& c) {
  using Layout = OjaLayout;
  const index_t d = c.cols;
  Numbers vectors(static_cast<std::size_t>((Layout::rates + Layout::sketch) * d));
  Numbers figures(Layout::rates * Layout::figure_count);
  Numbers totals(Layout::total_count);
  for (index_t l = 0; l < Layout::rates; ++l) {
    for (index_t j = 0; j < d; ++j)
      vectors[static_cast<std::size_t>(l * d + j)] = 1 / std::sqrt(static_cast<double>(d));
    figures[static_cast<std::size_t>(l * Layout::figure_count + Layout::norm)] = 1;
    figures[static_cast<std::size_t>(l * Layout::figure_count + Layout::start)] = 1;
  }
  const ArrayRef rows{x.data(), DType::float64, {c.count * c.rows, d}, {d, 1}};
  must(oja_update({vectors.data(), figures.data(), totals.data(), d, true}, rows, nullptr));
  return vectors;
}

/// One for each way of dealing out work: alone and without a turn, a matrix shared, a batch dealt.
std::vector<Case> cases() {
  const std::vector<std::pair<std::string, Numbers (*)(Numbers&, const Case&)>> functions = {
      {"newton_schulz", orthogonalized},
      {"polar", polar_factor},
      {"spectral_clip", clipped},
      {"gram_bound with gradient", bound_with_gradient},
      {"spectral_norm_bounds", bracket},
      {"inverse_root", root},
      {"rsvd", factors},
      {"oja_update", streamed}};
  std::vector<Case> all;
  for (const auto& [name, function] : functions)
    for (const auto& [rows, cols, count] :
         {std::array<index_t, 3>{12, 9, 2}, {270, 260, 1}, {60, 50, 9}}) {
      const Case c{name, rows, cols, count, {}};
      all.push_back({name, rows, cols, count,
                     [c, function = function](Numbers& x) { return function(x, c); }});
    }
  all.push_back({"oja_update", 1000, 200, 1, {}});  // from 2^17 entries on by two threads
  const Case long_stream = all.back();
  all.back().call = [long_stream](Numbers& x) { return streamed(x, long_stream); };
  return all;
}

/// From eight threads, all of which start at once with a first call of the process, while a ninth
/// changes the limit: the bits of calls one after the other.
void bits_are_those_of_serial_calls() {
  const std::vector<Case> all = cases();
  std::vector<Numbers> inputs;
  for (const Case& c : all)
    inputs.push_back(random_entries<double>(c.rows * c.cols * c.count,
                                            static_cast<unsigned>(inputs.size() + 1)));
  constexpr std::size_t callers = 8;
  std::vector<std::vector<Numbers>> found(callers, std::vector<Numbers>(all.size()));
  std::atomic<bool> done{false};
  std::latch start(callers);
  std::thread changer([&] {
    for (int n = 0; !done; n = (n + 1) % 5) {
      set_num_threads(1 + n);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < callers; ++t)
    threads.emplace_back([&, t] {
      start.arrive_and_wait();
      for (std::size_t i = 0; i < all.size(); ++i) {
        const std::size_t at = (i + t * all.size() / callers) % all.size();
        found[t][at] = all[at].call(inputs[at]);
      }
    });
  for (auto& t : threads) t.join();
  done = true;
  changer.join();
  set_num_threads(1);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Numbers truth = all[i].call(inputs[i]);
    for (std::size_t t = 0; t < callers; ++t) CHECK(found[t][i] == truth && !truth.empty());
  }
}

/// The workspace is for the threads that a call gets, whenever the limit changes: writes beyond it
/// are seen under AddressSanitizer.
void a_limit_that_rises_within_a_call() {
  const Case c{"", 270, 260, 1, {}};
  Numbers x = random_entries<double>(270 * 260, 3);
  set_num_threads(1);
  const Numbers truth = bound_with_gradient(x, c);
  std::atomic<bool> done{false};
  std::thread changer([&] {
    for (int n = 0; !done; ++n) set_num_threads(n % 2 ? 64 : 1);
  });
  int wrong = 0;
  for (int call = 0; call < 200; ++call) wrong += bound_with_gradient(x, c) != truth;
  done = true;
  changer.join();
  CHECK(wrong == 0);
}

/// A task that throws, on the calling thread or on a worker, ends its call and nothing else.
void exceptions_reach_the_caller() {
  set_num_threads(4);
  int by_workers = 0;
  for (int round = 0; round < 40; ++round) {
    Context ctx(4);
    const bool on_worker = round % 2;
    std::atomic<int> thrown{0};
    int caught = 0;
    try {
      ctx.run(200, [&](index_t, int slot) {
        std::this_thread::sleep_for(std::chrono::microseconds(100));  // workers take part
        if ((slot > 0) != on_worker) return;
        ++thrown;
        throw std::runtime_error("a task");
      });
    } catch (const std::runtime_error& e) {
      caught += e.what() == std::string("a task");
    }
    CHECK(caught == (thrown > 0));
    if (on_worker) by_workers += caught;
    std::atomic<int> after{0};
    ctx.run(100, [&](index_t, int) { ++after; });
    CHECK(after == 100);
  }
  CHECK(by_workers > 0);
}

}  // namespace

int main() {
  bits_are_those_of_serial_calls();
  a_limit_that_rises_within_a_call();
  exceptions_reach_the_caller();
  return test::finish();
}
