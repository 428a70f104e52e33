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
#include <complex>
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

/// Rows in leaves of whole blocks, each in the precision that it is computed in.
template <class S>
class Blocks {
 public:
  Blocks(const MatrixView<const S>& rows, const double* weights) : rows_(rows), weights_(weights) {}

  /// take(rows in S or double, how many, which leaf) for one leaf after the other; false ends it.
  /// end(an entry's type, how many leaves) after each block.
  template <class F, class G>
  bool each(F&& take, G&& end) {
    for (index_t first = 0; first < rows_.rows; first += Layout::block) {
      const index_t n = std::min(Layout::block, rows_.rows - first);
      const double* w = weights_ ? weights_ + first : nullptr;
      // Whatever their type: weighted rows are rounded.
      const bool done = w && !std::all_of(w, w + n, [](double v) { return v == 1; })
                            ? block<double>(first, n, w, weighted_, take, end)
                            : block<S>(first, n, nullptr, padded_, take, end);
      if (!done) return false;
    }
    return true;
  }

 private:
  template <class T, class F, class G>
  bool block(index_t first, index_t n, const double* weights, std::vector<T>& room, F& take,
             G& end) {
    index_t leaf = 0;
    for (index_t at = 0; at < n; at += Layout::leaf, ++leaf) {
      const index_t count = std::min(Layout::leaf, n - at);
      const S* from = rows_.data + (first + at) * rows_.row_stride;
      OjaRows<T> rows{nullptr, rows_.row_stride, rows_.cols};
      if constexpr (std::is_same_v<S, T>) rows.x = from;
      if (weights || count < Layout::leaf || !rows.x)
        rows = in_memory<T>(from, count, weights ? weights + at : nullptr, room);
      else if constexpr (std::is_same_v<S, T>)
        if (first + at + 2 * Layout::leaf <= rows_.rows)
          rows.next = from + Layout::leaf * rows_.row_stride;
      if (!take(rows, count, leaf)) return false;
    }
    end(T{}, leaf);
    return true;
  }

  /// A whole leaf: rows times the roots of their weights, and rows of zeros.
  template <class T>
  OjaRows<T> in_memory(const S* from, index_t n, const double* weights, std::vector<T>& to) {
    const index_t d = rows_.cols;
    to.assign(static_cast<std::size_t>(Layout::leaf * d), T(0));
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
  return Blocks<S>(rows, weights)
      .each(
          [&](const auto& x, index_t n, index_t leaf) {
            block.rows = n;
            block.multiply(x);
            if (!block.below(limit)) return false;
            rates.take(x, block);
            sketch.take(x, block, leaf);
            return true;
          },
          [&]<class T>(T, index_t leaves) { sketch.end_block<T>(leaves); });
}

/// The same bits by two threads, each with all blocks at its own pace.
template <class S>
bool side_by_side(const OjaState& state, const MatrixView<const S>& rows, const double* weights,
                  double limit, Context& context) {
  std::atomic<bool> memory{true};
  std::atomic<bool> ordinary{true};
  const auto half = [&](auto&& take, auto&& end) {
    OjaBlock block;
    const bool done = Blocks<S>(rows, weights)
                          .each(
                              [&](const auto& x, index_t n, index_t leaf) {
                                block.rows = n;
                                block.multiply(x);
                                if (!block.below(limit)) return false;
                                take(x, block, leaf);
                                return true;
                              },
                              end);
    if (!done) ordinary = false;
  };
  context.run(2, [&](index_t which, int) {
    try {
      if (which == 0) {
        detail::OjaRates rates(state);
        half([&](const auto& x, const OjaBlock& block, index_t) { rates.take(x, block); },
             [](auto, index_t) {});
      } else {
        detail::OjaSketch sketch(state);
        half([&](const auto& x, const OjaBlock& block,
                 index_t leaf) { sketch.take(x, block, leaf); },
             [&]<class T>(T, index_t leaves) { sketch.end_block<T>(leaves); });
      }
    } catch (const std::bad_alloc&) {
      memory = false;
    }
  });
  if (!memory) throw std::bad_alloc();
  return ordinary;
}

/// Complex rows, in double whatever they are.
template <class S>
bool update_complex(const OjaState& state, const ArrayRef& rows, const double* weights,
                    double limit) {
  using D = std::complex<double>;
  constexpr index_t leaf = Layout::leaf;
  const MatrixView<const S> from = rows.matrices<const S>()[0];
  const index_t d = from.cols;
  detail::OjaRates rates(state);
  detail::OjaSketch sketch(state);
  std::vector<D> x(static_cast<std::size_t>(leaf * d));
  std::array<D, leaf * leaf> gram;
  OjaBlock block;
  for (index_t first = 0; first < from.rows; first += leaf) {
    block.rows = std::min(leaf, from.rows - first);
    std::fill(x.begin(), x.end(), D(0));
    for (index_t i = 0; i < block.rows; ++i) {
      const double factor = weights ? std::sqrt(weights[first + i]) : 1.0;
      for (index_t j = 0; j < d; ++j)
        x[static_cast<std::size_t>(i * d + j)] =
            factor * D(from.data[(first + i) * from.row_stride + j]);
    }
    detail::gemm(false, true, leaf, leaf, d, D(1), x.data(), d, x.data(), d, D(0), gram.data(),
                 leaf);
    for (index_t i = 0; i < leaf; ++i)
      block.squares[static_cast<std::size_t>(i)] =
          gram[static_cast<std::size_t>(i * (leaf + 1))].real();
    if (!block.below(limit)) return false;
    rates.take(x.data(), gram.data(), block);
    if (block.largest() > 0) sketch.take(x.data());
  }
  return true;
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
    const bool done = rows.dtype == DType::float64   ? update<double>(state, rows, weights, limit)
                      : rows.dtype == DType::float32 ? update<float>(state, rows, weights, limit)
                      : rows.dtype == DType::complex128
                          ? update_complex<std::complex<double>>(state, rows, weights, limit)
                          : update_complex<std::complex<float>>(state, rows, weights, limit);
    return done ? Status::ok : Status::not_finite;
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
}

}  // namespace gramian
