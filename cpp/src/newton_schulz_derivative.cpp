// The derivative of newton_schulz, by products with a Hermitian result alone but where it touches
// matrices of x's shape.
//
// Let f be the composed polynomials, Q = f(Y), Y = X / s. Its derivative L at Y is self-adjoint in
// Re tr(A^H B): by singular vectors it is made of divided differences of f, which are symmetric. So
// one sweep forward serves the derivative in a direction E and the gradient by X alike, and no
// iterate is kept for a sweep back:
//
//   in a direction:  dQ = L(E - <D, E> Y) / s          D: gradient of the norm s, by Y
//   the gradient:    (L(E) - <L(E), Y> D) / s          E: gradient by Q
//
// D is Y for the Frobenius norm, (Y Y^H)^3 Y for the Schatten norm. The sweep is that of
// newton_schulz_iteration.hpp with a derivative beside each matrix: within a segment
//
//   A = Y Y^H       dA = dY Y^H + Y dY^H
//   M = a + bA + cA^2,  P <- M P,  A <- M A M,  and for each product of two of them, which commute,
//                   d(S Z) = dS Z + S dZ, Hermitian: half of either product
//   Y <- P Y        dY <- P dY + dP Y
//
// The standard form is that with a segment for each step.
#include <algorithm>
#include <cmath>

#include "elementwise.hpp"
#include "gramian/newton_schulz.hpp"
#include "gramian/symmetric_product.hpp"
#include "polar_batch.hpp"

namespace gramian {

namespace {

/// A Hermitian matrix and its derivative.
template <class T>
struct Pair {
  T* value = nullptr;
  T* along = nullptr;
};

template <class T>
class Sweep {
  using R = real_t<T>;

 public:
  Sweep(Context& ctx, index_t rows, index_t cols, const NewtonSchulzOptions& options, bool adjoint,
        Workspace& workspace)
      : ctx_(ctx),
        options_(options),
        adjoint_(adjoint),
        m_(std::min(rows, cols)),
        side_(rows < cols ? Side::left : Side::right) {
    for (Pair<T>* pair : {&a_, &p_}) take(*pair, workspace);
    if (options.plan.method == NewtonSchulzMethod::gram)
      for (Pair<T>* pair : {&m_pair_, &w_}) take(*pair, workspace);
    if (options.normalization == Normalization::schatten) cube_ = workspace.take<T>(m_ * m_);
    spare_ = row_major(workspace.take<T>(rows * cols), rows, cols);
    partial_ = workspace.take<double>(std::max(rows, cols));
    const std::size_t bytes = packed_hermitian_bytes<T>(m_);
    for_s_ = Workspace(workspace.take<std::byte>(static_cast<index_t>(bytes)), bytes);
    scratch_ = workspace;
  }

  static std::size_t workspace(index_t rows, index_t cols, const NewtonSchulzOptions& options,
                               int threads) {
    const index_t m = std::min(rows, cols);
    const index_t n = std::max(rows, cols);
    const std::size_t squares = (options.plan.method == NewtonSchulzMethod::gram ? 8 : 4) +
                                (options.normalization == Normalization::schatten ? 1 : 0);
    return squares * Workspace::bytes_for<T>(m * m) + Workspace::bytes_for<T>(rows * cols) +
           Workspace::bytes_for<double>(n) +
           Workspace::bytes_for<std::byte>(static_cast<index_t>(packed_hermitian_bytes<T>(m))) +
           std::max({product_workspace<T>(m, n), product_workspace<T>(m, m),
                     apply_workspace<T>(m, n, threads)});
  }

