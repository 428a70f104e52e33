// newton_schulz over a batch: element types, layouts, overlap, and how threads share the work.
#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "batch.hpp"
#include "newton_schulz_matrix.hpp"

namespace gramian {

namespace {

using detail::put;
using detail::quiet_nan;

/// S: stored in, T: computed in.
template <class S, class T>
class Batch {
 public:
  Batch(const ArrayRef& x, const ArrayRef& out, const NewtonSchulzOptions& options,
        const NewtonSchulzInfo& info)
      : x_(x.matrices<const S>()), out_(out.matrices<S>()), options_(options), info_(info) {
    // polar(X^T) = polar(X)^T: a column-major result is computed as the row-major one of X^T.
    if (out_.first.col_stride != 1 && out_.first.row_stride == 1) {
      x_.first = x_.first.transposed();
      out_.first = out_.first.transposed();
    }
    in_place_ = std::is_same_v<S, T> && out_.first.col_stride == 1;
  }

  Status run() {
    const index_t rows = x_.first.rows;
    const index_t cols = x_.first.cols;
    const index_t count = x_.size();
    const detail::BatchPlan plan(count, rows, cols, static_cast<double>(options_.table.size()));
    const bool shared = plan.shared;
    Context ctx(plan.want, plan.gated);

    const int threads_per_matrix = shared ? ctx.size() : 1;
    const std::size_t per_matrix = workspace(rows, cols, threads_per_matrix);
    const int slots = shared ? 1 : ctx.size();
    const WorkspaceMemory memory(per_matrix * static_cast<std::size_t>(slots));
    if (!memory.ok()) return Status::out_of_memory;

    std::vector<double> largest;
    try {
      largest.resize(static_cast<std::size_t>(count));
    } catch (const std::bad_alloc&) {
      return Status::out_of_memory;
    }
    detail::largest_entries<S>(ctx, x_, shared, largest);
    if (options_.check_finite)
      for (double v : largest)
        if (!std::isfinite(v)) return Status::not_finite;

    if (shared) {
      for (index_t b = 0; b < count; ++b)
        one(ctx, b, largest[static_cast<std::size_t>(b)], memory.view());
    } else {
      ctx.run(count, [&](index_t b, int slot) {
        Workspace mine = memory.view();
        mine.take<std::byte>(static_cast<index_t>(per_matrix) * slot);
        Context serial(1, false);
        one(serial, b, largest[static_cast<std::size_t>(b)], mine);
      });
    }
    return Status::ok;
  }

 private:
  void fill(Context& ctx, index_t b, S value, double residual, double bound) {
    const MatrixView<S> out = out_[b];
    detail::map_entries<S, S>(ctx, out, out, [&](const S&) { return value; });
    put(info_.residual, b, residual);
    put(info_.norm_bound, b, bound);
  }

  static bool is_small(index_t rows, index_t cols) {
    if constexpr (is_complex_v<T>)
      return false;
    else
      return detail::is_small<T>(rows, cols);
  }

  std::size_t workspace(index_t rows, index_t cols, int threads) const {
    if constexpr (!is_complex_v<T>)
      if (is_small(rows, cols)) return detail::SmallMatrix<T>(rows, cols, options_).workspace();
    return (in_place_ ? 0 : Workspace::bytes_for<T>(rows * cols)) +
           detail::matrix_workspace<T>(rows, cols, options_, threads);
  }

  void one(Context& ctx, index_t b, double largest, Workspace workspace) {
    if (largest == 0.0) return fill(ctx, b, S{}, 1.0, 0.0);
    if (!std::isfinite(largest)) {
      const double nan = std::numeric_limits<double>::quiet_NaN();
      return fill(ctx, b, quiet_nan<S>(), nan, nan);
    }
    int exponent = 0;
    std::frexp(largest, &exponent);
    const double s = is_small(x_.first.rows, x_.first.cols) ? small(ctx, b, exponent, workspace)
                                                            : large(ctx, b, exponent, workspace);
    put(info_.norm_bound, b, std::ldexp(s, exponent));
  }

