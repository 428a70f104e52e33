// lower <= sigma_1(X) <= upper, proved in floating point. Names and proofs as in docs/bounds.md:
//
//   G      the Gram matrix as computed; ||G - X^H X|| <= E
//   lower  v^H G v / v^H v, rounding subtracted, is at most lambda_1(G)
//   upper  s I - G has a Cholesky factor in floating point, so lambda_1(G) <= s (1 + c); or, by
//          squaring, lambda_1(G)^2 <= ||fl(G^2)|| + its rounding, and so on
#include "bracket.hpp"

#include <algorithm>
#include <cmath>

#include "gram_iteration.hpp"
#include "lanczos.hpp"
#include "lapack.hpp"

namespace gramian::detail {

namespace {

using rounding::accumulated;
using rounding::raise;
using rounding::reduce;

template <class T>
class Bracketing {
 public:
  Bracketing(Context& ctx, MatrixView<T> x, const Goal& goal, const BoundsOptions& options,
             Workspace workspace)
      : ctx_(ctx), goal_(goal), options_(options), n_(std::min(x.rows, x.cols)) {
    g_ = workspace.take<T>(n_ * n_);
    v_ = workspace.take<T>(n_);
    w_ = workspace.take<T>(n_);
    spare_ = workspace;
    gram<T>(ctx_, x, x.rows < x.cols ? Side::left : Side::right, {}, row_major(g_, n_, n_), spare_);
    const auto g = row_major<const T>(g_, n_, n_);
    trace_ = trace<T>(g);
    error_ = accumulated<T>(static_cast<double>(product_roundings(std::max(x.rows, x.cols)) + 1)) *
             trace_;
    // What holds before anything is iterated: an entry of the diagonal, and the trace.
    double diagonal = 0;
    for (index_t i = 0; i < n_; ++i) diagonal = std::max(diagonal, std::real(g(i, i)));
    lower_ = diagonal - error_;
    estimate_ = diagonal;
    upper_ = trace_ * (1 + accumulated<double>(static_cast<double>(n_))) + error_;
  }

  Proved run(T* square) {
    square_ = square ? square : spare_.take<T>(n_ * n_);
    switch (options_.method) {
      case BoundsMethod::gram:
        by_squaring();
        break;
      case BoundsMethod::automatic:  // no shape was found on which another is faster
      case BoundsMethod::cholesky:
        if (!by_lanczos()) by_eigenvector();
        break;
      case BoundsMethod::eigh:
        by_eigenvector();
        break;
    }
    const double estimate = std::clamp(estimate_, lower_, upper_);
    return {reduce(std::sqrt(lower_)), raise(std::sqrt(upper_)), std::sqrt(estimate),
            std::max(1.0, trace_ / estimate), iterations_};
  }

 private:
  /// lower <- the Rayleigh quotient of v in G, less what rounding may have added.
  void use_vector() {
    hermitian_times_vector(ctx_, g_, n_, v_, w_);
    const double quotient = real_dot(v_, w_, n_) / real_dot(v_, v_, n_);
    if (!(quotient > estimate_)) return;
    estimate_ = quotient;
    const double rounded = accumulated<T>(static_cast<double>(3 * n_ + 8)) * trace_;
    lower_ = std::max(lower_, reduce(quotient - rounded) - error_);
  }

  /// c: success at s proves lambda_1(G) <= s (1 + c).
  double cholesky_error() const {
    const double n = static_cast<double>(n_);
    return rounding::u + accumulated<T>(n + 4) * n;
  }

  bool factorizes(double s) {
    ctx_.run((n_ + 31) / 32, [&](index_t b, int) {
      for (index_t i = 32 * b; i < std::min(n_, 32 * (b + 1)); ++i) {
        // LAPACK's lower triangle is the upper one of rows.
        for (index_t j = i; j < n_; ++j) square_[i * n_ + j] = -g_[i * n_ + j];
        square_[i * n_ + i] = s - std::real(g_[i * n_ + i]);
      }
    });
    if (!cholesky(square_, n_)) return false;
    // Pivots that are positive and finite: nothing before them was NaN or infinite.
    for (index_t i = 0; i < n_; ++i) {
      const double pivot = std::real(square_[i * n_ + i]);
      if (!(pivot > 0 && std::isfinite(pivot))) return false;
    }
    upper_ = std::min(upper_, raise(s * (1 + cholesky_error()) + error_));
    return true;
  }

  /// The s whose success would meet the goal: what factorizes() and run() do to s, undone, with
  /// some ulps more than their roundings outwards.
  double wanted() const {
    const double upper = goal_.upper(reduce(std::sqrt(lower_)));
    return (upper * upper * (1 - 64 * rounding::u) - error_) / (1 + cholesky_error());
  }

  /// How far s must be above lambda_1(G) for the factorization to run to its end, in practice.
  double least_distance() const { return 8 * static_cast<double>(n_ + 8) * rounding::u; }

  bool prove() { return factorizes(std::max(wanted(), estimate_ * (1 + least_distance()))); }

  /// Accuracy that lambda_1's estimate needs, so that s lies above lambda_1.
  double tolerance() const {
    const double slack = 2 * (goal_.rtol - (goal_.single ? 0x1p-21 : 0.0)) - 4 * cholesky_error();
    return std::clamp(slack / 4, least_distance(), 0.25);
  }