  /// d <- s times the derivative, for a Y that is to be divided by s first: given, or found and
  /// returned. again(y) puts that Y, not yet divided, where it is told.
  template <class Again>
  double run(MatrixView<T> y, MatrixView<T> d, double s, Again&& again) {
    const std::size_t steps = options_.table.size();
    const bool normalizes = options_.normalization != Normalization::bound;
    for (std::size_t first = 0, last = 0; first < steps; first = last) {
      last = first + 1;
      while (last < steps && !restarts_before(last)) ++last;
      gram<T>(ctx_, y, side_, {}, square(a_.value), scratch_);
      cross(y, d);
      if (first == 0) s = normalize(y, d, s);
      for (std::size_t t = first; t < last; ++t) {
        const Pair<T>& r = t == first ? p_ : m_pair_;
        polynomial(r, t);
        if (t + 1 < last) {
          multiply(r, a_, w_);
          multiply(w_, r, a_);
        }
        if (t != first) {
          multiply(r, p_, w_);
          std::swap(w_, p_);
        }
      }
      touch(y, d, last == steps);
    }
    if (adjoint_ && normalizes) {
      again(y);
      scale(y, 1 / s);
      const double gain = inner(d, y);
      if (cube_) multiply_by(cube_, y);
      add(-gain, y, d);
    }
    return s;
  }

 private:
  void take(Pair<T>& pair, Workspace& workspace) const {
    pair.value = workspace.take<T>(m_ * m_);
    pair.along = workspace.take<T>(m_ * m_);
  }

  MatrixView<T> square(T* p) const { return row_major(p, m_, m_); }
  MatrixView<const T> view(const T* p) const { return row_major<const T>(p, m_, m_); }

  bool restarts_before(std::size_t t) const {
    if (options_.plan.method == NewtonSchulzMethod::standard) return true;
    const auto& r = options_.plan.restarts;
    return std::find(r.begin(), r.end(), static_cast<int>(t)) != r.end();
  }

  /// out <- alpha S Z + beta D + gamma I; of a product that is not Hermitian the lower triangle.
  void product(const T* s, const T* z, T* out, double alpha = 1, double beta = 0,
               const T* d = nullptr, double gamma = 0) const {
    Update<T> update;
    update.alpha = static_cast<R>(alpha);
    update.beta = static_cast<R>(beta);
    if (d) update.d = view(d);
    update.gamma = static_cast<R>(gamma);
    hermitian_product<T>(ctx_, view(s), view(z), update, square(out), scratch_);
  }

  void multiply(const Pair<T>& s, const Pair<T>& z, const Pair<T>& out) const {
    product(s.value, z.value, out.value);
    product(s.along, z.value, out.along);
    product(s.value, z.along, out.along, 1, 1, out.along);
  }

  void polynomial(const Pair<T>& out, std::size_t step) const {
    const Row row = options_.table[step];
    if (step == 0 && cube_)
      combine(row, out.value);  // the square is there already
    else
      product(a_.value, a_.value, out.value, row.c, row.b, a_.value, row.a);
    product(a_.along, a_.value, out.along, row.c, row.b, a_.along);
    product(a_.value, a_.along, out.along, row.c, 1, out.along);
  }

  /// p <- a I + b A + c p.
  void combine(const Row& row, T* p) const {
    const R b = static_cast<R>(row.b);
    const R c = static_cast<R>(row.c);
    const T* a = a_.value;
    for_bands(m_, [&](index_t i) {
      for (index_t j = 0; j < m_; ++j) p[i * m_ + j] = b * a[i * m_ + j] + c * p[i * m_ + j];
      p[i * m_ + i] += static_cast<R>(row.a);
    });
  }

  /// Half of each of two products with adjoint results.
  void cross(MatrixView<const T> y, MatrixView<const T> d) const {
    const MatrixView<T> out = square(a_.along);
    hermitian_cross<T>(ctx_, d, y, side_, {}, out, scratch_);
    Update<T> plus;
    plus.beta = 1;
    plus.d = view(a_.along);
    hermitian_cross<T>(ctx_, y, d, side_, plus, out, scratch_);
  }

