// Gram iteration (Delattre et al., ICML 2023): H_1 = X X^H, H_{t+1} = H_t^2, and
// ||H_t||_F^(2^-t) = ||X||_{2^(t+1)} falls to sigma_1. Each square is divided by a power of 4 that
// keeps ||H||_F within [1/n^2, 1], so that no entry overflows, however many steps there are.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "elementwise.hpp"
#include "gramian/symmetric_product.hpp"

namespace gramian::detail {

// Here n^(2^-t) - 1, the most that further steps could gain, is below every unit roundoff.
inline constexpr int most_squarings = 60;

template <class T>
double trace(MatrixView<const T> h) {
  double sum = 0;
  for (index_t i = 0; i < h.rows; ++i) {
    if constexpr (is_complex_v<T>)
      sum += static_cast<double>(h(i, i).real());
    else
      sum += static_cast<double>(h(i, i));
  }
  return sum;
}

/// H <- H^2 / 4^e, with the e it returns; `next` is the other buffer, and both are swapped.
template <class T>
int square(Context& ctx, T*& h, T*& next, index_t n, Workspace workspace) {
  const auto view = row_major<const T>(h, n, n);
  const int e = std::ilogb(trace<T>(view)) + 1;
  Update<T> update;
  update.alpha = static_cast<real_t<T>>(std::ldexp(1.0, -2 * e));
  hermitian_product<T>(ctx, view, view, update, row_major(next, n, n), workspace);
  std::swap(h, next);
  return e;
}

template <class T>
std::size_t gram_iteration_workspace(index_t rows, index_t cols) {
  const index_t n = std::min(rows, cols);
  return 2 * Workspace::bytes_for<T>(n * n) + Workspace::bytes_for<double>(std::max(rows, cols)) +
         std::max(product_workspace<T>(n, std::max(rows, cols)), product_workspace<T>(n, n));
}

/// ||X||_{2^(steps + 1)}; X is not zero and its entries are at most 1 in magnitude.
template <class T>
double gram_iteration(Context& ctx, MatrixView<const T> x, int steps, Workspace workspace) {
  const index_t n = std::min(x.rows, x.cols);
  T* h = workspace.take<T>(n * n);
  T* next = workspace.take<T>(n * n);
  double* partial = workspace.take<double>(std::max(x.rows, x.cols));
  if (steps == 0) return frobenius_norm<T>(ctx, x, partial);
  gram<T>(ctx, x, x.rows < x.cols ? Side::left : Side::right, {}, row_major(h, n, n), workspace);
  std::array<int, most_squarings> exponents;
  const int squarings = std::min(steps - 1, most_squarings);
  for (int t = 0; t < squarings; ++t)
    exponents[static_cast<std::size_t>(t)] = square<T>(ctx, h, next, n, workspace);
  double norm = frobenius_norm<T>(ctx, row_major<const T>(h, n, n), partial);
  // Square roots of numbers near 1 and powers of two: no logarithm and no exponential.
  for (int t = squarings; t-- > 0;)
    norm = std::ldexp(std::sqrt(norm), exponents[static_cast<std::size_t>(t)]);
  return std::sqrt(norm);
}

/// The same bound b, and X <- its gradient
///   b^(1 - 2^(t+1)) (X X^H)^(2^t - 1) X = (H_1 / b^2) (H_2 / b^4) ... (H_t / b^(2^t)) X / b,
/// for which all iterates are kept; X is row-major with adjacent columns. With the scales of the
/// iterates every factor has a spectral norm of at most 1.
template <class T>
double gram_iteration_gradient(Context& ctx, MatrixView<T> x, int steps, Workspace workspace) {
  using R = real_t<T>;
  const index_t n = std::min(x.rows, x.cols);
  const Side side = x.rows < x.cols ? Side::left : Side::right;
  double* partial = workspace.take<double>(std::max(x.rows, x.cols));
  if (steps == 0) {
    const double norm = frobenius_norm<T>(ctx, x, partial);
    map_entries<T, T>(ctx, x, x, [&](const T& v) { return v / static_cast<R>(norm); });
    return norm;
  }
  const int kept = std::min(steps, most_squarings + 1);
  std::array<T*, most_squarings + 2> h;  // one more than is kept
  std::array<int, most_squarings> exponents;
  std::array<double, most_squarings + 1> scale;  // b^(2^k) in the units of H_k
  for (int k = 0; k <= kept; ++k) h[static_cast<std::size_t>(k)] = workspace.take<T>(n * n);
  const auto view = [&](int k) { return row_major(h[static_cast<std::size_t>(k)], n, n); };
  gram<T>(ctx, x, side, {}, view(0), workspace);
  for (int k = 0; k + 1 < kept; ++k) {
    const int e = std::ilogb(trace<T>(view(k))) + 1;
    Update<T> update;
    update.alpha = static_cast<R>(std::ldexp(1.0, -2 * e));
    hermitian_product<T>(ctx, view(k), view(k), update, view(k + 1), workspace);
    exponents[static_cast<std::size_t>(k)] = e;
  }
  scale[static_cast<std::size_t>(kept - 1)] =
      frobenius_norm<T>(ctx, MatrixView<const T>(view(kept - 1)), partial);
  for (int k = kept - 1; k-- > 0;)
    scale[static_cast<std::size_t>(k)] = std::ldexp(
        std::sqrt(scale[static_cast<std::size_t>(k + 1)]), exponents[static_cast<std::size_t>(k)]);
  const double bound = std::sqrt(scale[0]);
  // The product of the iterates gathers in the first buffer and the spare one by turns.
  double alpha = 1 / scale[0];
  int product = 0;
  int spare = kept;
  for (int k = 1; k < kept; ++k) {
    Update<T> update;
    update.alpha = static_cast<R>(alpha / scale[static_cast<std::size_t>(k)]);
    alpha = 1;
    hermitian_product<T>(ctx, view(product), view(k), update, view(spare), workspace);
    std::swap(product, spare);
  }
  Workspace for_s;
  for_s = {workspace.take<std::byte>(static_cast<index_t>(packed_hermitian_bytes<T>(n))),
           packed_hermitian_bytes<T>(n)};
  apply<T>(ctx, view(product), side, static_cast<R>(alpha / bound), x, workspace, for_s);
  return bound;
}

template <class T>
std::size_t gram_iteration_gradient_workspace(index_t rows, index_t cols, int steps, int threads) {
  const index_t n = std::min(rows, cols);
  const index_t long_side = std::max(rows, cols);
  const auto kept = static_cast<std::size_t>(std::min(steps, most_squarings + 1));
  return Workspace::bytes_for<double>(long_side) + (kept + 1) * Workspace::bytes_for<T>(n * n) +
         Workspace::bytes_for<std::byte>(static_cast<index_t>(packed_hermitian_bytes<T>(n))) +
         std::max({product_workspace<T>(n, long_side), product_workspace<T>(n, n),
                   apply_workspace<T>(n, long_side, threads)});
}

}  // namespace gramian::detail
