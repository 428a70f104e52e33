// The sketch's half of Oja's method: Frequent Directions with four rows, sixteen new ones at a
// time, mostly without an eigenproblem. docs/streaming.md#the-sketch.
#pragma once

#include <algorithm>

#include "oja_block.hpp"
#include "small_sketch.hpp"

namespace gramian::detail {

// A compression stands in for shrinking where it takes off this many times the energy that it
// leaves in any direction: as much as shrinking would.
inline constexpr double compression = OjaLayout::sketch + 1;

class OjaSketch {
 public:
  explicit OjaSketch(const OjaState& state)
      : s_(state), d_(state.features), b_(state.vectors + Layout::rates * state.features) {}

  /// The products of the block's rows with the sketch, and their squares.
  template <class S>
  void multiply(const OjaRows<S>& x, OjaBlock& block) const {
    oja_kernels<S>().sketch_products(x, b_, block.products.data(), block.squares.data());
  }

  template <class S>
  void take(const OjaRows<S>& x, const OjaBlock& block) {
    const double squares = block.sum();
    if (squares == 0) return;
    constexpr index_t m = Layout::sketch;
    constexpr index_t n = OjaShape::stacked;
    constexpr index_t stride = OjaShape::stride;
    const OjaKernels<S>& kernels = oja_kernels<S>();
    alignas(64) std::array<double, n * stride> k{};
    std::array<double, m * m> own;
    kernels.sketch_gram(b_, d_, own.data());
    double trace = 0;
    for (index_t i = 0; i < n; ++i) {
      for (index_t j = 0; j <= i; ++j) {
        const double v =
            i < m    ? own[static_cast<std::size_t>(i * m + j)]
            : j < m  ? block.products[static_cast<std::size_t>((i - m) * m + j)]
            : j == i ? block.squares[static_cast<std::size_t>(i - m)]
                     : block.gram[static_cast<std::size_t>((i - m) * Layout::block + j - m)];
        k[static_cast<std::size_t>(i * stride + j)] = v;
        k[static_cast<std::size_t>(j * stride + i)] = v;
      }
      trace += k[static_cast<std::size_t>(i * stride + i)];
    }
    // Of the rows' products with each other, which are in S.
    const double error =
        product_error<S>(d_) * squares + static_cast<double>(n * n * d_) * underflow<S>;
    alignas(64) OjaCompression fast;
    kernels.compress(k.data(), fast);
    const double slack = (5 * fast.skew + rounding::accumulated<double>(
                                              static_cast<double>(d_ + 10 * n * (n + 4)))) *
                         trace * (1 + 1e-6);
    double above = fast.left + slack;
    double below = slack;
    if (!(fast.skew < 1e-12) ||
        !(fast.left <= 1e-13 * trace || fast.trace >= compression * (fast.left + slack + error))) {
      Small<double> gram(n, n);
      for (index_t i = 0; i < n; ++i)
        for (index_t j = 0; j < n; ++j) gram(i, j) = k[static_cast<std::size_t>(i * stride + j)];
      const Shrinking exact(gram, m, d_);
      for (index_t i = 0; i < m; ++i)
        for (index_t j = 0; j < n; ++j)
          fast.coefficients[i * stride + j] = exact.coefficients(i, j);
      above = exact.above;
      below = exact.below;
    }
    kernels.move_sketch(x, fast.coefficients, b_);
    total(Layout::above) = rounding::raise(total(Layout::above) + above + error);
    total(Layout::below) = rounding::raise(total(Layout::below) + below);
  }

 private:
  using Layout = OjaLayout;

  double& total(Layout::Total t) { return s_.totals[t]; }

  OjaState s_;
  index_t d_;
  double* b_;
};

}  // namespace gramian::detail