  /// Y / s, with what has been made of Y; in a direction, less what the norm takes off it.
  double normalize(MatrixView<T> y, MatrixView<T> d, double s) {
    if (options_.normalization == Normalization::frobenius) {
      s = detail::frobenius_norm<T>(ctx_, y, partial_);
    } else if (cube_) {
      product(a_.value, a_.value, p_.value);
      s = std::sqrt(std::sqrt(detail::frobenius_norm<T>(ctx_, view(p_.value), partial_)));
      scale(square(p_.value), 1 / (s * s) / (s * s));
    }
    scale(y, 1 / s);
    scale(square(a_.value), 1 / s / s);
    scale(square(a_.along), 1 / s);
    if (cube_) product(p_.value, a_.value, cube_);
    if (adjoint_ || options_.normalization == Normalization::bound) return s;
    const double along = cube_ ? inner(view(cube_), view(a_.along)) / 2 : trace_along() / 2;
    add(-along, y, d);
    add(-2 * along, square(a_.value), square(a_.along));
    return s;
  }

  double trace_along() const {
    double sum = 0;
    for (index_t i = 0; i < m_; ++i) sum += static_cast<double>(std::real(a_.along[i * m_ + i]));
    return sum;
  }

  void touch(MatrixView<T> y, MatrixView<T> d, bool is_last) const {
    MatrixView<T> other = y;
    if (!is_last) {
      other = spare_;
      detail::map_entries<T, T>(ctx_, y, other, [](const T& v) { return v; });
    }
    multiply_by(p_.along, other);
    multiply_by(p_.value, d);
    add(1, other, d);
    if (!is_last) multiply_by(p_.value, y);
  }

  void multiply_by(const T* s, MatrixView<T> x) const {
    apply<T>(ctx_, view(s), side_, R(1), x, scratch_, for_s_);
  }

  // ---- passes over entries; all matrices are row-major without gaps

  template <class F>
  void for_bands(index_t rows, F&& row) const {
    constexpr index_t band = 32;
    ctx_.run((rows + band - 1) / band, [&](index_t b, int) {
      for (index_t i = b * band; i < std::min(rows, (b + 1) * band); ++i) row(i);
    });
  }

  void scale(MatrixView<T> x, double factor) const {
    const R f = static_cast<R>(factor);
    detail::map_entries<T, T>(ctx_, x, x, [f](const T& v) { return f * v; });
  }

  /// to <- to + factor * x.
  void add(double factor, MatrixView<const T> x, MatrixView<T> to) const {
    const R f = static_cast<R>(factor);
    for_bands(to.rows, [&](index_t i) {
      const T* from = x.data + i * x.row_stride;
      T* sum = to.data + i * to.row_stride;
      for (index_t j = 0; j < to.cols; ++j) sum[j] += f * from[j];
    });
  }

  /// Re tr(A^H B).
  double inner(MatrixView<const T> a, MatrixView<const T> b) const {
    const index_t count = a.cols * (is_complex_v<T> ? 2 : 1);
    for_bands(a.rows, [&](index_t i) {
      const auto* x = reinterpret_cast<const R*>(a.data + i * a.row_stride);
      const auto* y = reinterpret_cast<const R*>(b.data + i * b.row_stride);
      double lane[8] = {};
      for (index_t j = 0; j < count; ++j)
        lane[j % 8] += static_cast<double>(x[j]) * static_cast<double>(y[j]);
      partial_[i] = 0;
      for (double sum : lane) partial_[i] += sum;
    });
    double total = 0;
    for (index_t i = 0; i < a.rows; ++i) total += partial_[i];
    return total;
  }

