// The rates' half of Oja's method: everything but the sketch and its bounds.
#pragma once

#include <algorithm>
#include <complex>
#include <vector>

#include "blas.hpp"
#include "oja_block.hpp"
#include "thin.hpp"

namespace gramian::detail {

inline double squared_norm(const double* x, index_t d) {
  return GRAMIAN_BLAS(cblas_ddot)(static_cast<int>(d), x, 1, x, 1);
}

class OjaRates {
 public:
  explicit OjaRates(const OjaState& state)
      : s_(state), d_(state.features * (state.is_complex ? 2 : 1)) {
    while (count_ < Layout::rates && figure(count_, Layout::rate) > 0) ++count_;
  }

  template <class S>
  void take(const OjaRows<S>& x, const OjaBlock& block) {
    if (!begin(block)) return;
    const OjaKernels<S>& kernels = oja_kernels<S>();
    kernels.along(x, vectors_in<S>(), static_cast<int>(count_), along_.data());
    alignas(64) OjaSteps steps;
    alignas(64) std::array<S, Layout::leaf * Layout::rates> moves;
    std::array<double, Layout::rates> squared_norms;
    set(steps);
    kernels.solve(block.gram.data(), along_.data(), block.squares.data(), steps, moves.data());
    kernels.move_rates(x, moves.data(), static_cast<int>(count_), s_.vectors, vectors_in<S>(),
                       squared_norms.data());
    end(block, steps, squared_norms,
        {.product = product_error<S>(d_),
         .move = 1.01 * (Layout::leaf + 2) * roundoff<S>,
         .sum = 2 * rounding::u,
         .least = underflow<S>});
  }

  /// Sixteen complex rows and their products with each other, everything in double.
  void take(const std::complex<double>* x, const std::complex<double>* gram,
            const OjaBlock& block) {
    using D = std::complex<double>;
    if (!begin(block)) return;
    const index_t d = d_ / 2;
    D* vectors = reinterpret_cast<D*>(s_.vectors);
    // x_i w, each row with the w that it meets; vectors lie as w^H.
    alignas(64) std::array<D, Layout::leaf * Layout::rates> c;
    std::array<double, Layout::rates> squared_norms;
    OjaSteps steps;
    set(steps);
    stale_ = true;
    gemm(false, true, Layout::leaf, count_, d, D(1), x, d, vectors, d, D(0), c.data(), count_);
    for (index_t l = 0; l < count_; ++l) {
      const double eta = steps.rate[l];
      double norm2 = steps.norm[l] * steps.norm[l];
      steps.energy[l] = steps.moved[l] = steps.drawn[l] = 0;
      for (index_t i = 0; i < Layout::leaf; ++i) {
        D& step = c[static_cast<std::size_t>(i * count_ + l)];
        for (index_t j = 0; j < i; ++j)
          step += gram[i * Layout::leaf + j] * c[static_cast<std::size_t>(j * count_ + l)];
        const double squares = block.squares[static_cast<std::size_t>(i)];
        const double c2 = std::norm(step);
        steps.energy[l] += c2 / norm2;
        norm2 += (2 + eta * squares) * eta * c2;
        steps.drawn[l] += std::sqrt(c2);
        steps.moved[l] += eta * std::sqrt(c2 * squares);
        step *= eta;
      }
    }
    gemm(true, false, count_, d, Layout::leaf, D(1), c.data(), count_, x, d, D(1), vectors, d);
    for (index_t l = 0; l < count_; ++l)
      squared_norms[static_cast<std::size_t>(l)] = squared_norm(w(l), d_);
    // The sum of a block may begin with the vector.
    const double roundings = rounding::accumulated<D>(Layout::leaf + 4);
    end(block, steps, squared_norms,
        {.product = rounding::accumulated<D>(static_cast<double>(d) + 64),
         .move = roundings,
         .sum = roundings,
         .least = underflow<double>});
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
      if (stale_) copy_.assign(s_.vectors, s_.vectors + count_ * d_);
      stale_ = false;
      return copy_.data();
    }
  }

