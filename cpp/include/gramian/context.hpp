// The threads of one call. All contexts of the process share one set of workers and one limit:
// however many threads call at once, at most num_threads() of them and of the workers compute at
// any time, and the rest wait for their turn; calls too short to matter are let through.
#pragma once

#include <type_traits>
#include <utility>
#include <vector>

#include "gramian/matrix_view.hpp"

namespace gramian {

namespace detail {
struct Worker;
}

class Context {
 public:
  /// Waits until a thread is free, then takes up to `want` in all (the caller counts as one).
  /// want = 1 with gated = false never waits: for work too short to be worth a turn.
  explicit Context(int want, bool gated = true);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  int size() const { return 1 + static_cast<int>(workers_.size()); }

  /// fn(task, slot) for every task in [0, tasks), slot < size() telling the threads apart.
  /// Tasks are taken in order, each by the next free thread. Returns when all are done. If one
  /// throws, no further ones begin, and its exception (the first) is thrown on once all have ended.
  template <class F>
  void run(index_t tasks, F&& fn) {
    run_erased(
        tasks,
        [](void* f, index_t task, int slot) {
          (*static_cast<std::remove_reference_t<F>*>(f))(task, slot);
        },
        &fn);
  }

 private:
  using Fn = void (*)(void*, index_t, int);
  void run_erased(index_t tasks, Fn fn, void* closure);

  bool gated_;
  std::vector<detail::Worker*> workers_;
};

}  // namespace gramian