  Context& ctx_;
  const NewtonSchulzOptions& options_;
  bool adjoint_;
  index_t m_;
  Side side_;
  Pair<T> a_, p_, m_pair_, w_;
  T* cube_ = nullptr;
  MatrixView<T> spare_{};
  double* partial_ = nullptr;
  Workspace for_s_, scratch_;
};

/// S: stored in, T: computed in.
template <class S, class T>
class DerivativeBatch {
 public:
  DerivativeBatch(const ArrayRef& x, const ArrayRef& direction, const ArrayRef& out,
                  const NewtonSchulzOptions& options, bool adjoint)
      : x_(x.matrices<const S>()),
        direction_(direction.matrices<const S>()),
        out_(out.matrices<S>()),
        options_(options),
        adjoint_(adjoint) {}

  Status run() {
    const auto bytes = [&](int threads) {
      const index_t rows = x_.first.rows;
      const index_t cols = x_.first.cols;
      return 2 * Workspace::bytes_for<T>(rows * cols) +
             Sweep<T>::workspace(rows, cols, options_, threads);
    };
    return detail::run_batch<S>(x_, false, 4.0 * static_cast<double>(options_.table.size()), bytes,
                                [&](Context& ctx, index_t b, double largest, Workspace workspace) {
                                  one(ctx, b, largest, detail::largest_entry<S>(direction_[b]),
                                      workspace);
                                });
  }

 private:
  void fill(Context& ctx, index_t b, S value) {
    const MatrixView<S> out = out_[b];
    detail::map_entries<S, S>(ctx, out, out, [&](const S&) { return value; });
  }

  static int exponent_of(double v) {
    int exponent = 0;
    if (v > 0) std::frexp(v, &exponent);
    return exponent;
  }

  void one(Context& ctx, index_t b, double largest, double steepest, Workspace workspace) {
    if (!std::isfinite(largest) || !std::isfinite(steepest))
      return fill(ctx, b, detail::quiet_nan<S>());
    const bool given = options_.normalization == Normalization::bound;
    if (largest == 0.0 && !given) return fill(ctx, b, S{});
    const MatrixView<const S> x = x_[b];
    const MatrixView<S> out = out_[b];
    const auto y = row_major(workspace.take<T>(x.rows * x.cols), x.rows, x.cols);
    const auto d = row_major(workspace.take<T>(x.rows * x.cols), x.rows, x.cols);
    const int scale = exponent_of(largest);
    const int other = exponent_of(steepest);
    const auto again = [&](MatrixView<T> to) { detail::scale_into<S, T>(ctx, x, -scale, to); };
    again(y);
    detail::scale_into<S, T>(ctx, direction_[b], -other, d);
    Sweep<T> sweep(ctx, x.rows, x.cols, options_, adjoint_, workspace);
    const double s = sweep.run(y, d, std::ldexp(options_.bound, -scale), again);
    // By the mantissa of s, then by all powers of two at once: nothing leaves the range between.
    int power = 0;
    const auto inverse = static_cast<real_t<T>>(1 / std::frexp(given ? options_.bound : s, &power));
    const detail::PowerOfTwo<T, T> to_scale(other - power - (given ? 0 : scale));
    detail::map_entries<T, S>(
        ctx, d, out, [&](const T& v) { return detail::round_to<S>(to_scale(inverse * v)); });
  }

  BatchView<const S> x_, direction_;
  BatchView<S> out_;
  const NewtonSchulzOptions& options_;
  bool adjoint_;
};

}  // namespace

Status newton_schulz_derivative(const ArrayRef& x, const ArrayRef& direction, const ArrayRef& out,
                                const NewtonSchulzOptions& options, bool adjoint) {
  if (batch_size(x) == 0 || detail::has_no_entries(x)) return Status::ok;
  return detail::with_stored_type(x.dtype, [&]<class S>() {
    using T = detail::compute_t<S>;
    using Wide = std::conditional_t<is_complex_v<T>, std::complex<double>, double>;
    if (options.double_precision)
      return DerivativeBatch<S, Wide>(x, direction, out, options, adjoint).run();
    return DerivativeBatch<S, T>(x, direction, out, options, adjoint).run();
  });
}

}  // namespace gramian
