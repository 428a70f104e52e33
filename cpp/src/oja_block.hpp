// A block of rows in Oja's method, as its two halves take it: rates and sketch share nothing else.
#pragma once

#include <array>
#include <cmath>
#include <type_traits>

#include "gramian/rounding.hpp"
#include "gramian/streaming.hpp"
#include "oja_kernel.hpp"

namespace gramian::detail {

static_assert(OjaLayout::leaf == OjaShape::rows && OjaLayout::rates == OjaShape::rates &&
              OjaLayout::sketch == OjaShape::sketch);

/// Unit roundoff of S.
template <class S>
inline constexpr double roundoff = std::is_same_v<S, float> ? 0x1p-24 : 0x1p-53;

/// Bounds what an operation in S loses to underflow, even where subnormal numbers are flushed.
template <class S>
inline constexpr double underflow = std::is_same_v<S, float> ? 0x1p-125 : 0x1p-1021;

/// Sums of d products by the kernels: their error relative to the sum of the magnitudes.
template <class S>
double product_error(index_t d) {
  return 1.01 * (oja_chunk + 8) * roundoff<S> +
         rounding::accumulated<double>(static_cast<double>(d) / 64 + 64);
}

/// What is known of a leaf of a block before either half takes it.
struct OjaBlock {
  index_t rows = 0;  // those that are not padding
  alignas(64) std::array<double, OjaLayout::leaf * OjaLayout::leaf> gram{};  // lower triangle
  std::array<double, OjaLayout::leaf> squares{};

  template <class S>
  void multiply(const OjaRows<S>& x) {
    oja_kernels<S>().gram(x, gram.data());
    for (std::size_t i = 0; i < squares.size(); ++i) squares[i] = gram[i * squares.size() + i];
  }

  double sum() const {
    double s = 0;
    for (const double v : squares) s += v;
    return s;
  }
  double largest() const {
    double top = 0;
    for (const double v : squares) top = v > top ? v : top;
    return top;
  }

  /// Whether all squared norms are below a limit: false for NaN and infinity as well.
  bool below(double limit) const {
    bool all = true;
    for (const double v : squares) all = all && v < limit;
    return all;
  }
};

}  // namespace gramian::detail
