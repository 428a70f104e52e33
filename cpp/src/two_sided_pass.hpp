// The fused pass: one read of A gives both Y = A Z and W = A^H Y.
//
// A is cut into slices of rows, one task each, and a slice into blocks of rows that stay in a
// core's L2 cache: a block is read from memory once, multiplied by Z, and its adjoint by the Y just
// found. Slices have a W of their own; these are added up in order. The cut depends on the shape
// alone, so the bits do not depend on the number of threads.
//
// On the first read nothing is known about A. So the same pass finds, block by block, whether the
// entries are finite, their magnitude, ||A||_F^2 in double and the means to be taken off. A slice
// works on A 2^-e with e the exponent of its largest entry so far: when a larger one turns up, what
// is there is multiplied by a power of two, which is exact. No read of A goes into measuring it.
#pragma once

#include <climits>
#include <cmath>
#include <vector>

#include "elementwise.hpp"
#include "test_matrix.hpp"
#include "thin.hpp"
#include "tile_kernel.hpp"

namespace gramian::detail {

// Of a core's L2 cache, the part that a block of A takes.
inline constexpr index_t block_bytes = 384 * 1024;
inline constexpr index_t most_slices = 16;

/// Which means are taken off: those of the columns of the view, of its rows, or none.
enum class Centering { none, columns, rows };

/// What one read learns about A and the next ones use. `exponent` scales: products are with
/// (A - means) 2^-exponent.
struct PassState {
  Centering centering = Centering::none;
  bool first = true;
  bool finite = true;
  int exponent = 0;
  double squares = 0;  // ||(A - means) 2^-exponent||_F^2
  int reads = 0;
};

/// The exponent that centering by columns starts from, INT_MIN for means of zero: a row of zeros
/// becomes a row of means.
template <class D>
int exponent_of_means(const std::vector<D>& means) {
  double top = 0;
  for (const D& v : means) top = std::max({top, std::abs(std::real(v)), std::abs(std::imag(v))});
  // What is not finite comes from an entry that is not, which the read itself finds.
  if (!(top > 0 && std::isfinite(top))) return INT_MIN;
  int e;
  std::frexp(top, &e);
  return e + 1;  // room for the difference
}

/// No term of an entry of Y passes through more than this many roundings.
inline double pass_roundings(index_t depth) {
  return static_cast<double>(std::min(depth, pass_depth) + depth / pass_depth + 4);
}

/// A product of a block with Z, or of its adjoint with Y, on the register tiles (real types).
/// out (rows x cols) <- sum over k of left(i, k) right(k, j) + beta out.
template <class R>
void tiles(const R* left, index_t row_stride, index_t k_stride, index_t rows, index_t depth,
           const R* right, index_t right_ld, index_t cols, R beta, R* out, index_t out_ld) {
  const TileKernels<R>& kernels = tile_kernels<R>();
  const auto at = [](auto v) { return static_cast<std::size_t>(v); };
  R edge[32 * pass_depth];
  for (index_t j = 0; j < cols; j += kernels.panel) {
    const index_t width = std::min<index_t>(cols - j, kernels.panel);
    const index_t vectors = (width + kernels.vector - 1) / kernels.vector;
    for (index_t i = 0; i < rows; i += kernels.rows) {
      const index_t height = std::min<index_t>(rows - i, kernels.rows);
      TileArgs<R> t{};
      t.k = depth;
      t.a = left + i * row_stride;
      t.a_stride = k_stride;
      t.a_row = row_stride;
      if (height < kernels.rows) {  // the tile reads whole rows: give it zeros beyond the last
        for (index_t k = 0; k < depth; ++k)
          for (index_t r = 0; r < kernels.rows; ++r)
            edge[r * depth + k] = r < height ? left[(i + r) * row_stride + k * k_stride] : R(0);
        t.a = edge;
        t.a_stride = 1;
        t.a_row = depth;
      }
      t.b = right + j;
      t.b_stride = right_ld;
      t.c = out + i * out_ld + j;
      t.ldc = out_ld;
      t.d = beta == R(0) ? nullptr : t.c;
      t.ldd = out_ld;
      t.alpha = R(1);
      t.beta = beta;
      t.rows = static_cast<int>(height);
      t.cols = static_cast<int>(width);
      const bool by_rows = height < kernels.rows || k_stride == 1;
      (by_rows ? kernels.real_rows : kernels.real)[at(vectors - 1)](t);
    }
  }
}

/// One slice's share of a pass.
template <class S, class T>
class Slice {
 public:
  using R = real_t<T>;
  using D = wide_t<T>;

