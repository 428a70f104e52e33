#include "gramian/symmetric_product.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>

#include "check.hpp"
#include "gramian/threads.hpp"
#include "reference.hpp"

using namespace gramian;
using namespace gramian::test;

namespace {

template <class T>
constexpr double u = std::numeric_limits<real_t<T>>::epsilon();

template <class T>
constexpr real_t<T> nan_of = std::numeric_limits<real_t<T>>::quiet_NaN();

template <class T>
bool hermitian_to_the_bit(MatrixView<const T> c) {
  for (index_t i = 0; i < c.rows; ++i)
    for (index_t j = 0; j <= i; ++j) {
      T mirrored = c(j, i);
      if constexpr (is_complex_v<T>) mirrored = std::conj(mirrored);
      if (!(c(i, j) == mirrored)) return false;
    }
  return true;
}

template <class T>
void gram_matches_reference(index_t m, index_t n) {
  // The sum of n products, each rounded: 4 sqrt(n) u relative to the largest entry is generous by
  // about 3 and far below any wrong term.
  const double bound = 4 * std::sqrt(static_cast<double>(n)) * u<T>;
  const auto entries = random_entries<T>(m * n, 7);
  Context ctx(2);
  for (const bool left : {true, false}) {
    // Wide X X^H and tall X^H X, each from row-major, column-major and reversed memory.
    const index_t rows = left ? m : n;
    const index_t cols = left ? n : m;
    const T* p = entries.data();
    const MatrixView<const T> views[] = {
        {p, rows, cols, cols, 1}, {p, rows, cols, 1, rows}, {p + m * n - 1, rows, cols, -cols, -1}};
    const WorkspaceMemory memory(product_workspace<T>(m, n));
    CHECK(memory.ok());
    for (const auto& x : views) {
      std::vector<T> c(static_cast<std::size_t>(m * m), T(nan_of<T>));
      gram<T>(ctx, x, left ? Side::left : Side::right, {}, row_major(c.data(), m, m),
              memory.view());
      const auto got = row_major<const T>(c.data(), m, m);
      CHECK_AT_MOST(relative_error(got, gram_reference(x, left)), bound);
      CHECK(hermitian_to_the_bit(got));
    }
  }
}

template <class T>
void commuting_product_matches_reference(index_t m) {
  const double bound = 8 * std::sqrt(static_cast<double>(m)) * u<T>;
  const auto x = random_entries<T>(m * m, 3);
  Context ctx(2);
  const WorkspaceMemory memory(product_workspace<T>(m, m));
  std::vector<T> s(static_cast<std::size_t>(m * m));
  const auto view = row_major(s.data(), m, m);
  gram<T>(ctx, row_major(x.data(), m, m), Side::left, {real_t<T>(1) / static_cast<real_t<T>>(m)},
          view, memory.view());

  // Z = S^2 + S / 2 + 3 I commutes with S.
  std::vector<T> z(s.size(), T(nan_of<T>));
  Update<T> update;
  update.beta = real_t<T>(0.5);
  update.d = view;
  update.gamma = 3;
  hermitian_product<T>(ctx, view, view, update, row_major(z.data(), m, m), memory.view());
  auto want = product_reference<T, T>(view, view);
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < m; ++j)
      want[static_cast<std::size_t>(i * m + j)] +=
          0.5 * widen(s[static_cast<std::size_t>(i * m + j)]) + (i == j ? 3.0 : 0.0);
  CHECK_AT_MOST(relative_error(row_major<const T>(z.data(), m, m), want), bound);

  // S Z, written over D.
  std::vector<T> c = s;
  update = {};
  update.beta = 2;
  update.d = row_major<const T>(c.data(), m, m);
  hermitian_product<T>(ctx, view, row_major<const T>(z.data(), m, m), update,
                       row_major(c.data(), m, m), memory.view());
  want = product_reference<T, T>(view, row_major<const T>(z.data(), m, m));
  for (std::size_t e = 0; e < want.size(); ++e) want[e] += 2.0 * widen(s[e]);
  CHECK_AT_MOST(relative_error(row_major<const T>(c.data(), m, m), want), bound);
  CHECK(hermitian_to_the_bit(row_major<const T>(c.data(), m, m)));
}

