// Inverse roots by the coupled iteration: which rows, and whether this arithmetic is enough.
#include "general_products.hpp"
#include "inverse_root_iteration.hpp"
#include "inverse_root_matrix.hpp"
#include "newton_schulz_matrix.hpp"
#include "small_products.hpp"

namespace gramian::detail {

namespace {

// The error is a small multiple of sqrt(n) u kappa; beyond this more precision is asked for.
constexpr double accepted_error = 1.0 / 32;

// Without a ridge nothing is known of the smallest eigenvalue of a small matrix, and an estimate
// costs as much as the steps that it might save.
constexpr double assumed_lower = 0x1p-10;

template <class T>
constexpr bool fits_small(index_t n) {
  if constexpr (is_complex_v<T>)
    return n < 0;
  else
    return is_small<T>(n, n);
}

/// The iteration has no way to correct a result that is not symmetric, so it is mirrored whatever
/// its size.
template <class R>
struct MirroredProducts : SmallProducts<R> {
  using Base = SmallProducts<R>;

  void product(R* s, R* z, R* out, double alpha, double beta = 0, R* d = nullptr,
               double gamma = 0) const {
    const index_t padded = Base::mp;
    Base::tiles(s, false, z, Base::m, padded, true, out, static_cast<R>(alpha),
                static_cast<R>(beta), d);
    const auto view = row_major(out, padded, padded);
    for (index_t block = 0; block * mirror_block < padded; ++block)
      mirror_block_row(view, block, R(0));
    if (gamma != 0)
      for (index_t i = 0; i < Base::m; ++i) out[i * padded + i] += static_cast<R>(gamma);
  }
};

}  // namespace

template <class T>
struct IteratedRoot<T>::Buffers {
  T *a, *m, *t, *x, *spare;
  double* partial;
  Workspace rest;

