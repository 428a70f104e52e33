// Singular values clipped. With G = X^H X of a tall X, and c the bound:
//   soft   X (I + G / c^2)^(-1/2)
//   hard   X F,  F = I - sum over eigenvalues lambda of G above c^2 of (1 - c / lambda^(1/2)) v
//   v^H,
// neither of which divides by a small singular value. What G loses, squares of small singular
// values next to the largest, these do not need; but directions mix by u (sigma_1 / c)^2 of c, so
// where sigma_1 / c is large it is an SVD.
//
// Soft clipping as the polar factor of X stacked on c I: Newhouse et al., "Training Transformers
// with Enforced Lipschitz Constants", 2025, have polynomials for it; hard caps too.
#include <algorithm>
#include <cmath>
#include <limits>

#include "polar_batch.hpp"
#include "polar_matrix.hpp"

namespace gramian {

namespace {

using namespace detail;

template <class S, class T>
class Clip {
  using R = real_t<T>;
  using D = wide_t<T>;
  static constexpr double u = unit_roundoff<R>;

 public:
  Clip(const ArrayRef& x, const ArrayRef& out, double c, ClipKind kind, const PolarOptions& options,
       std::vector<ClipReport>& reports)
      : x_(x.matrices<const S>()),
        out_(out.matrices<S>()),
        c_(c),
        kind_(kind),
        options_(options),
        reports_(reports) {
    wide_ = x_.first.rows < x_.first.cols;
    n_ = std::max(x_.first.rows, x_.first.cols);
    m_ = std::min(x_.first.rows, x_.first.cols);
    root_ = std::sqrt(static_cast<double>(m_));
    const double standard = polar_tolerance(x.dtype, x_.first.rows, x_.first.cols);
    // LAPACK's SVD of one 3x3 matrix in some thousands needs 2.6 of the 4.
    tolerance_ = options.tolerance > 0 ? options.tolerance : 4 * standard;
    aim_ = std::min(tolerance_, standard);
  }

  Status run() {
    return run_batch<S>(
        x_, options_.check_finite, 8,
        [&](int threads) { return PolarMatrix<T>(n_, m_, threads).workspace(); },
        [&](Context& ctx, index_t b, double largest, Workspace workspace) {
          one(ctx, b, largest, workspace);
        });
  }

 private:
  void one(Context& ctx, index_t b, double largest, Workspace workspace) {
    ClipReport& report = reports_[static_cast<std::size_t>(b)];
    MatrixView<const S> x = x_[b];
    MatrixView<S> out = out_[b];
    if (wide_) {
      x = x.transposed();
      out = out.transposed();
    }
    if (!std::isfinite(largest)) {
      report.residual = std::numeric_limits<double>::quiet_NaN();
      map_entries<S, S>(ctx, out, out, [](const S&) { return quiet_nan<S>(); });
      return;
    }
    int exponent = 0;
    std::frexp(largest, &exponent);
    // Below u^2 sigma_1 the bound is far under all that is known of x: the result is c times that
    // of a larger bound, whose square does not underflow.
    const int shift = std::max(0, 2 * std::ilogb(u) - (std::ilogb(c_) - exponent));
    const double c = std::ldexp(c_, shift - exponent);
    // ||X||_F <= c, or so small next to it that soft clipping is not felt either.
    const double frobenius = std::sqrt(static_cast<double>(n_) * static_cast<double>(m_)) *
                             (is_complex_v<T> ? 1.5 : 1.0);
    const double unfelt = kind_ == ClipKind::hard ? 1.0 : std::sqrt(u) / 2;
    if (largest == 0.0 || frobenius <= c * unfelt) {
      keep(ctx, x, out);
      return;
    }
    PolarMatrix<T> matrix(n_, m_, ctx.size());
    matrix.place(workspace);
    const auto load = [&] { scale_into<S, T>(ctx, x, -exponent, matrix.input()); };
    load();
    MatrixView<T> result{};
    matrix.with_input(ctx, [&](auto& products) {
      T* buffers[4];
      for (int i = 0; i < 4; ++i) buffers[i] = matrix.square_buffer(i);
      Work<std::remove_reference_t<decltype(products)>> work{
          products, PolarIteration(products, 2 * root_ * root_ * u, root_ * root_, matrix.room()),
          buffers, c};
      report.method = kind_ == ClipKind::soft ? soft(work) : hard(ctx, work, matrix.scratch());
      result = products.current();
      if (report.method == ClipMethod::svd) {
        load();
        result = by_svd(matrix, c);
      }
      if (report.method == ClipMethod::unchanged) return;
      if (kind_ == ClipKind::hard) shrink_until_within(work, matrix, ctx, result);
      report.residual = residual(ctx, matrix, work, load, result);
      if (report.method == ClipMethod::svd || report.residual <= aim_) return;
      // Many singular values near 4 c: directions mix by more than the tolerance.
      report.method = ClipMethod::svd;
      result = by_svd(matrix, c);
      if (kind_ == ClipKind::hard) shrink_until_within(work, matrix, ctx, result);
      report.residual = residual(ctx, matrix, work, load, result);
    });
    report.converged = report.residual <= tolerance_;
    if (report.method == ClipMethod::unchanged)
      keep(ctx, x, out);
    else
      scale_into_storage(ctx, result, exponent - shift, out);
  }

