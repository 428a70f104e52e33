// The sketch's half of Oja's method: Frequent Directions with four rows, in two steps, mostly
// without an eigenproblem. docs/streaming.md#the-sketch.
#pragma once

#include <algorithm>
#include <complex>
#include <vector>

#include "oja_block.hpp"
#include "small_sketch.hpp"

namespace gramian::detail {

class OjaSketch {
 public:
  explicit OjaSketch(const OjaState& state)
      : s_(state),
        d_(state.features),
        b_(state.vectors + Layout::rates * state.features * (state.is_complex ? 2 : 1)) {}

  /// Sixteen complex rows, at once.
  void take(const std::complex<double>* x) {
    using D = std::complex<double>;
    room_.resize(static_cast<std::size_t>(Layout::sketch * d_));
    const SketchStep<D> next(reinterpret_cast<D*>(b_), Layout::sketch, x, Layout::leaf, d_,
                             room_.data());
    add(next.above, next.below);
  }

  /// Sixteen rows of a block become four that stand for them.
  template <class S>
  void take(const OjaRows<S>& x, const OjaBlock& block, index_t leaf) {
    constexpr index_t n = Layout::leaf;
    const OjaKernels<S>& kernels = oja_kernels<S>();
    S* y = combined<S>() + leaf * Layout::sketch * ld();
    const double squares = block.sum();
    if (squares == 0) {
      std::fill(y, y + Layout::sketch * ld(), S(0));
      return;
    }
    Matrix<n> k;
    for (index_t i = 0; i < n; ++i)
      for (index_t j = 0; j <= i; ++j) k.set(i, j, block.gram[static_cast<std::size_t>(i * n + j)]);
    // Of the products, and of the sums that become the four rows.
    const double rounding = gram_error<S>(squares) + 75 * roundoff<S> * squares +
                            64 * static_cast<double>(d_) * underflow<S> * (1 + squares);
    const Coefficients& c = choose<n>(k, squares, rounding, kernels.compress_rows);
    alignas(64) std::array<S, Layout::sketch * n> p;
    for (index_t j = 0; j < Layout::sketch; ++j)
      for (index_t i = 0; i < n; ++i)
        p[static_cast<std::size_t>(j * n + i)] =
            static_cast<S>(c.coefficients[j * OjaShape::stride + i]);
    kernels.combine(x, p.data(), y, ld());
    // The sum of squares is off by as much.
    add(c.above + rounding, c.below + rounding);
  }

  /// The rows that stand for a block, beside those of the sketch, become its next rows.
  template <class S>
  void end_block(index_t leaves) {
    constexpr index_t m = Layout::sketch;
    constexpr index_t n = OjaShape::stacked;
    const OjaKernels<S>& kernels = oja_kernels<S>();
    S* y = combined<S>();
    std::fill(y + leaves * m * ld(), y + Layout::leaf * ld(), S(0));
    const OjaRows<S> rows{y, ld(), d_};
    alignas(64) std::array<double, Layout::leaf * Layout::leaf> gram;
    alignas(64) std::array<double, Layout::leaf * m> products;
    std::array<double, m * m> own;
    kernels.gram(rows, gram.data());
    kernels.sketch_products(rows, b_, products.data());
    kernels.sketch_gram(b_, d_, own.data());
    Matrix<n> k;
    double squares = 0;
    double trace = 0;
    for (index_t i = 0; i < n; ++i) {
      for (index_t j = 0; j <= i; ++j) {
        const index_t row = i - m;
        k.set(i, j,
              i < m   ? own[static_cast<std::size_t>(i * m + j)]
              : j < m ? products[static_cast<std::size_t>(row * m + j)]
                      : gram[static_cast<std::size_t>(row * Layout::leaf + j - m)]);
      }
      trace += k(i, i);
      if (i >= m) squares += k(i, i);
    }
    if (squares == 0) return;
    const double rounding = gram_error<S>(squares);
    const Coefficients& c = choose<n>(k, trace, rounding, kernels.compress_stacked);
    kernels.move_sketch(rows, c.coefficients, b_);
    add(c.above + rounding, c.below);
  }

 private:
  using Layout = OjaLayout;

  template <index_t n>
  struct Matrix {
    static constexpr index_t width = (n + 7) / 8 * 8;
    alignas(64) std::array<double, n * width> entries{};

    double operator()(index_t i, index_t j) const {
      return entries[static_cast<std::size_t>(i * width + j)];
    }
    void set(index_t i, index_t j, double v) {
      entries[static_cast<std::size_t>(i * width + j)] = v;
      entries[static_cast<std::size_t>(j * width + i)] = v;
    }
  };

  struct Coefficients : OjaCompression {
    double below = 0;
  };

  double& total(Layout::Total t) { return s_.totals[t]; }

  void add(double above, double below) {
    total(Layout::above) = rounding::raise(total(Layout::above) + above);
    total(Layout::below) = rounding::raise(total(Layout::below) + below);
  }

  /// Of the rows' products with each other, in S, as a matrix.
  template <class S>
  double gram_error(double squares) const {
    return product_error<S>(d_) * squares +
           static_cast<double>(OjaShape::stacked * OjaShape::stacked * d_) * underflow<S>;
  }

  /// Four combinations of n rows with Gram matrix K, and what is left out, with what is lost in
  /// double; `rounding` is lost besides.
  template <index_t n, class Compress>
  const Coefficients& choose(const Matrix<n>& k, double trace, double rounding,
                             Compress&& compress) {
    trace *= 1 + 1e-5;
    const double slack =
        rounding::accumulated<double>(static_cast<double>(d_ + 10 * n * (n + 4))) * trace;
    Coefficients& c = chosen_;
    const bool enough = compress(k.entries.data(), slack + rounding, c);
    if (enough && c.skew < 1e-12) {
      c.below = slack + 10 * c.skew * trace;
      c.above += c.below;
      return c;
    }
    Small<double> gram(n, n);
    for (index_t i = 0; i < n; ++i)
      for (index_t j = 0; j < n; ++j) gram(i, j) = k(i, j);
    const Shrinking<double> exact(gram, Layout::sketch, d_);
    for (index_t i = 0; i < Layout::sketch; ++i)
      for (index_t j = 0; j < n; ++j)
        c.coefficients[i * OjaShape::stride + j] = exact.coefficients(i, j);
    c.above = exact.above;
    c.below = exact.below;
    return c;
  }

  /// Distance of the rows that stand for a block: not a multiple of the cache's sets.
  index_t ld() const { return (d_ + 31) / 16 * 16; }

  template <class S>
  S* combined() {
    auto& memory = [&]() -> auto& {
      if constexpr (std::is_same_v<S, float>)
        return singles_;
      else
        return doubles_;
    }();
    memory.resize(static_cast<std::size_t>(Layout::leaf * ld()));
    return memory.data();
  }

  OjaState s_;
  index_t d_;
  double* b_;
  Coefficients chosen_;
  std::vector<float> singles_;
  std::vector<double> doubles_;
  std::vector<std::complex<double>> room_;
};

}  // namespace gramian::detail