  int exponent;  // INT_MIN: nothing but zeros so far
  double squares = 0;
  bool finite = true;
  std::vector<D> sums;  // of the columns, scaled, less the provisional means
  Thin<T> w;

  Slice(const MatrixView<const S>& a, const TestMatrix<T>& z, Thin<T>& y, bool wants_w,
        const PassState& state, const std::vector<D>& means, int start)
      : exponent(state.first ? start : state.exponent),
        a_(a),
        z_(z),
        y_(y),
        state_(state),
        means_(means),
        wants_w_(wants_w) {
    if (wants_w) w = Thin<T>(a.cols, z.cols);
    if (state.first && state.centering == Centering::columns)
      sums.resize(static_cast<std::size_t>(a.cols));
    ld_ = a.cols + 16;  // not a power of two, which would put every row into the same cache sets
    const index_t bytes = z.stored() ? block_bytes : block_bytes * 3 / 2;  // Z needs no cache then
    block_ = std::clamp<index_t>(
        bytes / (std::max<index_t>(ld_, 1) * static_cast<index_t>(sizeof(T))), 8, pass_depth);
  }

  void run(index_t begin, index_t end) {
    tile_.resize(static_cast<std::size_t>(block_ * ld_));
    for (index_t i = begin; i < end; i += block_) {
      const index_t count = std::min(block_, end - i);
      if (!load(i, count, begin)) return;
      multiply(i, count);
    }
  }

  /// To 2^-to, from the slice's own exponent; `begin`, `end`: its rows of Y.
  void rescale(int to, index_t begin, index_t end) {
    if (exponent == to) return;
    const int by = exponent == INT_MIN ? 0 : exponent - to;
    exponent = to;
    if (by == 0) return;
    const R once = static_cast<R>(std::ldexp(1.0, by));
    for (index_t i = begin; i < end; ++i)
      for (index_t j = 0; j < y_.cols; ++j) y_(i, j) *= once;
    for (T& v : w.entries) v = v * once * once;
    for (D& v : sums) v *= std::ldexp(1.0, by);
    squares = std::ldexp(squares, 2 * by);
  }

 private:
  MatrixView<const S> rows(index_t i, index_t count) const {
    MatrixView<const S> part = a_;
    part.data += i * a_.row_stride;
    part.rows = count;
    return part;
  }

  /// The block into tile_ (or a pointer to it as it lies), scaled and centered.
  bool load(index_t i, index_t count, index_t begin) {
    const MatrixView<const S> part = rows(i, count);
    if (state_.first) {
      const double top = largest_entry<S>(part);
      if (!std::isfinite(top)) return finite = false;
      int e = INT_MIN;
      if (top > 0) std::frexp(top, &e);
      if (state_.centering != Centering::none && top > 0) ++e;  // less a mean, twice as large
      if (e > exponent) rescale(e, begin, i);
    }
    const int e = exponent == INT_MIN ? 0 : exponent;
    source_ = tile_.data();
    source_ld_ = ld_;
    if (state_.centering == Centering::none)
      copy(part, e);
    else
      copy_centered(part, e);
    if (state_.first) measure(count);
    return true;
  }

  void copy(const MatrixView<const S>& part, int e) {
    if constexpr (std::is_same_v<S, T> && !is_complex_v<T>) {
      const index_t step = part.row_stride * static_cast<index_t>(sizeof(T));
      if (!state_.first && part.col_stride == 1 && e == 0 && step % 1024 != 0) {
        source_ = part.data;
        source_ld_ = part.row_stride;
        return;
      }
    }
    const PowerOfTwo<S, T> power(-e);
    const auto fill = [&](auto&& map) {
      if (part.col_stride == 1 || part.rows == 1) {
        for (index_t r = 0; r < part.rows; ++r) {
          const S* from = part.data + r * part.row_stride;
          T* to = tile_.data() + r * ld_;
          if (part.col_stride == 1)
            for (index_t j = 0; j < part.cols; ++j) to[j] = map(from[j]);
          else
            for (index_t j = 0; j < part.cols; ++j) to[j] = map(from[j * part.col_stride]);
        }
        return;
      }
      constexpr index_t step = 16;
      for (index_t j0 = 0; j0 < part.cols; j0 += step)
        for (index_t r = 0; r < part.rows; ++r)
          for (index_t j = j0; j < std::min(part.cols, j0 + step); ++j)
            tile_[static_cast<std::size_t>(r * ld_ + j)] = map(part(r, j));
    };
    if (power.direct())
      fill([&](const S& v) { return power.times(v); });
    else
      fill([&](const S& v) { return power(v); });
  }

