// Bounds over a batch: element types, scales, and how threads share the work.
#include "gramian/bounds.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <vector>

#include "batch.hpp"
#include "blas.hpp"
#include "bracket.hpp"
#include "gram_iteration.hpp"

namespace gramian {

namespace {

using detail::put;

template <class S>
using single_precision_t =
    std::conditional_t<std::is_same_v<S, Half> || std::is_same_v<S, BFloat16>, float, S>;
template <class S>
using double_precision_t = std::conditional_t<is_complex_v<S>, std::complex<double>, double>;

/// For each matrix of the batch one(ctx, b, X, exponent, workspace), with X a copy in T,
/// 2^-exponent times the input, and bytes(threads of ctx) of workspace; or special(b, value) for a
/// matrix of zeros (0) or with entries that are not finite (NaN). `products`: as BatchPlan.
template <class S, class T, class Bytes, class Special, class One>
Status for_each_scaled(const ArrayRef& a, double products, const Bytes& bytes, bool check_finite,
                       Special&& special, One&& one) {
  const auto x = a.matrices<const S>();
  const index_t count = x.size();
  const index_t rows = x.first.rows;
  const index_t cols = x.first.cols;
  const detail::BatchPlan plan(count, rows, cols, products);
  Context ctx(plan.want, plan.gated);
  // By the threads there are: the limit may have changed since it was looked at.
  const std::size_t per_matrix =
      bytes(plan.shared ? ctx.size() : 1) + Workspace::bytes_for<T>(rows * cols);
  const WorkspaceMemory memory(per_matrix * static_cast<std::size_t>(plan.shared ? 1 : ctx.size()));
  std::vector<double> largest;
  try {
    largest.resize(static_cast<std::size_t>(count));
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
  if (!memory.ok()) return Status::out_of_memory;
  detail::largest_entries<S>(ctx, x, plan.shared, largest);
  if (check_finite)
    for (double v : largest)
      if (!std::isfinite(v)) return Status::not_finite;

  const auto matrix = [&](Context& own, index_t b, Workspace workspace) {
    const double top = largest[static_cast<std::size_t>(b)];
    if (top == 0.0) return special(b, 0.0);
    if (!std::isfinite(top)) return special(b, std::numeric_limits<double>::quiet_NaN());
    int exponent = 0;
    std::frexp(top, &exponent);
    MatrixView<const S> from = x[b];
    if (std::abs(from.row_stride) < std::abs(from.col_stride)) from = from.transposed();
    const auto to = row_major(workspace.take<T>(rows * cols), from.rows, from.cols);
    detail::scale_into<S, T>(own, from, -exponent, to);
    one(own, b, to, exponent, workspace);
  };
  if (plan.shared) {
    for (index_t b = 0; b < count; ++b) matrix(ctx, b, memory.view());
  } else {
    ctx.run(count, [&](index_t b, int slot) {
      Workspace mine = memory.view();
      mine.take<std::byte>(static_cast<index_t>(per_matrix) * slot);
      Context serial(1, false);
      matrix(serial, b, mine);
    });
  }
  return Status::ok;
}

template <class R>
void put_bracket(const Bracket& out, index_t b, const detail::Proved& proved, int exponent,
                 double rtol) {
  const detail::BracketFigures<R> figures = detail::returned<R>(proved, exponent, rtol);
  put(out.lower, b, figures.lower);
  put(out.upper, b, figures.upper);
  put(out.converged, b, figures.converged);
  put(out.estimate, b, figures.estimate);
  put(out.stable_rank, b, figures.stable_rank);
}

template <class S>
Status run_bounds(const ArrayRef& a, const BoundsOptions& options, Bracket& out) {
  using T = double_precision_t<S>;
  using R = std::conditional_t<std::is_same_v<real_t<S>, double>, double, float>;
  const index_t rows = a.shape[a.shape.size() - 2];
  const index_t cols = a.shape.back();
  // Lanczos and the factorization take about as long as this many Gram matrices.
  constexpr double products = 4;
  struct Result {
    detail::Proved proved;
    int exponent;
  };
  std::vector<Result> results;
  try {
    results.resize(static_cast<std::size_t>(batch_size(a)));
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
  const Status status = for_each_scaled<S, T>(
      a, products, [&](int) { return detail::bracket_workspace<T>(rows, cols, options.method); },
      options.check_finite,
      [&](index_t b, double value) {
        results[static_cast<std::size_t>(b)] = {{value, value, value, value, 0}, 0};
      },
      [&](Context& ctx, index_t b, MatrixView<T> x, int exponent, Workspace workspace) {
        const detail::Goal goal{options.rtol, exponent, std::is_same_v<R, float>};
        results[static_cast<std::size_t>(b)] = {
            detail::bracket<T>(ctx, x, goal, options, workspace), exponent};
      });
  if (status != Status::ok) return status;
  // Only now, as a result may lie where another matrix has its entries.
  for (index_t b = 0; b < batch_size(a); ++b) {
    const auto& [proved, exponent] = results[static_cast<std::size_t>(b)];
    put_bracket<R>(out, b, proved, exponent, options.rtol);
    out.iterations = std::max(out.iterations, proved.iterations);
  }
  return Status::ok;
}

/// Whether for_each_scaled hands out the transposes.
template <class S>
bool hands_out_transposes(const ArrayRef& a) {
  const auto first = a.matrices<const S>().first;
  return std::abs(first.row_stride) < std::abs(first.col_stride);
}

template <class S>
Status run_gram_bound(const ArrayRef& a, int steps, bool check_finite, const ArrayRef& bound,
                      const ArrayRef& gradient) {
  using T = single_precision_t<S>;
  const index_t rows = a.shape[a.shape.size() - 2];
  const index_t cols = a.shape.back();
  std::vector<double> results;
  try {
    results.resize(static_cast<std::size_t>(batch_size(a)));
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
  const bool differentiate = gradient.data != nullptr;
  const bool transposed = hands_out_transposes<S>(a);
  const auto derivative = [&](index_t b) {
    const MatrixView<S> to = gradient.matrices<S>()[b];
    return transposed ? to.transposed() : to;
  };
  const Status status = for_each_scaled<S, T>(
      a, std::clamp(steps, 1, detail::most_squarings) * (differentiate ? 2 : 1),
      [&](int threads) {
        return differentiate
                   ? detail::gram_iteration_gradient_workspace<T>(rows, cols, steps, threads)
                   : detail::gram_iteration_workspace<T>(rows, cols);
      },
      check_finite,
      [&](index_t b, double value) {
        results[static_cast<std::size_t>(b)] = value;
        if (!differentiate) return;
        // At zero the least of the subgradients.
        const MatrixView<S> to = derivative(b);
        const S fill = detail::round_to<S>(static_cast<T>(static_cast<real_t<T>>(value)));
        for (index_t i = 0; i < to.rows; ++i)
          for (index_t j = 0; j < to.cols; ++j) to(i, j) = fill;
      },
      [&](Context& ctx, index_t b, MatrixView<T> x, int exponent, Workspace workspace) {
        const double value = differentiate
                                 ? detail::gram_iteration_gradient<T>(ctx, x, steps, workspace)
                                 : detail::gram_iteration<T>(ctx, x, steps, workspace);
        results[static_cast<std::size_t>(b)] = std::ldexp(value, exponent);
        if (differentiate)
          detail::map_entries<T, S>(ctx, x, derivative(b),
                                    [](const T& v) { return detail::round_to<S>(v); });
      });
  if (status != Status::ok) return status;
  for (index_t b = 0; b < batch_size(a); ++b) put(bound, b, results[static_cast<std::size_t>(b)]);
  return Status::ok;
}

}  // namespace

Status gram_bound(const ArrayRef& a, int steps, bool check_finite, const ArrayRef& bound,
                  const ArrayRef& gradient) {
  const index_t count = batch_size(a);
  if (count == 0) return Status::ok;
  if (detail::has_no_entries(a)) {
    for (index_t b = 0; b < count; ++b) put(bound, b, 0.0);
    return Status::ok;
  }
  return detail::with_stored_type(a.dtype, [&]<class S>() {
    return run_gram_bound<S>(a, steps, check_finite, bound, gradient);
  });
}

Status spectral_norm_bounds(const ArrayRef& a, const BoundsOptions& options, Bracket& out) {
  // Also where nothing else of the library is linked that would say so.
  [[maybe_unused]] static const bool blas_is_quiet = (detail::blas_use_one_thread(), true);
  out.method = options.method == BoundsMethod::automatic ? BoundsMethod::cholesky : options.method;
  const index_t count = batch_size(a);
  if (count == 0) return Status::ok;
  if (detail::has_no_entries(a)) {
    for (index_t b = 0; b < count; ++b) put_bracket<double>(out, b, {}, 0, options.rtol);
    return Status::ok;
  }
  return detail::with_stored_type(a.dtype,
                                  [&]<class S>() { return run_bounds<S>(a, options, out); });
}

}  // namespace gramian
