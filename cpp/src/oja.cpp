// Oja's method with a growth check (Price, Xun, "Spectral guarantees for adversarial streaming
// PCA", FOCS 2024, arXiv 2408.10332) for several learning rates at once, beside a small sketch.
//
// Row by row the method is w <- w + eta x (x^T w). For a block X of rows the products c_i = x_i^T
// w, each with the w that row i meets, satisfy (I - eta L) c = X w with L the strictly lower part
// of X X^T; then w <- w + eta X^T c. So the rows are read once, for products with all vectors and
// with each other, and once more from cache. Products with the vectors are in the rows' precision,
// everything that is summed over the stream is in double.
#include <atomic>
#include <cmath>
#include <new>

#include "batch.hpp"
#include "gramian/context.hpp"
#include "gramian/streaming.hpp"
#include "oja_rates.hpp"
#include "oja_sketch.hpp"

namespace gramian {

namespace {

using detail::OjaBlock;
using detail::OjaRows;
using Layout = OjaLayout;

// Entries of a call from which on its two halves are worth a thread each.
constexpr index_t shared_entries = 1 << 17;

/// Rows in whole blocks, each in the precision that it is computed in.
template <class S>
class Blocks {
 public:
  Blocks(const MatrixView<const S>& rows, const double* weights) : rows_(rows), weights_(weights) {}

  /// take(rows in S or double, how many) for one block after the other; false ends it.
  template <class F>
  bool each(F&& take) {
    for (index_t first = 0; first < rows_.rows; first += Layout::block) {
      const index_t n = std::min(Layout::block, rows_.rows - first);
      const S* from = rows_.data + first * rows_.row_stride;
      const double* w = weights_ ? weights_ + first : nullptr;
      bool go_on = false;
      if (w && !std::all_of(w, w + n, [](double v) { return v == 1; })) {
        // Whatever their type: weighted rows are rounded.
        go_on = take(in_memory<double>(from, n, w, weighted_), n);
      } else if (n < Layout::block) {
        go_on = take(in_memory<S>(from, n, nullptr, padded_), n);
      } else {
        go_on = take(OjaRows<S>{from, rows_.row_stride, rows_.cols}, n);
      }
      if (!go_on) return false;
    }
    return true;
  }

 private:
  /// A whole block: rows times the roots of their weights, and rows of zeros.
  template <class T>
  OjaRows<T> in_memory(const S* from, index_t n, const double* weights, std::vector<T>& to) {
    const index_t d = rows_.cols;
    to.assign(static_cast<std::size_t>(Layout::block * d), T(0));
    for (index_t i = 0; i < n; ++i) {
      const T factor = weights ? static_cast<T>(std::sqrt(weights[i])) : T(1);
      for (index_t j = 0; j < d; ++j)
        to[static_cast<std::size_t>(i * d + j)] =
            factor * static_cast<T>(from[i * rows_.row_stride + j]);
    }
    return {to.data(), d, d};
  }

  MatrixView<const S> rows_;
  const double* weights_;
  std::vector<S> padded_;
  std::vector<double> weighted_;
};

/// Both halves of each block in turn.
template <class S>
bool in_turn(const OjaState& state, const MatrixView<const S>& rows, const double* weights,
             double limit) {
  detail::OjaRates rates(state);
  detail::OjaSketch sketch(state);
  OjaBlock block;
  return Blocks<S>(rows, weights).each([&]<class T>(const OjaRows<T>& x, index_t n) {
    block.rows = n;
    sketch.multiply(x, block);
    if (!block.below(limit)) return false;
    detail::oja_kernels<T>().gram(x, block.gram.data());
    rates.take(x, block);
    sketch.take(x, block);
    return true;
  });
}

/// The same bits by two threads, each with all blocks at its own pace.
template <class S>
bool side_by_side(const OjaState& state, const MatrixView<const S>& rows, const double* weights,
                  double limit, Context& context) {
  std::atomic<bool> memory{true};
  std::atomic<bool> ordinary{true};
  const auto half = [&](auto& own, auto&& measure) {
    OjaBlock block;
    const bool done = Blocks<S>(rows, weights).each([&]<class T>(const OjaRows<T>& x, index_t n) {
      block.rows = n;
      measure(x, block);
      if (!block.below(limit)) return false;
      detail::oja_kernels<T>().gram(x, block.gram.data());
      own.take(x, block);
      return true;
    });
    if (!done) ordinary = false;
  };
  context.run(2, [&](index_t which, int) {
    try {
      if (which == 0) {
        detail::OjaRates rates(state);
        half(rates, []<class T>(const OjaRows<T>& x, OjaBlock& block) {
          detail::oja_kernels<T>().squares(x, block.squares.data());
        });
      } else {
        detail::OjaSketch sketch(state);
        half(sketch, [&](const auto& x, OjaBlock& block) { sketch.multiply(x, block); });
      }
    } catch (const std::bad_alloc&) {
      memory = false;
    }
  });
  if (!memory) throw std::bad_alloc();
  return ordinary;
}

template <class S>
bool update(const OjaState& state, const ArrayRef& rows, const double* weights, double limit) {
  const MatrixView<const S> x = rows.matrices<const S>()[0];
  const bool shared = x.rows * x.cols >= shared_entries && num_threads() > 1;
  Context context(shared ? 2 : 1, shared);
  return context.size() > 1 ? side_by_side<S>(state, x, weights, limit, context)
                            : in_turn<S>(state, x, weights, limit);
}

}  // namespace

Status oja_update(const OjaState& state, const ArrayRef& rows, const double* weights,
                  double limit) {
  [[maybe_unused]] static const bool blas_is_quiet = (detail::blas_use_one_thread(), true);
  try {
    const bool done = rows.dtype == DType::float64 ? update<double>(state, rows, weights, limit)
                                                   : update<float>(state, rows, weights, limit);
    return done ? Status::ok : Status::not_finite;
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
}

}  // namespace gramian