template <class T>
void apply_in_place_matches_reference(index_t m, index_t n) {
  const double bound = 4 * std::sqrt(static_cast<double>(m)) * u<T>;
  const auto x = random_entries<T>(m * m, 5);
  std::vector<T> s(static_cast<std::size_t>(m * m));
  Context ctx(2);
  const WorkspaceMemory memory(product_workspace<T>(m, m) + apply_workspace<T>(m, n, ctx.size()));
  const WorkspaceMemory for_s(packed_hermitian_bytes<T>(m));
  const auto sv = row_major<const T>(s.data(), m, m);
  gram<T>(ctx, row_major(x.data(), m, m), Side::left, {}, row_major(s.data(), m, m), memory.view());
  for (const bool left : {true, false}) {
    const index_t rows = left ? m : n;
    const index_t cols = left ? n : m;
    const index_t pitch = cols + 3;  // rows with gaps, which must stay as they are
    auto y = random_entries<T>(rows * pitch, 9);
    const auto before = y;
    apply<T>(ctx, sv, left ? Side::left : Side::right, real_t<T>(0.25),
             {y.data(), rows, cols, pitch, 1}, memory.view(), for_s.view());
    const MatrixView<const T> old{before.data(), rows, cols, pitch, 1};
    auto want = left ? product_reference<T, T>(sv, old) : product_reference<T, T>(old, sv);
    for (auto& w : want) w *= 0.25;
    CHECK_AT_MOST(relative_error(MatrixView<const T>{y.data(), rows, cols, pitch, 1}, want), bound);
    bool gaps_kept = true;
    for (index_t i = 0; i < rows; ++i)
      for (index_t j = cols; j < pitch; ++j) {
        const auto e = static_cast<std::size_t>(i * pitch + j);
        gaps_kept = gaps_kept && y[e] == before[e];
      }
    CHECK(gaps_kept);
  }
}

template <class T>
void bits_do_not_depend_on_threads(index_t m, index_t n) {
  const auto x = random_entries<T>(m * n, 11);
  std::vector<T> results[2];
  for (int threads = 1; threads <= 2; ++threads) {
    set_num_threads(threads);
    Context ctx(threads);
    CHECK(ctx.size() == threads);
    const WorkspaceMemory memory(product_workspace<T>(m, n) + apply_workspace<T>(m, n, threads));
    const WorkspaceMemory for_s(packed_hermitian_bytes<T>(m));
    std::vector<T> c(static_cast<std::size_t>(m * m));
    auto y = x;
    gram<T>(ctx, row_major(x.data(), m, n), Side::left, {}, row_major(c.data(), m, m),
            memory.view());
    apply<T>(ctx, row_major<const T>(c.data(), m, m), Side::left, 1, row_major(y.data(), m, n),
             memory.view(), for_s.view());
    c.insert(c.end(), y.begin(), y.end());
    results[threads - 1] = c;
  }
  CHECK(std::memcmp(results[0].data(), results[1].data(), results[0].size() * sizeof(T)) == 0);
}

/// A workspace for a depth serves every lesser one, and no byte beyond it is touched.
template <class T>
void workspace_is_enough_for_lesser_depths() {
  constexpr std::size_t guard = 1 << 19;  // more than one panel too many
  constexpr auto mark = std::byte{0xA5};
  for (const index_t m : {5, 49})
    for (const index_t depth : {256, 300, 513, 1100}) {
      const std::size_t bytes = product_workspace<T>(m, depth);
      const auto x = random_entries<T>(m * depth, 13);
      for (index_t less = 1; less <= depth; less += less < 250 ? 83 : 17) {
        const WorkspaceMemory memory(bytes + guard);
        std::byte* const data = memory.view().take<std::byte>(0);
        std::fill_n(data + bytes, guard, mark);
        std::vector<T> c(static_cast<std::size_t>(m * m));
        Context ctx(1);
        gram<T>(ctx, row_major(x.data(), m, less), Side::left, {}, row_major(c.data(), m, m),
                {data, bytes});
        CHECK(
            std::all_of(data + bytes, data + bytes + guard, [](std::byte b) { return b == mark; }));
        CHECK(product_workspace<T>(m, less) <= bytes);
      }
    }
}

template <class T>
void all() {
  workspace_is_enough_for_lesser_depths<T>();
  // Around the tile, panel and block sizes of every instruction set, and past the depth block.
  for (const auto& [m, n] : {std::pair<index_t, index_t>{1, 1},
                             {1, 9},
                             {2, 3},
                             {7, 8},
                             {16, 16},
                             {17, 40},
                             {47, 49},
                             {48, 300},
                             {97, 257},
                             {200, 513}})
    gram_matches_reference<T>(m, n);
  for (const index_t m : {1, 5, 16, 33, 48, 95, 130, 261})
    commuting_product_matches_reference<T>(m);
  for (const auto& [m, n] :
       {std::pair<index_t, index_t>{1, 1}, {3, 50}, {20, 20}, {49, 131}, {270, 410}})
    apply_in_place_matches_reference<T>(m, n);
  bits_do_not_depend_on_threads<T>(300, 500);
}

}  // namespace

int main() {
  all<float>();
  all<double>();
  all<std::complex<float>>();
  all<std::complex<double>>();
  return finish();
}