  double small(Context& ctx, index_t b, int exponent, Workspace workspace) {
    if constexpr (is_complex_v<T>) {
      return large(ctx, b, exponent, workspace);
    } else {
      MatrixView<const S> x = x_[b];
      MatrixView<S> out = out_[b];
      const detail::SmallMatrix<T> matrix(x.rows, x.cols, options_);
      if (x.rows < x.cols) {
        x = x.transposed();
        out = out.transposed();
      }
      detail::scale_into<S, T>(ctx, x, -exponent, matrix.input(workspace));
      double s = 0;
      const MatrixView<T> result = matrix.iterate(exponent, workspace, s);
      store(ctx, result, out);
      if (info_.residual.data) {
        if constexpr (!std::is_same_v<S, T>) detail::scale_into<S, T>(ctx, out, 0, result);
        put(info_.residual, b, matrix.residual(result, workspace));
      }
      return s;
    }
  }

  double large(Context& ctx, index_t b, int exponent, Workspace workspace) {
    const MatrixView<S> out = out_[b];
    MatrixView<T> work{};
    if constexpr (std::is_same_v<S, T>) work = out;
    if (!in_place_) work = row_major(workspace.take<T>(out.rows * out.cols), out.rows, out.cols);
    detail::scale_into<S, T>(ctx, x_[b], -exponent, work);
    const double s = detail::iterate<T>(ctx, work, exponent, options_, workspace);
    if (!in_place_) store(ctx, work, out);
    if (info_.residual.data) {
      if constexpr (!std::is_same_v<S, T>) detail::scale_into<S, T>(ctx, out, 0, work);
      put(info_.residual, b, detail::orthogonality_residual<T>(ctx, work, workspace));
    }
    return s;
  }

  /// The residual is of the result as returned, so after this rounding.
  static void store(Context& ctx, MatrixView<T> from, MatrixView<S> out) {
    detail::map_entries<T, S>(ctx, from, out, [](const T& v) { return detail::round_to<S>(v); });
  }

  BatchView<const S> x_;
  BatchView<S> out_;
  const NewtonSchulzOptions& options_;
  const NewtonSchulzInfo& info_;
  bool in_place_ = false;
};

/// Entries written before they are read would corrupt the input. The same entries in the same
/// places are safe: a matrix is read whole before its result is written.
bool must_copy(const ArrayRef& x, const ArrayRef& out) {
  return overlaps(x, out) && !same_entries(x, out);
}

template <class S, class T>
Status run(const ArrayRef& x, const ArrayRef& out, const NewtonSchulzOptions& options,
           const NewtonSchulzInfo& info) {
  if (!must_copy(x, out)) return Batch<S, T>(x, out, options, info).run();
  ArrayRef copy = x;
  index_t size = 1;
  for (std::size_t d = x.shape.size(); d-- > 0; size *= x.shape[d]) copy.strides[d] = size;
  const WorkspaceMemory memory(static_cast<std::size_t>(size) * sizeof(S));
  if (!memory.ok()) return Status::out_of_memory;
  copy.data = memory.view().take<S>(size);
  Context serial(1, false);
  const auto from = x.matrices<const S>();
  const auto to = copy.matrices<S>();
  for (index_t b = 0; b < from.size(); ++b)
    detail::map_entries<S, S>(serial, from[b], to[b], [](const S& v) { return v; });
  return Batch<S, T>(copy, out, options, info).run();
}

}  // namespace

Status newton_schulz(const ArrayRef& x, const ArrayRef& out, const NewtonSchulzOptions& options,
                     const NewtonSchulzInfo& info) {
  const index_t batch = batch_size(x);
  if (batch == 0) return Status::ok;
  if (detail::has_no_entries(x)) {
    for (index_t b = 0; b < batch; ++b) {
      put(info.residual, b, 0.0);
      put(info.norm_bound, b, 0.0);
    }
    return Status::ok;
  }
  const bool wide = options.double_precision;
  switch (x.dtype) {
    case DType::float16:
      return wide ? run<Half, double>(x, out, options, info)
                  : run<Half, float>(x, out, options, info);
    case DType::bfloat16:
      return wide ? run<BFloat16, double>(x, out, options, info)
                  : run<BFloat16, float>(x, out, options, info);
    case DType::float32:
      return wide ? run<float, double>(x, out, options, info)
                  : run<float, float>(x, out, options, info);
    case DType::float64:
      return wide ? run<double, double>(x, out, options, info)
                  : run<double, float>(x, out, options, info);
    case DType::complex64:
      return wide ? run<std::complex<float>, std::complex<double>>(x, out, options, info)
                  : run<std::complex<float>, std::complex<float>>(x, out, options, info);
    case DType::complex128:
      return wide ? run<std::complex<double>, std::complex<double>>(x, out, options, info)
                  : run<std::complex<double>, std::complex<float>>(x, out, options, info);
  }
  return Status::ok;
}

}  // namespace gramian