  bool by_lanczos() {
    Lanczos<T> lanczos(ctx_, g_, n_, options_.seed, spare_);
    for (const double stricter : {1.0, 0x1p-10}) {
      const bool settled = lanczos.advance(tolerance() * stricter);
      iterations_ = lanczos.steps();
      lanczos.vector(v_);
      use_vector();
      if (!settled) return false;
      if (prove()) return true;
    }
    return false;
  }

  void by_eigenvector() {
    Workspace workspace = spare_;
    double* values = workspace.take<double>(n_);
    double* reals = workspace.take<double>(24 * n_);
    T* scratch = workspace.take<T>(eigenpair_scratch(n_));
    int* integers = workspace.take<int>(eigenpair_integers(n_));
    std::copy_n(g_, n_ * n_, square_);
    if (top_eigenvector(square_, n_, values, reals, scratch, integers, v_)) use_vector();
    double distance = least_distance();
    for (; estimate_ * (1 + distance) < trace_; distance *= 8)
      if (factorizes(std::max(wanted(), estimate_ * (1 + distance)))) return;
  }

  void by_squaring() {
    Workspace workspace = spare_;
    T* h = square_;
    T* next = workspace.take<T>(n_ * n_);
    double* partial = workspace.take<double>(n_);
    std::copy_n(g_, n_ * n_, h);
    // ||H_t||^2 <= 4^e ||H_{t+1}|| + rounding ||H_t||_F^2, from the last back to the first.
    const double rounded = accumulated<T>(static_cast<double>(product_roundings(n_) + 1));
    const double summed = 1 + accumulated<double>(static_cast<double>(n_ + 8));
    double norms[most_squarings + 1];
    int exponents[most_squarings];
    double width = 1;
    for (int t = 0;; ++t) {
      const auto view = row_major<const T>(h, n_, n_);
      norms[t] = frobenius_norm<T>(ctx_, view, partial) * summed;
      // tr(H^2) / tr(H) <= lambda_1(H) <= ||H||_F tells when to stop; the proof comes after.
      const double spread = (trace<T>(view) / norms[t] - 1) * width;
      if (spread <= tolerance() || t == most_squarings) {
        double top = norms[t];
        for (int i = t; i-- > 0;)
          top = raise(
              std::sqrt(raise(std::ldexp(top, 2 * exponents[i]) + rounded * norms[i] * norms[i])));
        upper_ = std::min(upper_, raise(top + error_));
        iterations_ = t;
        best_column(h);
        use_vector();
        return;
      }
      exponents[t] = square<T>(ctx_, h, next, n_, workspace);
      width /= 2;
    }
  }

  /// v <- the column j of H with the largest (H^2)_jj / H_jj: its Rayleigh quotient is as large as
  /// what tells when to stop. That of the largest diagonal entry need not be.
  void best_column(const T* h) {
    const double least = std::ldexp(trace<T>(row_major<const T>(h, n_, n_)), -60);
    index_t best = 0;
    double most = -1;
    for (index_t j = 0; j < n_; ++j) {
      const double diagonal = std::real(h[j * n_ + j]);
      if (!(diagonal > least)) continue;
      const double ratio = real_dot(h + j * n_, h + j * n_, n_) / diagonal;
      if (ratio > most) {
        most = ratio;
        best = j;
      }
    }
    for (index_t i = 0; i < n_; ++i) v_[i] = h[i * n_ + best];
  }

  Context& ctx_;
  const Goal& goal_;
  const BoundsOptions& options_;
  index_t n_;
  T* g_;
  T* v_;
  T* w_;
  T* square_ = nullptr;
  Workspace spare_;
  double trace_;
  double error_;  // of G, in the spectral norm
  double lower_;  // of sigma_1^2, as are the next two
  double upper_;
  double estimate_;
  int iterations_ = 0;
};

template <class T>
std::size_t eigenvector_workspace(index_t n) {
  return Workspace::bytes_for<double>(n) + Workspace::bytes_for<double>(24 * n) +
         Workspace::bytes_for<T>(eigenpair_scratch(n)) +
         Workspace::bytes_for<int>(eigenpair_integers(n));
}

}  // namespace

template <class T>
std::size_t bracket_workspace(index_t rows, index_t cols, BoundsMethod method) {
  const index_t n = std::min(rows, cols);
  std::size_t road = eigenvector_workspace<T>(n);
  if (method == BoundsMethod::cholesky || method == BoundsMethod::automatic)
    road = std::max(road, Lanczos<T>::workspace(n));
  if (method == BoundsMethod::gram)
    road = Workspace::bytes_for<T>(n * n) + Workspace::bytes_for<double>(n) +
           product_workspace<T>(n, n);
  return Workspace::bytes_for<T>(n * n) + 2 * Workspace::bytes_for<T>(n) +
         std::max(product_workspace<T>(n, std::max(rows, cols)), road);
}

template <class T>
Proved bracket(Context& ctx, MatrixView<T> x, const Goal& goal, const BoundsOptions& options,
               Workspace workspace) {
  Bracketing<T> bracketing(ctx, x, goal, options, workspace);
  return bracketing.run(x.data);  // X, at least n x n, is no longer needed
}

#define GRAMIAN_DEFINE_BRACKET(T)                                            \
  template std::size_t bracket_workspace<T>(index_t, index_t, BoundsMethod); \
  template Proved bracket<T>(Context&, MatrixView<T>, const Goal&, const BoundsOptions&, Workspace);

GRAMIAN_DEFINE_BRACKET(double)
GRAMIAN_DEFINE_BRACKET(std::complex<double>)

}  // namespace gramian::detail
