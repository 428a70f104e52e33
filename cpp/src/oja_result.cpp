// What a stream's state says about the top eigenvector: docs/streaming.md, line for line.
#include <cmath>
#include <complex>
#include <limits>
#include <new>

#include "gramian/streaming.hpp"
#include "small_sketch.hpp"

namespace gramian {

namespace {

using Layout = OjaLayout;

// All the operations below that are not counted one by one, relative.
constexpr double slop = 1e-13;

class Reading {
 public:
  explicit Reading(const OjaState& state)
      : s_(state),
        d_(state.features),
        reals_(state.features * (state.is_complex ? 2 : 1)),
        sketch_(read(state)) {}

  OjaResult best(double* vector) {
    const double infinity = std::numeric_limits<double>::infinity();
    OjaResult out;
    out.certificate = sketch_.bound(total(Layout::above), total(Layout::below));
    const double second = second_bound();
    int grown = -1;
    int liveliest = -1;
    double energy = sketch_.top;
    for (int l = 0; l < Layout::rates; ++l) {
      if (figure(l, Layout::rate) == 0) continue;
      if (figure(l, Layout::energy) > energy) {
        energy = figure(l, Layout::energy);
        liveliest = l;
      }
      if (grew_enough(l)) grown = l;  // the smallest in the end
      const double bound = rate_bound(l, second);
      if (bound < out.certificate) {
        out.certificate = bound;
        out.rate = l;
      }
    }
    out.grew = grown >= 0;
    if (!(out.certificate < detail::vacuous_bound)) {
      out.certificate = infinity;
      // Without growth: what saw most energy, each row before it was learned from.
      out.rate = out.grew ? grown : liveliest;
    }
    out.eigenvalue = std::clamp(energy, sketch_.top, sketch_.top + total(Layout::above));
    write(out.rate, vector);
    return out;
  }

 private:
  static detail::SketchReading read(const OjaState& state) {
    using Complex = std::complex<double>;
    const index_t d = state.features;
    if (!state.is_complex) return {state.vectors + Layout::rates * d, Layout::sketch, d};
    return {reinterpret_cast<const Complex*>(state.vectors) + Layout::rates * d, Layout::sketch, d};
  }

  double figure(index_t l, Layout::Figure f) const {
    return s_.figures[l * Layout::figure_count + f];
  }
  double total(Layout::Total t) const { return s_.totals[t]; }
  double dot_error() const {
    return rounding::accumulated<double>(static_cast<double>(reals_ + 16));
  }

  /// At least the second largest eigenvalue of A^T A.
  double second_bound() const {
    const double all = total(Layout::squares) *
                       (1 + rounding::accumulated<double>(total(Layout::blocks) +
                                                          static_cast<double>(reals_ + 32)));
    const double by_sketch = sketch_.second + sketch_.slack + total(Layout::above);
    const double by_trace = all - (sketch_.top - sketch_.slack - total(Layout::below));
    return std::max(std::min(by_sketch, by_trace), 0.0) + slop * all;
  }

  double rate_bound(index_t l, double second) const {
    const double norm = figure(l, Layout::norm) * (1 - dot_error());
    const double grown = (figure(l, Layout::start) + figure(l, Layout::linear_error)) / norm;
    const double turned = figure(l, Layout::rate) / 2 * second *
                          (1 + figure(l, Layout::square_error) / (norm * norm));
    return (grown + std::sqrt(turned)) * (1 + slop) + dot_error();
  }

  /// Beyond what isotropic rows would have done: docs/streaming.md#no-growth.
  bool grew_enough(index_t l) const {
    const double d = static_cast<double>(d_);
    const double growth =
        std::log(figure(l, Layout::norm)) + figure(l, Layout::exponent) * std::log(2.0);
    if (growth < std::log(d) + 2) return false;
    const double rate = figure(l, Layout::rate);
    const double rows = total(Layout::rows) - figure(l, Layout::rows_before);
    const double squares = total(Layout::squares) - figure(l, Layout::squares_before);
    const double rest = d_ > 1 ? std::max(squares - growth / rate, 0.0) / (d - 1) : 0.0;
    const double edge = 1 + std::sqrt(d / rows);
    return growth / rate > 1.25 * edge * edge * (1 + rate * total(Layout::largest) / 2) * rest;
  }

  void write(int rate, double* vector) const {
    const double* from = rate >= 0 ? s_.vectors + rate * reals_ : sketch_.direction.data();
    std::copy(from, from + reals_, vector);
    const double norm =
        std::sqrt(GRAMIAN_BLAS(cblas_ddot)(static_cast<int>(reals_), vector, 1, vector, 1));
    if (norm == 0) {
      // No rows but zeros: any vector is a top eigenvector.
      std::fill(vector, vector + reals_, 0.0);
      vector[0] = 1;
      return;
    }
    for (index_t j = 0; j < reals_; ++j) vector[j] /= norm;
  }

  OjaState s_;
  index_t d_;
  index_t reals_;
  detail::SketchReading sketch_;
};

}  // namespace

Status oja_result(const OjaState& state, double* vector, OjaResult& result) {
  try {
    result = Reading(state).best(vector);
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
  return Status::ok;
}

}  // namespace gramian
