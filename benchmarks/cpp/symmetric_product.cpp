// The symmetric products against the full gemm of the same product, and against syrk, from the
// BLAS that the library is linked to.
//
//   gramian_symmetric_product [--check] [--rounds N] [--threads N]
//
// Contestants take turns in blocks of calls with a pause between them, because the threads of a
// BLAS spin for a while after a call. A time is the median over the rounds of the medians of the
// blocks; shown are its ratios. --check exits with 1 if gram or hermitian_product is under 1.6
// times as fast as gemm at 1024 or 2048.

#include <cblas.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "gramian/context.hpp"
#include "gramian/symmetric_product.hpp"
#include "gramian/system_info.hpp"
#include "gramian/threads.hpp"
#include "gramian/workspace.hpp"

#if defined(GRAMIAN_SCIPY_OPENBLAS)
#define BLAS(name) scipy_##name
#else
#define BLAS(name) name
#endif

namespace {

using namespace gramian;
using Clock = std::chrono::steady_clock;

constexpr double wanted = 1.6;
constexpr double block_seconds = 0.1;
// OpenBLAS's threads spin for 2^26 clock ticks, about 26 ms, after a product, and would take the
// second core from whatever comes next; now and then for longer.
constexpr auto pause_between_blocks = std::chrono::milliseconds(150);

struct Options {
  bool check = false;
  int rounds = 5;
  int threads = num_threads();
};

void set_blas_threads([[maybe_unused]] int threads) {
#if defined(GRAMIAN_SCIPY_OPENBLAS) || defined(OPENBLAS_VERSION)
  BLAS(openblas_set_num_threads)(threads);
#endif
}

// ---- BLAS by element type ----------------------------------------------------------------------

// C (rows x cols) = A B, all row-major; transposed says that B is stored as cols x inner.
template <class T>
void gemm(index_t rows, index_t cols, index_t inner, const T* a, const T* b, bool transposed,
          T* c) {
  const int m = static_cast<int>(rows), n = static_cast<int>(cols), k = static_cast<int>(inner);
  const CBLAS_TRANSPOSE op = transposed ? CblasTrans : CblasNoTrans;
  const int ldb = transposed ? k : n;
  if constexpr (std::is_same_v<T, float>)
    BLAS(cblas_sgemm)(CblasRowMajor, CblasNoTrans, op, m, n, k, 1, a, k, b, ldb, 0, c, n);
  else
    BLAS(cblas_dgemm)(CblasRowMajor, CblasNoTrans, op, m, n, k, 1, a, k, b, ldb, 0, c, n);
}

// The lower triangle of C = A A^T.
template <class T>
void syrk(index_t rows, index_t inner, const T* a, T* c) {
  const int m = static_cast<int>(rows), k = static_cast<int>(inner);
  if constexpr (std::is_same_v<T, float>)
    BLAS(cblas_ssyrk)(CblasRowMajor, CblasLower, CblasNoTrans, m, k, 1, a, k, 0, c, m);
  else
    BLAS(cblas_dsyrk)(CblasRowMajor, CblasLower, CblasNoTrans, m, k, 1, a, k, 0, c, m);
}

// ---- Timing -------------------------------------------------------------------------------------

double seconds(const std::function<void()>& call) {
  const auto start = Clock::now();
  call();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Seconds of each call, interleaved.
std::vector<double> race(const std::vector<std::function<void()>>& calls, int rounds) {
  std::vector<int> counts;
  for (const auto& call : calls) {
    call();
    counts.push_back(std::clamp(static_cast<int>(block_seconds / seconds(call)), 1, 50));
  }
  std::vector<std::vector<double>> blocks(calls.size());
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < calls.size(); ++i) {
      std::this_thread::sleep_for(pause_between_blocks);
      calls[i]();  // wakes the threads
      std::vector<double> taken;
      for (int n = 0; n < counts[i]; ++n) taken.push_back(seconds(calls[i]));
      blocks[i].push_back(median(taken));
    }
  }
  std::vector<double> result;
  for (const auto& block : blocks) result.push_back(median(block));
  return result;
}

// ---- The products -------------------------------------------------------------------------------

// Largest difference in units of the largest entry.
template <class T>
double difference(const std::vector<T>& a, const std::vector<T>& b) {
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return worst / largest;
}

// I - 2 v v^T / |v|^2: symmetric, dense, and orthogonal, so that it can be applied in place over
// and over without growth or decay.
template <class T>
std::vector<T> reflector(index_t m, std::mt19937& generator) {
  std::normal_distribution<double> normal;
  std::vector<double> v(static_cast<std::size_t>(m));
  double norm2 = 0;
  for (double& entry : v) {
    entry = normal(generator);
    norm2 += entry * entry;
  }
  std::vector<T> s;
  for (std::size_t i = 0; i < v.size(); ++i)
    for (std::size_t j = 0; j < v.size(); ++j)
      s.push_back(static_cast<T>((i == j ? 1.0 : 0.0) - 2 * v[i] * v[j] / norm2));
  return s;
}

