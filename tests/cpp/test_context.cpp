#include "gramian/context.hpp"

#include <atomic>
#include <thread>
#include <vector>

#include "check.hpp"
#include "gramian/threads.hpp"

using namespace gramian;

namespace {

void every_task_runs_once() {
  set_num_threads(4);
  Context ctx(4);
  CHECK(ctx.size() == 4);
  for (const index_t tasks : {0, 1, 3, 1000}) {
    std::vector<std::atomic<int>> runs(static_cast<std::size_t>(tasks));
    std::atomic<int> bad_slots{0};
    ctx.run(tasks, [&](index_t t, int slot) {
      runs[static_cast<std::size_t>(t)]++;
      if (slot < 0 || slot >= ctx.size()) bad_slots++;
    });
    int wrong = 0;
    for (const auto& r : runs) wrong += r != 1;
    CHECK(wrong == 0);
    CHECK(bad_slots == 0);
  }
}

/// Callers and workers together never compute in more threads than the limit.
void limit_holds_over_all_callers() {
  for (const int limit : {1, 3}) {
    set_num_threads(limit);
    std::atomic<int> active{0};
    std::atomic<int> most{0};
    std::atomic<index_t> done{0};
    std::vector<std::thread> callers;
    for (int c = 0; c < 8; ++c)
      callers.emplace_back([&] {
        for (int call = 0; call < 20; ++call) {
          Context ctx(8);
          ctx.run(6, [&](index_t, int) {
            const int now = ++active;
            int seen = most.load();
            while (now > seen && !most.compare_exchange_weak(seen, now)) {
            }
            std::this_thread::sleep_for(std::chrono::microseconds(50));
            --active;
            ++done;
          });
        }
      });
    for (auto& t : callers) t.join();
    CHECK(done == 8 * 20 * 6);
    CHECK(most <= limit);
    CHECK(most >= 1);
  }
}

void limit_is_checked() {
  set_num_threads(2);
  CHECK(!set_num_threads(0));
  CHECK(!set_num_threads(-3));
  CHECK(num_threads() == 2);
}

}  // namespace

int main() {
  every_task_runs_once();
  limit_holds_over_all_callers();
  limit_is_checked();
  return test::finish();
}
