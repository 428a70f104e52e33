#include "gramian/context.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <thread>

#include "gramian/threads.hpp"

namespace gramian {
namespace detail {

namespace {

struct Job {
  void (*fn)(void*, index_t, int);
  void* closure;
  index_t tasks;
  std::atomic<index_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error{};  // the first one's; read once all threads are done

  // What a task throws must neither end the process, as it would on a worker, nor leave workers
  // behind with a job that is gone, as it would on the caller.
  void work(int slot) {
    try {
      for (index_t t; (t = next.fetch_add(1, std::memory_order_relaxed)) < tasks;)
        fn(closure, t, slot);
    } catch (...) {
      if (!failed.exchange(true)) error = std::current_exception();
      next.store(tasks, std::memory_order_relaxed);  // no further tasks
    }
  }
};

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Regions of one call follow each other within microseconds, and waking a sleeper takes as long as
// a region (with 50 us of spinning, 512 x 512 products ran as if on one thread): spin for a while,
// then offer the core to others between looks, and sleep after a millisecond.
template <class Done>
bool spin(Done done) {
  for (int i = 0; i < 500; ++i) {
    if (done()) return true;
    relax();
  }
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::milliseconds(1);
  while (Clock::now() < end) {
    if (done()) return true;
    std::this_thread::yield();
  }
  return done();
}

}  // namespace

struct Worker {
  enum State : std::uint32_t { idle, posted, running };

  std::atomic<std::uint32_t> state{idle};
  Job* job = nullptr;
  int slot = 0;

  void loop() {
    for (;;) {
      if (!spin([&] { return state.load(std::memory_order_acquire) == posted; })) {
        state.wait(idle, std::memory_order_acquire);
        continue;
      }
      std::uint32_t expected = posted;
      if (!state.compare_exchange_strong(expected, running, std::memory_order_acq_rel)) continue;
      job->work(slot);
      // Sequentially consistent, here and in post(): notify_one skips the system call where it sees
      // no waiter, and a mere release store could still be on its way when it looks, while the
      // waiter has seen the old value and goes to sleep for good.
      state.exchange(idle, std::memory_order_seq_cst);
      state.notify_one();  // of the worker, which lives on: the job's owner may be gone by now
    }
  }

  void post(Job* j, int s) {
    job = j;
    slot = s;
    state.exchange(posted, std::memory_order_seq_cst);
    state.notify_one();
  }

  /// Returns once the worker no longer knows the job. One that has not started by now would find
  /// no task left: its job is taken back, rather than wait until a busy machine schedules it.
  void join() {
    std::uint32_t now = posted;
    if (state.compare_exchange_strong(now, idle, std::memory_order_acq_rel)) return;
    if (!spin([&] { return state.load(std::memory_order_acquire) == idle; }))
      while ((now = state.load(std::memory_order_acquire)) != idle)
        state.wait(now, std::memory_order_acquire);
  }
};

namespace {

int cpus_allowed() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int initial_limit() {
  for (const char* name : {"GRAMIAN_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}) {
    if (const char* text = std::getenv(name)) {
      char* end = nullptr;
      const long n = std::strtol(text, &end, 10);  // "4,2" (OpenMP's nested form) reads as 4
      if (end != text && n > 0 && n < 4096) return static_cast<int>(n);
    }
  }
  return cpus_allowed();
}

// Never destroyed: at exit workers may still be asleep on its members.
struct Pool {
  std::mutex mutex;
  std::condition_variable turn;
  std::vector<Worker*> idle;
  int workers = 0;
  int active = 0;
  std::atomic<int> limit{initial_limit()};
};

Pool* new_pool();

Pool*& pool_pointer() {
  static Pool* pool = new_pool();
  return pool;
}

Pool& pool() { return *pool_pointer(); }

// After fork() only the forking thread exists in the child: the workers, and any lock another
// thread held, are gone. The child starts over with a pool of its own.
Pool* new_pool() {
  [[maybe_unused]] static const int registered = pthread_atfork(nullptr, nullptr, [] {
    const int limit = pool().limit.load();
    auto* fresh = new Pool;
    fresh->limit = limit;
    pool_pointer() = fresh;
  });
  return new Pool;
}

/// One more, with room in the list for it; null if no more threads or memory are to be had: the
/// call goes on with fewer.
Worker* start_worker(Pool& p) {
  auto* worker = new (std::nothrow) Worker;
  if (!worker) return nullptr;
  try {
    p.idle.reserve(static_cast<std::size_t>(p.workers) + 1);
    std::thread([worker] { worker->loop(); }).detach();
  } catch (...) {
    delete worker;
    return nullptr;
  }
  ++p.workers;
  return worker;
}

}  // namespace

}  // namespace detail

Context::Context(int want, bool gated) : gated_(gated) {
  if (!gated_) return;
  detail::Pool& p = detail::pool();
  workers_.reserve(static_cast<std::size_t>(std::max(want - 1, 0)));  // nothing throws below
  std::unique_lock lock(p.mutex);
  p.turn.wait(lock, [&] { return p.active < p.limit.load(); });
  ++p.active;
  const int extra = std::min(want - 1, p.limit.load() - p.active);
  for (int i = 0; i < extra; ++i) {
    detail::Worker* worker = nullptr;
    if (!p.idle.empty()) {
      worker = p.idle.back();
      p.idle.pop_back();
    } else {
      worker = detail::start_worker(p);
    }
    if (!worker) break;
    workers_.push_back(worker);
    ++p.active;
  }
}

Context::~Context() {
  if (!gated_) return;
  detail::Pool& p = detail::pool();
  {
    std::lock_guard lock(p.mutex);
    p.active -= size();
    p.idle.insert(p.idle.end(), workers_.begin(), workers_.end());
  }
  p.turn.notify_all();
}

void Context::run_erased(index_t tasks, Fn fn, void* closure) {
  detail::Job job{fn, closure, tasks};
  const auto helpers = static_cast<std::size_t>(
      std::clamp<index_t>(tasks - 1, 0, static_cast<index_t>(workers_.size())));
  for (std::size_t i = 0; i < helpers; ++i) workers_[i]->post(&job, static_cast<int>(i) + 1);
  job.work(0);
  for (std::size_t i = 0; i < helpers; ++i) workers_[i]->join();
  if (job.error) std::rethrow_exception(job.error);
}

int num_threads() { return detail::pool().limit.load(); }

bool set_num_threads(int n) {
  if (n < 1) return false;
  detail::Pool& p = detail::pool();
  {
    std::lock_guard lock(p.mutex);
    p.limit = n;
  }
  p.turn.notify_all();
  return true;
}

}  // namespace gramian