  void copy_centered(const MatrixView<const S>& part, int e) {
    // In double and scaled first, so that neither a sum nor a difference overflows.
    const PowerOfTwo<S, D> power(-e);
    const PowerOfTwo<D, D> means_power(-e);
    for (index_t r = 0; r < part.rows; ++r) {
      T* to = tile_.data() + r * ld_;
      D mean{};
      if (state_.centering == Centering::rows) {
        for (index_t j = 0; j < part.cols; ++j) mean += power(part(r, j));
        mean /= static_cast<double>(std::max<index_t>(part.cols, 1));
      }
      for (index_t j = 0; j < part.cols; ++j) {
        if (state_.centering == Centering::columns)
          mean = means_power(means_[static_cast<std::size_t>(j)]);
        to[j] = static_cast<T>(power(part(r, j)) - mean);
      }
    }
  }

  void measure(index_t count) {
    constexpr int reals = is_complex_v<T> ? 2 : 1;
    for (index_t r = 0; r < count; ++r) {
      const auto* row = reinterpret_cast<const R*>(tile_.data() + r * ld_);
      double lane[8] = {};
      index_t j = 0;
      for (; j + 8 <= a_.cols * reals; j += 8)
        for (int l = 0; l < 8; ++l) {
          const double v = static_cast<double>(row[j + l]);
          lane[l] += v * v;
        }
      for (; j < a_.cols * reals; ++j)
        lane[0] += static_cast<double>(row[j]) * static_cast<double>(row[j]);
      squares +=
          ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
      if (!sums.empty())
        for (index_t c = 0; c < a_.cols; ++c)
          sums[static_cast<std::size_t>(c)] +=
              static_cast<D>(tile_[static_cast<std::size_t>(r * ld_ + c)]);
    }
  }

  void multiply(index_t i, index_t count) {
    const index_t n = a_.cols;
    if constexpr (is_complex_v<T>) {
      const index_t depth = z_.stored() ? n : pass_depth;
      for (index_t k = 0; k < n; k += depth)
        gemm<T>(false, false, count, z_.cols, std::min(depth, n - k), T(1), source_ + k, source_ld_,
                z_.tile(k, std::min(depth, n - k), z_room_), z_.ld, T(k == 0 ? 0 : 1), y_.row(i),
                y_.ld);
      if (wants_w_)
        gemm<T>(true, false, n, z_.cols, count, T(1), source_, source_ld_, y_.row(i), y_.ld, T(1),
                w.row(0), w.ld);
    } else {
      for (index_t k = 0; k < n; k += pass_depth)
        tiles<T>(source_ + k, source_ld_, 1, count, std::min(pass_depth, n - k),
                 z_.tile(k, std::min(pass_depth, n - k), z_room_), z_.ld, z_.ld,
                 k == 0 ? T(0) : T(1), y_.row(i), y_.ld);
      if (wants_w_)
        tiles<T>(source_, 1, source_ld_, n, count, y_.row(i), y_.ld, z_.ld, T(1), w.row(0), w.ld);
    }
  }

