// A^H A in double in one read, band by band, with the scale and the means found on the way as in
// two_sided_pass.hpp.
#pragma once

#include "gramian/symmetric_product.hpp"
#include "gramian/workspace.hpp"
#include "two_sided_pass.hpp"

namespace gramian::detail {

inline constexpr index_t gram_band_bytes = 8 << 20;

/// False if A is not finite, or memory for the products was not to be had (`memory` tells).
template <class S, class T>
bool gram_pass(Context& ctx, MatrixView<const S> a, PassState& state, std::vector<wide_t<T>>& means,
               Small<wide_t<T>>& g, bool& memory) {
  using D = wide_t<T>;
  const index_t n = a.cols;
  const index_t band = std::clamp<index_t>(gram_band_bytes / (n * static_cast<index_t>(sizeof(D))),
                                           std::min<index_t>(64, a.rows), a.rows);
  g = Small<D>(n, n);
  std::vector<D> entries(static_cast<std::size_t>(band * n));
  const WorkspaceMemory room(product_workspace<D>(n, band));
  memory = room.ok();
  if (!memory) return false;
  const bool by_columns = state.centering == Centering::columns;
  if (by_columns) means = sampled_means<S, D>(a);
  std::vector<D> sums(by_columns ? static_cast<std::size_t>(n) : 0);
  int exponent = by_columns ? exponent_of_means(means) : INT_MIN;
  constexpr index_t chunk = 32;
  for (index_t first = 0; first < a.rows; first += band) {
    const index_t count = std::min(band, a.rows - first);
    const index_t chunks = (count + chunk - 1) / chunk;
    const auto part = [&](index_t c) {
      MatrixView<const S> view = a;
      view.data += (first + c * chunk) * a.row_stride;
      view.rows = std::min(chunk, count - c * chunk);
      return view;
    };
    std::vector<double> tops(static_cast<std::size_t>(chunks));
    ctx.run(chunks,
            [&](index_t c, int) { tops[static_cast<std::size_t>(c)] = largest_entry<S>(part(c)); });
    const double top = *std::max_element(tops.begin(), tops.end());
    if (!std::isfinite(top)) return state.finite = false;
    int e = INT_MIN;
    if (top > 0) std::frexp(top, &e);
    if (top > 0 && state.centering != Centering::none) ++e;
    if (e > exponent) {
      if (exponent != INT_MIN) {
        const double once = std::ldexp(1.0, exponent - e);
        for (D& v : g.entries) v = v * once * once;
        for (D& v : sums) v *= once;
      }
      exponent = e;
    }
    const PowerOfTwo<S, D> power(exponent == INT_MIN ? 0 : -exponent);
    const PowerOfTwo<D, D> rescale(exponent == INT_MIN ? 0 : -exponent);
    ctx.run(chunks, [&](index_t c, int) {
      const MatrixView<const S> view = part(c);
      D* to = entries.data() + c * chunk * n;
      const bool down = std::abs(view.row_stride) < std::abs(view.col_stride);
      if (down)
        for (index_t j = 0; j < n; ++j)
          for (index_t i = 0; i < view.rows; ++i) to[i * n + j] = power(view(i, j));
      else
        for (index_t i = 0; i < view.rows; ++i)
          for (index_t j = 0; j < n; ++j) to[i * n + j] = power(view(i, j));
      if (state.centering == Centering::none) return;
      for (index_t i = 0; i < view.rows; ++i) {
        D mean{};
        if (!by_columns) {
          for (index_t j = 0; j < n; ++j) mean += to[i * n + j];
          mean /= static_cast<double>(n);
        }
        for (index_t j = 0; j < n; ++j)
          to[i * n + j] -= by_columns ? rescale(means[static_cast<std::size_t>(j)]) : mean;
      }
    });
    if (by_columns)
      for (index_t i = 0; i < count; ++i)
        for (index_t j = 0; j < n; ++j)
          sums[static_cast<std::size_t>(j)] += entries[static_cast<std::size_t>(i * n + j)];
    const auto c = row_major(g.data(), n, n);
    gram<D>(ctx, row_major<const D>(entries.data(), count, n), Side::right, {1, 1, c, 0}, c,
            room.view());
  }
  state.exponent = exponent == INT_MIN ? 0 : exponent;
  if (by_columns) {
    const double rows = static_cast<double>(a.rows);
    for (index_t i = 0; i < n; ++i)
      for (index_t j = 0; j < n; ++j)
        g(i, j) -=
            conjugate(sums[static_cast<std::size_t>(i)]) * sums[static_cast<std::size_t>(j)] / rows;
    for (index_t j = 0; j < n; ++j)
      means[static_cast<std::size_t>(j)] +=
          PowerOfTwo<D, D>(state.exponent)(sums[static_cast<std::size_t>(j)] / rows);
  }
  state.squares = 0;
  for (index_t i = 0; i < n; ++i) state.squares += std::max(std::real(g(i, i)), 0.0);
  state.first = false;
  ++state.reads;
  return true;
}

}  // namespace gramian::detail