// Prints the figures of one shape; returns whether they are right and fast enough.
template <class T>
bool measure(index_t m, index_t n, int threads, const Options& options) {
  std::mt19937 generator(1);
  std::normal_distribution<double> normal(0, 1 / std::sqrt(static_cast<double>(n)));
  const auto area = [](index_t rows, index_t cols) {
    return static_cast<std::size_t>(rows * cols);
  };
  std::vector<T> x(area(m, n)), ours(area(m, m)), theirs(area(m, m)), y(area(m, n)), z(area(m, n));
  for (T& entry : x) entry = static_cast<T>(normal(generator));
  const std::vector<T> s = reflector<T>(m, generator);
  std::vector<T> a(area(m, m));

  Context context(threads);
  set_blas_threads(threads);
  const WorkspaceMemory memory(product_workspace<T>(m, std::max(m, n)) +
                               apply_workspace<T>(m, n, threads));
  const WorkspaceMemory packed_memory(packed_hermitian_bytes<T>(m));
  if (!memory.ok() || !packed_memory.ok()) return false;
  const Workspace workspace = memory.view(), packed = packed_memory.view();
  const auto view_x = row_major<const T>(x.data(), m, n);
  const auto view_s = row_major<const T>(s.data(), m, m);
  const auto view_a = row_major<const T>(a.data(), m, m);
  const auto view_ours = row_major(ours.data(), m, m);

  const std::vector<double> t_gram =
      race({[&] { gram<T>(context, view_x, Side::left, {}, view_ours, workspace); },
            [&] { gemm(m, m, n, x.data(), x.data(), true, theirs.data()); },
            [&] { syrk(m, n, x.data(), a.data()); }},
           options.rounds);
  double error = difference(ours, theirs);

  // Rounding may leave gemm's X X^T unsymmetric in the last bit; the products ask for symmetry.
  a = ours;
  const std::vector<double> t_product =
      race({[&] { hermitian_product<T>(context, view_a, view_a, {}, view_ours, workspace); },
            [&] { gemm(m, m, m, a.data(), a.data(), false, theirs.data()); }},
           options.rounds);
  error = std::max(error, difference(ours, theirs));

  y = x;
  apply<T>(context, view_s, Side::left, 1, row_major(y.data(), m, n), workspace, packed);
  gemm(m, n, m, s.data(), x.data(), false, z.data());
  error = std::max(error, difference(y, z));
  const std::vector<double> t_apply = race(
      {[&] {
         apply<T>(context, view_s, Side::left, 1, row_major(y.data(), m, n), workspace, packed);
       },
       [&] { gemm(m, n, m, s.data(), x.data(), false, z.data()); }},
      options.rounds);

  const double gram_ratio = t_gram[1] / t_gram[0];
  const double product_ratio = t_product[1] / t_product[0];
  const bool judged = m == n && (m == 1024 || m == 2048);
  const bool fast = !judged || (gram_ratio >= wanted && product_ratio >= wanted);
  const bool right = error < 100 * (std::is_same_v<T, float> ? 6e-8 : 1.1e-16);
  std::printf("%5lld x %-5lld %-4s %8d %10.2f %10.2f %18.2f %10.2f%s%s\n",
              static_cast<long long>(m), static_cast<long long>(n),
              std::is_same_v<T, float> ? "f32" : "f64", threads, gram_ratio, t_gram[1] / t_gram[2],
              product_ratio, t_apply[1] / t_apply[0], fast ? "" : "  MISSED",
              right ? "" : "  WRONG");
  std::fflush(stdout);
  return fast && right;
}

// What the environment imposes on the BLAS makes it another peer than the one users have.
bool kernels_are_forced() {
  bool forced = false;
  for (const char* name : {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "GRAMIAN_ISA",
                           "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE"}) {
    if (const char* value = std::getenv(name)) {
      std::fprintf(stderr, "THE ENVIRONMENT FORCES KERNELS: %s=%s\n", name, value);
      forced = true;
    }
  }
  return forced;
}

void warn_if_busy() {
#if defined(__unix__) || defined(__APPLE__)
  double load = 0;
  if (getloadavg(&load, 1) == 1 && load > 0.5)
    std::printf("THE MACHINE IS BUSY (load %.1f): expect noise in both directions\n", load);
#endif
}

int usage() {
  std::fprintf(stderr, "usage: gramian_symmetric_product [--check] [--rounds N] [--threads N]\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--check") {
      options.check = true;
    } else if ((argument == "--rounds" || argument == "--threads") && i + 1 < argc) {
      const int value = std::atoi(argv[++i]);
      if (value < 1) return usage();
      (argument == "--rounds" ? options.rounds : options.threads) = value;
    } else {
      return usage();
    }
  }
  if (kernels_are_forced() && options.check) {
    std::fprintf(stderr, "--check needs the kernels that users have: unset these variables\n");
    return 2;
  }

  set_num_threads(options.threads);
  warn_if_busy();
  std::printf("gramian %s (%s), %s\n", version(), instruction_set(), blas_description().c_str());
  std::printf(
      "Times as fast as gemm's full product (wanted at 1024 and 2048: %.1f); apply is a "
      "full product too.\n",
      wanted);
  std::printf("%5s x %-5s %-4s %8s %10s %10s %18s %10s\n", "m", "n", "type", "threads", "gram",
              "(syrk)", "hermitian_product", "apply");
  bool good = true;
  std::vector<int> counts{1};
  if (options.threads > 1) counts.push_back(options.threads);
  for (const int threads : counts) {
    for (const index_t m : {256, 512, 1024, 2048}) {
      good &= measure<float>(m, m, threads, options);
      good &= measure<double>(m, m, threads, options);
    }
    good &= measure<float>(1024, 4096, threads, options);
    good &= measure<double>(1024, 4096, threads, options);
  }
  return options.check && !good ? 1 : 0;
}