  MatrixView<const S> a_;
  const TestMatrix<T>& z_;
  Thin<T>& y_;
  const PassState& state_;
  const std::vector<D>& means_;
  bool wants_w_;
  index_t ld_ = 0;
  index_t block_ = 0;
  std::vector<T> tile_;
  const T* source_ = nullptr;
  index_t source_ld_ = 0;
  std::vector<T> z_room_;
};

/// Provisional means of the columns, from rows spread over A: what remains is small beside the
/// entries, and is taken off exactly once the read is over.
template <class S, class D>
std::vector<D> sampled_means(MatrixView<const S> a) {
  std::vector<D> means(static_cast<std::size_t>(a.cols));
  const index_t count = std::min<index_t>(a.rows, 16);
  for (index_t s = 0; s < count; ++s) {
    const index_t i = a.rows * s / count;
    for (index_t j = 0; j < a.cols; ++j)
      means[static_cast<std::size_t>(j)] +=
          PowerOfTwo<S, D>(0)(a(i, j)) / static_cast<double>(count);
  }
  return means;
}

/// Y <- A Z, W <- A^H Y (unless null), A scaled and centered as `state` says; `means` are those of
/// the columns, found on the first read. False if A is not finite: the results mean nothing then.
template <class S, class T>
bool two_sided_pass(Context& ctx, MatrixView<const S> a, const TestMatrix<T>& z, Thin<T>& y,
                    Thin<T>* w, PassState& state, std::vector<wide_t<T>>& means) {
  using D = wide_t<T>;
  const bool correct = state.first && state.centering == Centering::columns;
  if (correct) means = sampled_means<S, D>(a);
  // A slice's W is added up at the end: that must cost little beside the products.
  const index_t slices =
      std::clamp<index_t>(a.rows / std::max<index_t>(2 * z.ld, 32), 1, most_slices);
  std::vector<Slice<S, T>> parts;
  parts.reserve(static_cast<std::size_t>(slices));
  const int start = correct ? exponent_of_means(means) : INT_MIN;
  for (index_t s = 0; s < slices; ++s)
    parts.emplace_back(a, z, y, w != nullptr, state, means, start);
  const auto begin = [&](index_t s) { return a.rows * s / slices; };
  ctx.run(slices,
          [&](index_t s, int) { parts[static_cast<std::size_t>(s)].run(begin(s), begin(s + 1)); });
  ++state.reads;
  if (state.first) {
    int top = INT_MIN;
    for (const auto& part : parts) {
      state.finite = state.finite && part.finite;
      top = std::max(top, part.exponent);
    }
    if (!state.finite) return false;
    // Numbers of moderate size are left as they are: later reads then need no copy. A power of two
    // commutes with every rounding, so results scale exactly all the same.
    state.exponent = top == INT_MIN || std::abs(top) <= 12 ? 0 : top;
    ctx.run(slices, [&](index_t s, int) {
      parts[static_cast<std::size_t>(s)].rescale(state.exponent, begin(s), begin(s + 1));
    });
    state.squares = 0;
    for (const auto& part : parts) state.squares += part.squares;
  }
  if (w) {
    constexpr index_t band = 64;
    ctx.run((a.cols + band - 1) / band, [&](index_t b, int) {
      for (index_t i = b * band; i < std::min(a.cols, (b + 1) * band); ++i) {
        T* to = w->row(i);
        std::copy_n(parts[0].w.row(i), z.ld, to);
        for (index_t s = 1; s < slices; ++s) {
          const T* from = parts[static_cast<std::size_t>(s)].w.row(i);
          for (index_t j = 0; j < z.ld; ++j) to[j] += from[j];
        }
      }
    });
  }
  if (correct) {
    // With the mean d of what was left, A = A_p - 1 d^T: Y loses 1 (d^T Z), W = A^H Y loses
    // conj(d) (1^H Y), as A^H 1 = 0, and ||A_p||^2 loses rows ||d||^2.
    std::vector<D> left(static_cast<std::size_t>(a.cols));
    for (index_t j = 0; j < a.cols; ++j) {
      const auto at = static_cast<std::size_t>(j);
      D sum{};
      for (const auto& part : parts) sum += part.sums[at];
      sum /= static_cast<double>(a.rows);
      means[at] += PowerOfTwo<D, D>(state.exponent)(sum);
      left[at] = sum;
      state.squares -= static_cast<double>(a.rows) * squared(left[at]);
    }
    state.squares = std::max(state.squares, 0.0);
    std::vector<D> row(static_cast<std::size_t>(z.cols));
    std::vector<T> room;
    for (index_t k = 0; k < a.cols; k += pass_depth) {
      const index_t count = std::min(pass_depth, a.cols - k);
      const T* tile = z.tile(k, count, room);
      for (index_t j = 0; j < count; ++j)
        for (index_t c = 0; c < z.cols; ++c)
          row[static_cast<std::size_t>(c)] +=
              left[static_cast<std::size_t>(k + j)] * static_cast<D>(tile[j * z.ld + c]);
    }
    for (index_t c = 0; c < z.cols; ++c) {
      const D value = row[static_cast<std::size_t>(c)];
      for (index_t i = 0; i < a.rows; ++i)
        y(i, c) = static_cast<T>(static_cast<D>(y(i, c)) - value);
      if (w)
        for (index_t j = 0; j < a.cols; ++j)
          (*w)(j, c) = static_cast<T>(static_cast<D>((*w)(j, c)) -
                                      conjugate(left[static_cast<std::size_t>(j)]) * value *
                                          static_cast<double>(a.rows));
    }
  }
  state.first = false;
  return true;
}

}  // namespace gramian::detail