  template <class Products>
  struct Work {
    Products& products;
    PolarIteration<Products> iteration;
    T** buffers;
    double c;
  };

  template <class W>
  static index_t stride(const W& w) {
    return w.products.stride();
  }

  template <class W>
  void add_to_diagonal(W& w, T* g, double value) const {
    for (index_t i = 0; i < m_; ++i) g[i * stride(w) + i] += static_cast<R>(value);
  }

  /// X <- X (I + G / c^2)^(-1/2).
  template <class W>
  ClipMethod soft(W& w) const {
    T *g = w.buffers[0], *p = w.buffers[1], *q = w.buffers[2], *spare = w.buffers[3];
    w.products.gram_into(g);
    // ||G||_F^(1/2) may be twice sigma_1 and more. The steps find a closer bound, but not where
    // this one is so far above that sigma_1 must be large too.
    const double top = w.iteration.spread(g).upper;
    const double most = polar_plan::clip_ratio_below * w.c;
    if (!(top <= most * std::sqrt(std::sqrt(static_cast<double>(m_))))) return ClipMethod::svd;
    double s = 1;
    add_to_diagonal(w, g, w.c * w.c);
    if (!w.iteration.gram_steps(g, p, q, spare, w.c, std::hypot(top, w.c), u, s,
                                std::hypot(most, w.c)))
      return ClipMethod::svd;
    w.products.apply_to_x(q, w.c / s);
    return ClipMethod::gram;
  }

  /// Whether all singular values are at most c (1 + slack / 2), by a factorization of
  /// c^2 (1 + slack) I - G; room is as large.
  bool within(const T* g, index_t ld, T* room, double c) const {
    const double slack = 16 * (root_ + 2) * u;
    const R bound = static_cast<R>(c * c * (1 + slack));
    for (index_t i = 0; i < m_; ++i)
      for (index_t j = 0; j < m_; ++j) room[i * m_ + j] = (i == j ? bound : R(0)) - g[i * ld + j];
    return inverse_cholesky(room, m_, m_);
  }

  /// Shrinks a result by a few units, where it must be, until it passes the test above: so clipping
  /// twice is clipping once, bit for bit.
  template <class W>
  void shrink_until_within(W& w, const PolarMatrix<T>& matrix, Context& ctx,
                           MatrixView<T> result) const {
    double less = 4 * (root_ + 2) * u;
    for (int round = 0; round < 8; ++round, less *= 2) {
      gram<T>(ctx, result, Side::right, {}, row_major(w.buffers[0], m_, m_), matrix.scratch());
      if (within(w.buffers[0], m_, w.buffers[1], w.c)) return;
      const R factor = static_cast<R>(1 - less);
      map_entries<T, T>(ctx, result, result, [factor](const T& v) { return v * factor; });
    }
  }

  template <class W>
  ClipMethod hard(Context& ctx, W& w, Workspace scratch) const {
    T *g = w.buffers[0], *p = w.buffers[1];
    gram<T>(ctx, w.products.current(), Side::right, {}, row_major(g, m_, m_), scratch);
    if (within(g, m_, p, w.c)) return ClipMethod::unchanged;
    w.products.gram_into(g);
    if (!(w.iteration.spread(g).upper <= 4 * polar_plan::clip_ratio_below * w.c))
      return ClipMethod::svd;

    Small<D> gram(m_, m_);
    for (index_t i = 0; i < m_; ++i)
      for (index_t j = 0; j < m_; ++j) gram(i, j) = static_cast<D>(g[i * stride(w) + j]);
    const Eigen<D> eigen = hermitian_eigen(std::move(gram));
    if (!(eigen.values[0] <=
          polar_plan::clip_ratio_below * polar_plan::clip_ratio_below * w.c * w.c))
      return ClipMethod::svd;
    index_t above = 0;
    Small<D> left(m_, m_);
    Small<D> right(m_, m_);
    for (; above < m_ && eigen.values[static_cast<std::size_t>(above)] > w.c * w.c; ++above) {
      const double kept = w.c / std::sqrt(eigen.values[static_cast<std::size_t>(above)]);
      for (index_t i = 0; i < m_; ++i) {
        left(i, above) = (kept - 1) * eigen.vectors(i, above);
        right(above, i) = conjugate(eigen.vectors(i, above));
      }
    }
    Small<D> f(m_, m_);
    if (above > 0)
      gemm<D>(false, false, m_, m_, above, D(1), left.data(), m_, right.data(), m_, D(0), f.data(),
              m_);
    std::fill_n(p, m_ * stride(w), T{});
    for (index_t i = 0; i < m_; ++i) {
      for (index_t j = 0; j < m_; ++j) p[i * stride(w) + j] = static_cast<T>(f(i, j));
      p[i * stride(w) + i] += R(1);
    }
    w.products.apply_to_x(p, 1.0);
    return ClipMethod::eigenvectors;
  }

