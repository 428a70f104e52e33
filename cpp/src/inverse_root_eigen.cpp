// Inverse roots by eigenvectors in float64: ill-conditioned matrices, large p, and whatever the
// iteration left.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "general_products.hpp"
#include "inverse_root_iteration.hpp"
#include "inverse_root_matrix.hpp"
#include "small_lapack.hpp"

namespace gramian::detail {

template <class D>
struct EigenRoot<D>::Buffers {
  D *a, *vectors, *scaled, *inverse, *root;
  double *values, *weights, *partial;
  Workspace rest;

  Buffers(index_t n, Workspace workspace) {
    for (D** p : {&a, &vectors, &scaled, &inverse, &root}) *p = workspace.take<D>(n * n);
    for (double** p : {&values, &weights, &partial}) *p = workspace.take<double>(n);
    rest = workspace;
  }
};

namespace {

/// Sizes that LAPACK documents for all eigenvectors by divide and conquer.
struct EigenSizes {
  index_t work, reals, integers;

  template <class D>
  static EigenSizes of(index_t n) {
    if constexpr (is_complex_v<D>)
      return {2 * n + n * n, 1 + 5 * n + 2 * n * n, 3 + 5 * n};
    else
      return {1 + 6 * n + 2 * n * n, 0, 3 + 5 * n};
  }
};

/// values ascending; row i of a is the i-th eigenvector's conjugate.
template <class D>
bool eigenvectors(D* a, index_t order, double* values, Workspace workspace) {
  const int n = static_cast<int>(order);
  const auto sizes = EigenSizes::of<D>(order);
  const auto [work_size, real_size, integer_size] =
      std::array<int, 3>{static_cast<int>(sizes.work), static_cast<int>(sizes.reals),
                         static_cast<int>(sizes.integers)};
  D* work = workspace.take<D>(sizes.work);
  [[maybe_unused]] double* reals = workspace.take<double>(sizes.reals);
  int* integers = workspace.take<int>(sizes.integers);
  int info = 0;
  if constexpr (is_complex_v<D>)
    GRAMIAN_LAPACK(zheevd)("V", "L", &n, a, &n, values, work, &work_size, reals, &real_size,
                           integers, &integer_size, &info, 1, 1);
  else
    GRAMIAN_LAPACK(dsyevd)("V", "L", &n, a, &n, values, work, &work_size, integers, &integer_size,
                           &info, 1, 1);
  return info == 0;
}

template <class D>
std::size_t rest_workspace(index_t n) {
  const auto sizes = EigenSizes::of<D>(n);
  return std::max(Workspace::bytes_for<D>(sizes.work) + Workspace::bytes_for<double>(sizes.reals) +
                      Workspace::bytes_for<int>(sizes.integers),
                  product_workspace<D>(n, n));
}

}  // namespace

template <class D>
std::size_t EigenRoot<D>::workspace() const {
  return 5 * Workspace::bytes_for<D>(n_ * n_) + 3 * Workspace::bytes_for<double>(n_) +
         rest_workspace<D>(n_);
}

template <class D>
MatrixView<D> EigenRoot<D>::input(Workspace workspace) const {
  return row_major(Buffers(n_, workspace).a, n_, n_);
}

template <class D>
void EigenRoot<D>::run(Context& ctx, const RootTask& task, Workspace workspace,
                       RootFigures& figures) {
  const double n = static_cast<double>(n_);
  const double p = static_cast<double>(task.p);
  Buffers buffers(n_, workspace);
  auto& [a, vectors, scaled, inverse, root, values, weights, partial, rest] = buffers;
  figures.steps = 0;
  figures.failure = RootFailure::none;
  figures.condition = figures.residual = std::numeric_limits<double>::infinity();
  std::copy_n(a, n_ * n_, vectors);
  inverse_ = row_major<const D>(inverse, n_, n_);
  root_ = row_major<const D>(root, n_, n_);
  if (!eigenvectors(vectors, n_, values, rest)) {
    std::fill_n(inverse, n_ * n_, D{});
    std::fill_n(root, n_ * n_, D{});
    figures.failure = RootFailure::eigenvalues;
    return;
  }

  const double largest = values[n_ - 1];
  const double magnitude = std::max(std::abs(largest), std::abs(values[0]));
  figures.largest = largest;
  figures.eigenvalue = magnitude > 0 ? values[0] / magnitude : 0.0;
  const double shift = task.ridge * std::max(largest, 0.0);
  const double cutoff = n * unit_roundoff<double> * (magnitude + shift);
  // What rounding of the input may have put below zero counts as zero; the ridge may lift the rest.
  if (values[0] < 0 && values[0] >= -n * task.stored_roundoff * magnitude)
    for (index_t i = 0; i < n_; ++i) values[i] = std::max(values[i], 0.0);
  const bool negative = values[0] < 0;
  for (index_t i = 0; i < n_; ++i) values[i] += shift;
  if (!(values[0] > cutoff))
    figures.failure = negative ? RootFailure::negative : RootFailure::singular;
  if (figures.failure == RootFailure::none) figures.condition = values[n_ - 1] / values[0];

  // to <- V f(Lambda) V^H for f(lambda) = lambda^power, zero where lambda <= zero.
  const auto function = [&](double power, double zero, D* to) {
    for (index_t i = 0; i < n_; ++i)
      weights[i] = values[i] > zero ? std::pow(values[i], power / 2) : 0.0;
    ctx.run((n_ + 31) / 32, [&](index_t band, int) {  // half of the power from either side
      for (index_t i = 32 * band; i < std::min(n_, 32 * (band + 1)); ++i)
        for (index_t j = 0; j < n_; ++j) scaled[i * n_ + j] = vectors[i * n_ + j] * weights[i];
    });
    gram<D>(ctx, row_major<const D>(scaled, n_, n_), Side::right, {}, row_major(to, n_, n_), rest);
  };
  function(-1 / p, cutoff, inverse);
  if (task.square_root) function(0.5, 0, root);
  if (!task.wants_figures && !(task.tol > 0) && figures.failure == RootFailure::none) return;

  for (index_t i = 0; i < n_; ++i) a[i * n_ + i] += shift;
  const GeneralProducts<D> products{ctx, {}, Side::right, n_, partial, rest, nullptr, {}};
  const InverseRootIteration<GeneralProducts<D>> iteration(ctx, products, n_, n_, n_ * n_, partial,
                                                           rest);
  figures.residual = iteration.residual(a, inverse, scaled, vectors, static_cast<int>(task.p));
  if (figures.failure == RootFailure::none && task.tol > 0 && !(figures.residual <= task.tol))
    figures.failure = RootFailure::tolerance;
}

template class EigenRoot<double>;
template class EigenRoot<std::complex<double>>;

}  // namespace gramian::detail
