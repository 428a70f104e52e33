// polar and matrix_sign over a batch: element types, layouts, overlap, threads, the Hermitian
// factor.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <new>

#include "batch.hpp"
#include "polar_batch.hpp"
#include "polar_matrix.hpp"

namespace gramian {

namespace {

using namespace detail;

/// S: stored in, T: computed in.
template <class S, class T>
class Polar {
 public:
  Polar(const ArrayRef& x, const ArrayRef& u, const ArrayRef& p, Side side, bool hermitian,
        const PolarOptions& options, std::vector<PolarReport>& reports)
      : x_(x.matrices<const S>()),
        u_(u.matrices<S>()),
        side_(side),
        options_(options),
        reports_(reports) {
    if (p.data) p_ = p.matrices<S>();
    rows_ = x_.first.rows;
    cols_ = x_.first.cols;
    wide_ = rows_ < cols_;
    n_ = std::max(rows_, cols_);
    m_ = std::min(rows_, cols_);
    // W^H Y of the tall Y for the short side, Y W^H for the long one.
    order_ = p.data ? (side == Side::right ? cols_ : rows_) : 0;
    short_ = (side == Side::right) != wide_;
    const double standard = polar_tolerance(x.dtype, rows_, cols_);
    goal_ = {options.tolerance > 0 ? options.tolerance : standard, options.tolerance > standard,
             unit_roundoff<real_t<T>>, hermitian, options.always_svd};
  }

  Status run() {
    return run_batch<S>(
        x_, options_.check_finite, 8, [&](int threads) { return matrix_bytes(threads); },
        [&](Context& ctx, index_t b, double largest, Workspace workspace) {
          one(ctx, b, largest, workspace);
        });
  }

 private:
  std::size_t matrix_bytes(int threads) const {
    return PolarMatrix<T>(n_, m_, threads).workspace() + Workspace::bytes_for<T>(order_ * order_);
  }

  void one(Context& ctx, index_t b, double largest, Workspace workspace) {
    PolarReport& report = reports_[static_cast<std::size_t>(b)];
    if (largest == 0.0) {
      fill(ctx, b, S{});
      return;
    }
    if (!std::isfinite(largest)) {
      report.residual = std::numeric_limits<double>::quiet_NaN();
      fill(ctx, b, quiet_nan<S>());
      return;
    }
    int exponent = 0;
    std::frexp(largest, &exponent);
    T* square = workspace.take<T>(order_ * order_);
    PolarMatrix<T> matrix(n_, m_, ctx.size());
    matrix.place(workspace);
    MatrixView<const S> x = x_[b];
    MatrixView<S> u = u_[b];
    if (wide_) {
      x = x.transposed();
      u = u.transposed();
    }
    const auto load = [&] {
      const MatrixView<T> to = matrix.input();
      scale_into<S, T>(ctx, x, -exponent, to);
      if (goal_.hermitian) make_hermitian<T>(to);
    };
    load();
    const MatrixView<T> w = matrix.factor(ctx, goal_, load, report);
    if (order_ > 0 && !hermitian_in_place(ctx, w, x, exponent, p_[b], matrix.scratch())) {
      load();
      const MatrixView<T> h = row_major(square, order_, order_);
      hermitian_cross<T>(ctx, w, matrix.input_view(), short_ ? Side::right : Side::left, {}, h,
                         matrix.scratch());
      store_hermitian(ctx, h, exponent, p_[b]);
    }
    map_entries<T, S>(ctx, w, u, [](const T& v) { return round_to<S>(v); });
    if constexpr (!std::is_same_v<S, T>) {  // of the result as returned
      const MatrixView<T> rounded = matrix.input();
      scale_into<S, T>(ctx, u, 0, rounded);
      report.residual = matrix.measure(ctx, rounded, report.rank);
    }
  }

  /// P from the matrix as it was given, straight to where it is wanted: without the scale, which
  /// changes no bit unless entries under- or overflow. False where that is not possible.
  bool hermitian_in_place(Context& ctx, MatrixView<T> w, MatrixView<const S> x, int exponent,
                          MatrixView<S> p, Workspace scratch) const {
    if constexpr (std::is_same_v<S, T>) {
      constexpr int most = std::numeric_limits<real_t<T>>::max_exponent / 4;
      const bool turned = wide_ && is_complex_v<T>;  // the conjugate is wanted
      if (goal_.hermitian || turned || std::abs(exponent) > most || p.col_stride != 1 ||
          p.row_stride < order_)
        return false;
      hermitian_cross<T>(ctx, w, x, short_ ? Side::right : Side::left, {}, p, scratch);
      return true;
    } else {
      (void)ctx, (void)w, (void)x, (void)exponent, (void)p, (void)scratch;
      return false;
    }
  }

  /// P of the transposed problem is P^T, the conjugate.
  void store_hermitian(Context& ctx, MatrixView<T> h, int exponent, MatrixView<S> p) const {
    const PowerOfTwo<T, T> power(exponent);
    const bool conjugated = wide_;
    map_entries<T, S>(ctx, h, p, [=](const T& v) {
      const T scaled = power(v);
      return round_to<S>(conjugated ? conjugate(scaled) : scaled);
    });
  }

  void fill(Context& ctx, index_t b, S value) {
    const auto put_value = [&](MatrixView<S> to) {
      map_entries<S, S>(ctx, to, to, [&](const S&) { return value; });
    };
    put_value(u_[b]);
    if (order_ > 0) put_value(p_[b]);
  }

  BatchView<const S> x_;
  BatchView<S> u_;
  BatchView<S> p_;
  Side side_;
  const PolarOptions& options_;
  std::vector<PolarReport>& reports_;
  PolarGoal goal_;
  index_t rows_, cols_, n_, m_, order_;
  bool wide_, short_;
};

Status run(const ArrayRef& x, const ArrayRef& u, const ArrayRef& p, Side side, bool hermitian,
           const PolarOptions& options, std::vector<PolarReport>& reports) {
  try {
    reports.assign(static_cast<std::size_t>(batch_size(x)), {});
    if (reports.empty()) return Status::ok;
    if (has_no_entries(x)) {
      if (p.data)
        with_stored_type(p.dtype, [&]<class S>() {
          Context serial(1, false);
          const auto all = p.matrices<S>();
          for (index_t b = 0; b < all.size(); ++b)
            map_entries<S, S>(serial, all[b], all[b], [](const S&) { return S{}; });
        });
      return Status::ok;
    }
    return with_separate_input(x, {u, p}, [&](const ArrayRef& in) {
      return with_stored_type(in.dtype, [&]<class S>() {
        return Polar<S, compute_t<S>>(in, u, p, side, hermitian, options, reports).run();
      });
    });
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
}

}  // namespace

Status polar(const ArrayRef& x, const ArrayRef& u, const ArrayRef& p, Side side,
             const PolarOptions& options, std::vector<PolarReport>& reports) {
  return run(x, u, p, side, false, options, reports);
}

Status matrix_sign(const ArrayRef& a, const ArrayRef& out, const PolarOptions& options,
                   std::vector<PolarReport>& reports) {
  return run(a, out, {}, Side::right, true, options, reports);
}

}  // namespace gramian