  double growth(index_t l) {
    return std::log(figure(l, Layout::norm)) + figure(l, Layout::exponent) * std::log(2.0);
  }

  /// Rates whose product with the largest squared norm is at most 1, before a block is taken, and
  /// that may still give the best bound.
  void choose_rates() {
    const double largest = total(Layout::largest);
    if (!s_.grid) {
      if (figure(0, Layout::rate) * largest > 1) figure(0, Layout::rate) = 0;
      count_ = figure(0, Layout::rate) > 0;
      return;
    }
    if (count_ == 0) {
      figure(0, Layout::rate) = std::ldexp(1.0, -std::ilogb(largest) - 1);
      count_ = 1;
    }
    while (figure(0, Layout::rate) * largest > 1) {
      if (count_ == 1) begin_rate();
      leave_out_rate();
    }
    const double certain =
        std::max(double{Layout::certain_growth}, std::log(static_cast<double>(d_)) + 3);
    while (count_ > 1 && growth(1) > certain) leave_out_rate();
  }

  /// The largest is no more.
  void leave_out_rate() {
    stale_ = true;
    std::copy(w(1), w(count_), w(0));
    std::copy(&figure(1, Layout::rate), &figure(0, Layout::rate) + count_ * Layout::figure_count,
              &figure(0, Layout::rate));
    figure(--count_, Layout::rate) = 0;
  }

  /// One half the smallest, from where that one is.
  void begin_rate() {
    if (count_ == Layout::rates) leave_out_rate();
    stale_ = true;
    const index_t last = count_++;
    std::copy(w(last - 1), w(last), w(last));
    std::copy(&figure(last - 1, Layout::rate), &figure(last, Layout::rate),
              &figure(last, Layout::rate));
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

  /// What is off, relative: products, and the sum of a block's steps, to the sum of its terms and
  /// to the vector; and what an operation loses to underflow.
  struct Roundings {
    double product;
    double move;
    double sum;
    double least;
  };

  /// False where there is nothing to learn.
  bool begin(const OjaBlock& block) {
    total(Layout::rows) += static_cast<double>(block.rows);
    total(Layout::blocks) += 1;
    const double largest = block.largest();
    if (largest == 0) return false;
    total(Layout::largest) = std::max(total(Layout::largest), largest);
    choose_rates();
    return true;
  }

  void set(OjaSteps& steps) {
    for (index_t l = 0; l < Layout::rates; ++l) {
      const bool used = l < count_;
      steps.rate[l] = used ? figure(l, Layout::rate) : 0;
      steps.norm[l] = used ? figure(l, Layout::norm) : 1;
    }
  }

  /// After a step of all rates: what rounding may have added (docs/streaming.md).
  void end(const OjaBlock& block, const OjaSteps& steps,
           const std::array<double, OjaLayout::rates>& squared_norms, const Roundings& off) {
    const double d = static_cast<double>(d_);
    for (index_t l = 0; l < count_; ++l) {
      const double moved = 1.01 * steps.moved[l];
      const double drawn = 1.01 * steps.drawn[l];
      const double reach = 1.01 * figure(l, Layout::norm) + moved;
      const double error =
          off.move * moved + off.sum * reach + Layout::leaf * std::sqrt(d) * off.least;
      figure(l, Layout::energy) += steps.energy[l];
      figure(l, Layout::linear_error) += error;
      figure(l, Layout::square_error) += 2 * off.product * reach * moved + 3 * error * reach +
                                         2 * off.least * drawn * (1 + d * (1 + steps.rate[l]));
      measure(l, std::sqrt(squared_norms[static_cast<std::size_t>(l)]));
    }
    total(Layout::squares) += block.sum();
    if (s_.grid && growth(count_ - 1) > Layout::next_rate_growth) begin_rate();
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
  index_t count_ = 0;  // rates in use
  bool stale_ = true;  // whether the vectors have changed since they were copied
  std::vector<float> copy_;
  alignas(64) std::array<double, Layout::leaf * Layout::rates> along_{};
};

}  // namespace gramian::detail
