// The rates' half of Oja's method: everything but the sketch and its bounds.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "blas.hpp"
#include "oja_block.hpp"

namespace gramian::detail {

inline double squared_norm(const double* x, index_t d) {
  return GRAMIAN_BLAS(cblas_ddot)(static_cast<int>(d), x, 1, x, 1);
}

class OjaRates {
 public:
  explicit OjaRates(const OjaState& state) : s_(state), d_(state.features) {}

  template <class S>
  void take(const OjaRows<S>& x, const OjaBlock& block) {
    const OjaKernels<S>& kernels = oja_kernels<S>();
    total(Layout::rows) += static_cast<double>(block.rows);
    total(Layout::blocks) += 1;
    const double largest = block.largest();
    if (largest == 0) return;
    total(Layout::largest) = std::max(total(Layout::largest), largest);
    choose_rates();
    const index_t first = first_followed();
    kernels.along(x, vectors_in<S>(), static_cast<int>(first), along_.data());
    step(x, block, first);
    total(Layout::squares) += block.sum();
    if (s_.grid && growth(Layout::rates - 1) > Layout::next_rate_growth) next_rate();
  }

 private:
  using Layout = OjaLayout;

  double* w(index_t l) { return s_.vectors + l * d_; }
  double& figure(index_t l, Layout::Figure f) { return s_.figures[l * Layout::figure_count + f]; }
  double& total(Layout::Total t) { return s_.totals[t]; }

  /// The vectors in the precision of the rows: of float rows a copy.
  template <class S>
  S* vectors_in() {
    if constexpr (std::is_same_v<S, double>) {
      // What happens to them is not done to the copy.
      stale_ = true;
      return s_.vectors;
    } else {
      if (stale_) copy_.assign(s_.vectors, s_.vectors + Layout::rates * d_);
      stale_ = false;
      return copy_.data();
    }
  }

  /// Half of the rates may have been given up: they are not followed any more.
  index_t first_followed() {
    constexpr index_t certain = Layout::certain;
    if (!s_.grid) return 0;
    bool all = true;
    const bool give_up = growth(certain) > Layout::certain_growth;
    for (index_t l = 0; l < certain; ++l) {
      double& error = figure(l, Layout::linear_error);
      if (give_up) error = std::numeric_limits<double>::infinity();
      all = all && std::isinf(error);
    }
    return all ? certain : 0;
  }

  double growth(index_t l) {
    return std::log(figure(l, Layout::norm)) + figure(l, Layout::exponent) * std::log(2.0);
  }

  /// Rates whose product with the largest squared norm is at most 1, before a block is taken.
  void choose_rates() {
    const double largest = total(Layout::largest);
    if (!s_.grid) {
      if (figure(0, Layout::rate) * largest > 1) figure(0, Layout::rate) = 0;
      return;
    }
    if (figure(0, Layout::rate) == 0) {
      for (index_t l = 0; l < Layout::rates; ++l)
        figure(l, Layout::rate) = std::ldexp(1.0, -std::ilogb(largest) - 1 - static_cast<int>(l));
      return;
    }
    while (figure(0, Layout::rate) * largest > 1) next_rate();
  }

  /// Leaves out the largest rate and begins one half the smallest, from where that one is.
  void next_rate() {
    constexpr index_t last = Layout::rates - 1;
    stale_ = true;
    std::copy(w(1), w(Layout::rates), w(0));
    std::copy(&figure(1, Layout::rate),
              &figure(0, Layout::rate) + Layout::rates * Layout::figure_count,
              &figure(0, Layout::rate));
    figure(last, Layout::rate) /= 2;
    const double scale = 1 / std::sqrt(squared_norm(w(last), d_));
    for (index_t j = 0; j < d_; ++j) w(last)[j] *= scale;
    figure(last, Layout::norm) = std::sqrt(squared_norm(w(last), d_));
    figure(last, Layout::start) = 1;
    figure(last, Layout::linear_error) = 0;
    figure(last, Layout::square_error) = 0;
    figure(last, Layout::exponent) = 0;
    figure(last, Layout::rows_before) = total(Layout::rows);
    figure(last, Layout::squares_before) = total(Layout::squares);
  }

  /// A step of all rates, and what rounding may have added (docs/streaming.md).
  template <class S>
  void step(const OjaRows<S>& x, const OjaBlock& block, index_t first) {
    const OjaKernels<S>& kernels = oja_kernels<S>();
    alignas(64) OjaSteps steps;
    alignas(64) std::array<S, Layout::block * Layout::rates> moves;
    std::array<double, Layout::rates> squared_norms;
    for (index_t l = 0; l < Layout::rates; ++l) {
      steps.rate[l] = figure(l, Layout::rate);
      steps.norm[l] = figure(l, Layout::norm);
    }
    kernels.solve(block.gram.data(), along_.data(), block.squares.data(), steps, moves.data());
    kernels.move_rates(x, moves.data(), static_cast<int>(first), s_.vectors, vectors_in<S>(),
                       squared_norms.data());
    const double d = static_cast<double>(d_);
    const double product = product_error<S>(d_);
    for (index_t l = first; l < Layout::rates; ++l) {
      const double moved = 1.01 * steps.moved[l];
      const double drawn = 1.01 * steps.drawn[l];
      const double reach = 1.01 * figure(l, Layout::norm) + moved;
      const double error = 1.01 * (Layout::block + 2) * roundoff<S> * moved +
                           2 * rounding::u * reach + Layout::block * std::sqrt(d) * underflow<S>;
      figure(l, Layout::energy) += steps.energy[l];
      figure(l, Layout::linear_error) += error;
      figure(l, Layout::square_error) += 2 * product * reach * moved + 3 * error * reach +
                                         2 * underflow<S> * drawn * (1 + d * (1 + steps.rate[l]));
      measure(l, std::sqrt(squared_norms[static_cast<std::size_t>(l)]));
    }
  }

  void measure(index_t l, double norm) {
    if (norm > std::ldexp(1.0, Layout::norm_exponent)) {
      stale_ = true;
      const int shift = std::ilogb(norm);
      const double unit = std::ldexp(1.0, -shift);
      for (index_t j = 0; j < d_; ++j) w(l)[j] *= unit;
      norm *= unit;
      figure(l, Layout::start) = std::max(figure(l, Layout::start) * unit, 1e-300);
      figure(l, Layout::linear_error) *= unit;
      figure(l, Layout::square_error) *= unit * unit;
      figure(l, Layout::exponent) += shift;
    }
    figure(l, Layout::norm) = norm;
  }

  OjaState s_;
  index_t d_;
  bool stale_ = true;  // whether the vectors have changed since they were copied
  std::vector<float> copy_;
  alignas(64) std::array<double, Layout::block * Layout::rates> along_{};
};

}  // namespace gramian::detail