  Buffers(const IteratedRoot& of, Workspace workspace) {
    for (T** p : {&a, &m, &t, &x, &spare}) *p = workspace.take<T>(of.entries_);
    partial = workspace.take<double>(of.ld_);
    rest = workspace;
  }
};

template <class T>
IteratedRoot<T>::IteratedRoot(index_t n, int threads)
    : n_(n),
      threads_(threads),
      small_(fits_small<T>(n)),
      ld_(small_ ? round_up(n, tile_kernels<real_t<T>>().vector) : n),
      entries_(ld_ * ld_) {}

template <class T>
std::size_t IteratedRoot<T>::workspace() const {
  return 5 * Workspace::bytes_for<T>(entries_) + Workspace::bytes_for<double>(ld_) +
         std::max({small_ ? 0 : product_workspace<T>(n_, n_), SpectrumEnds<T>::workspace(n_),
                   inverse_workspace<T>(n_, threads_)});
}

template <class T>
MatrixView<T> IteratedRoot<T>::input(Workspace workspace) const {
  return {Buffers(*this, workspace).a, n_, n_, ld_, 1};
}

template <class T>
template <class Products>
bool IteratedRoot<T>::iterate(Context& ctx, const Products& products, const RootTask& task,
                              Buffers& buffers, RootFigures& figures) {
  using R = real_t<T>;
  const double u = unit_roundoff<R>;
  const double n = static_cast<double>(n_);
  const int p = static_cast<int>(task.p);
  const double most_condition = accepted_error / (u * std::sqrt(n));
  auto& [a, m, t, x, spare, partial, rest] = buffers;
  const MatrixView<T> view{a, n_, n_, ld_, 1};

  // Steps by way of an inverse, but where all stays in cache and LAPACK is slow.
  const bool rational = !small_;
  double top = 0;
  double lower = assumed_lower;
  // For float32 an error of 1e-6 in lambda_1 is below that of the result, for any ridge.
  const double close = task.stored_roundoff > 0x1p-30 ? 0x1p-20 : 2 * u;
  // Whether figures are wanted decides nothing here: the result has the same bits with them.
  if (task.ridge > 0 || !small_) {
    SpectrumEnds<T> ends(ctx, view, rest);
    const bool accurate = task.ridge > 0;
    ends.advance(accurate ? close : 1.0 / 64, accurate && small_ ? 8 : 24);
    figures.largest = ends.largest();
    const R shift = static_cast<R>(task.ridge * figures.largest);
    for (index_t i = 0; i < n_; ++i) view(i, i) += shift;
    const double shifted = static_cast<double>(shift);
    // Ritz values lie within the spectrum, so that this is no lower bound, only likely one.
    const double smallest = ends.smallest() + shifted;
    top = (figures.largest + shifted) * (1 + (accurate ? 0x1p-10 : 1.0 / 32));
    if (!(figures.largest > 0) || !(smallest > 0) || top / smallest > most_condition) return false;
    // Ritz values find a small eigenvalue late; a Cholesky factor of what it would make indefinite
    // costs less than an iteration in vain.
    if (!small_ && shifted * most_condition < top) {
      std::copy_n(a, entries_, t);
      for (index_t i = 0; i < n_; ++i) t[i * ld_ + i] -= static_cast<R>(top / most_condition);
      if (!cholesky_factor(t, static_cast<int>(n_), static_cast<int>(ld_))) return false;
    }
    const double likely = std::clamp(smallest / (4 * top), 0.5 / most_condition, 0.25);
    const double sure = std::clamp(shifted / top * (1 - 0x1p-6), 0.5 / most_condition, 0.25);
    // A few rows more cost less than to start over with what was overlooked.
    const auto rows = [&](double least) {
      return (rational ? inverse_root_rational_rows(p, least) : inverse_root_rows(p, least)).size();
    };
    lower = p == 1 || rows(sure) <= rows(likely) + (rational ? 1 : 2) ? sure : likely;
  }

  std::copy_n(a, entries_, m);
  InverseRootIteration<Products> iteration(ctx, products, n_, ld_, entries_, partial, rest,
                                           rational);
  // A result that is rounded to less in the end needs no more than a fraction of that.
  const double rounding = std::max(u, task.stored_roundoff / 16) / 2;
  const double tol = std::sqrt(n) * (task.tol > 0 ? task.tol / 2 : rounding);
  constexpr int most_steps = 64;
  const IterationResult result =
      p == 1 ? inverse_itself(buffers, top)
             : iteration.run(m, t, x, spare, p, top, lower, tol, most_steps);
  figures.steps = result.steps;
  if (!result.converged) return false;

  if (result.top / result.floor > most_condition) {
    SpectrumEnds<T> ends(ctx, iteration.view(x), rest);
    ends.advance(1.0 / 64, 8);
    if (!(result.top * std::pow(ends.largest(), p) <= most_condition)) return false;
  }
  if (task.wants_figures) {
    // Ritz values lie within the spectrum: either estimate of the condition number is from below.
    SpectrumEnds<T> ends(ctx, iteration.view(a), rest);
    ends.advance(close, 24);
    const double largest = ends.largest();
    const double smallest = ends.smallest();
    if (!(task.ridge > 0)) figures.largest = largest;
    SpectrumEnds<T> ends_of_inverse(ctx, iteration.view(x), rest);
    ends_of_inverse.advance(1 / (64.0 * p), 32);
    const double by_inverse = largest * std::pow(ends_of_inverse.largest(), p);
    figures.condition = std::max(
        {1.0, by_inverse, smallest > 0 ? std::min(largest / smallest, 2 * by_inverse) : 0});
  }
  inverse_ = iteration.view(x);
  if (task.square_root) {
    products.product(a, x, m, 1.0);
    root_ = iteration.view(m);
  }
  if (task.wants_figures || task.tol > 0) figures.residual = iteration.residual(a, x, t, spare, p);
  return !(task.tol > 0 && !(figures.residual <= task.tol));
}

template <class T>
IterationResult IteratedRoot<T>::inverse_itself(Buffers& buffers, double top) const {
  IterationResult result;
  result.steps = 1;
  Context serial(1, false);
  const MatrixView<const T> a{buffers.a, n_, n_, ld_, 1};
  const MatrixView<const T> x{buffers.x, n_, n_, ld_, 1};
  std::copy_n(buffers.a, entries_, buffers.x);
  // Not by halves: I - A X would grow with the square of kappa, as the error of X is none that
  // comes of an error in a factor.
  if (!inverse_whole(buffers.x, n_, ld_)) return result;
  result.top = top > 0 ? top : frobenius_norm<T>(serial, a, buffers.partial);
  result.floor = 1 / frobenius_norm<T>(serial, x, buffers.partial);
  result.converged = result.floor > 0 && std::isfinite(result.floor);
  return result;
}

template <class T>
bool IteratedRoot<T>::run(Context& ctx, const RootTask& task, Workspace workspace,
                          RootFigures& figures) {
  if (task.p > largest_iterated_root) return false;
  Buffers buffers(*this, workspace);
  if constexpr (!is_complex_v<T>) {
    if (small_) {
      for (index_t i = 0; i < ld_; ++i)
        std::fill(buffers.a + i * ld_ + (i < n_ ? n_ : 0), buffers.a + (i + 1) * ld_, T(0));
      const MirroredProducts<T> products{
          {tile_kernels<T>(), n_, ld_, n_, ld_, nullptr, nullptr, buffers.partial}};
      return iterate(ctx, products, task, buffers, figures);
    }
  }
  const GeneralProducts<T> products{ctx,          {},      Side::right, n_, buffers.partial,
                                    buffers.rest, nullptr, {}};
  return iterate(ctx, products, task, buffers, figures);
}

template class IteratedRoot<float>;
template class IteratedRoot<double>;
template class IteratedRoot<std::complex<float>>;
template class IteratedRoot<std::complex<double>>;

}  // namespace gramian::detail