  /// For a matrix in input().
  MatrixView<T> by_svd(PolarMatrix<T>& matrix, double c) const {
    const MatrixView<T> y = matrix.input_view();
    const MatrixView<T> w = matrix.other_than_input();
    const bool soft = kind_ == ClipKind::soft;
    function_by_svd<T>(
        y, 0.0,
        [=](double s, double) { return soft ? s / std::hypot(1.0, s / c) : std::min(s, c); }, w);
    return w;
  }

  /// See ClipReport. The matrix is loaded into input() again, so the result is moved out of it.
  template <class W, class Load>
  double residual(Context& ctx, PolarMatrix<T>& matrix, W& w, const Load& load,
                  MatrixView<T>& result) const {
    if (result.data == matrix.input_view().data) {
      const MatrixView<T> moved = matrix.other_than_input();
      map_entries<T, T>(ctx, result, moved, [](const T& v) { return v; });
      result = moved;
    }
    load();
    const auto view = [&](int i) { return row_major(w.buffers[i], m_, m_); };
    gram<T>(ctx, matrix.input_view(), Side::right, {}, view(0), matrix.scratch());
    gram<T>(ctx, result, Side::right, {}, view(1), matrix.scratch());
    T* g = w.buffers[0];
    T* k = w.buffers[1];
    const double top = std::sqrt(std::max(largest_eigenvalue(g, m_, m_, matrix.room()), 0.0));
    const double c2 = w.c * w.c;
    Update<T> update;
    T* other = w.buffers[2];
    if (kind_ == ClipKind::soft) {  // G K + c^2 K - c^2 G
      for (index_t e = 0; e < m_ * m_; ++e) other[e] = static_cast<R>(c2) * (k[e] - g[e]);
      update.beta = 1;
      update.d = view(2);
      hermitian_product<T>(ctx, view(0), view(1), update, view(3), matrix.scratch());
    } else {  // (G - K)(c^2 I - K)
      for (index_t e = 0; e < m_ * m_; ++e) {
        g[e] -= k[e];
        k[e] = -k[e];
      }
      for (index_t i = 0; i < m_; ++i) k[i * m_ + i] += static_cast<R>(c2);
      hermitian_product<T>(ctx, view(0), view(1), update, view(3), matrix.scratch());
    }
    const double norm = window_norm(w.buffers[3], m_, m_, m_, false);
    const double size = std::max(w.c, top);
    return norm / root_ / c2 / size / size;
  }

  static void keep(Context& ctx, MatrixView<const S> x, MatrixView<S> out) {
    map_entries<S, S>(ctx, x, out, [](const S& v) { return v; });
  }

  static void scale_into_storage(Context& ctx, MatrixView<const T> from, int exponent,
                                 MatrixView<S> out) {
    const PowerOfTwo<T, T> power(exponent);
    map_entries<T, S>(ctx, from, out, [power](const T& v) { return round_to<S>(power(v)); });
  }

  BatchView<const S> x_;
  BatchView<S> out_;
  double c_;
  ClipKind kind_;
  const PolarOptions& options_;
  std::vector<ClipReport>& reports_;
  index_t n_, m_;
  double root_, tolerance_, aim_;
  bool wide_;
};

}  // namespace

Status spectral_clip(const ArrayRef& x, const ArrayRef& out, double c, ClipKind kind,
                     const PolarOptions& options, std::vector<ClipReport>& reports) {
  try {
    reports.assign(static_cast<std::size_t>(batch_size(x)), {});
    if (reports.empty() || has_no_entries(x)) return Status::ok;
    return with_separate_input(x, {out}, [&](const ArrayRef& in) {
      return with_stored_type(in.dtype, [&]<class S>() {
        return Clip<S, compute_t<S>>(in, out, c, kind, options, reports).run();
      });
    });
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
}

}  // namespace gramian
