// Gram iteration (Delattre et al., ICML 2023): H_1 = X X^H, H_{t+1} = H_t^2, and
// ||H_t||_F^(2^-t) = ||X||_{2^(t+1)} falls to sigma_1. Each square is divided by a power of 4 that
// keeps ||H||_F within [1/n^2, 1], so that no entry overflows, however many steps there are.
#pragma once

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

}  // namespace gramian::detail
