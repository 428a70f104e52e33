// One matrix: the two forms of the iteration on the symmetric core (newton_schulz.hpp has the
// formulas). The batch and the element types are newton_schulz_batch.cpp's.
#include "newton_schulz_matrix.hpp"

#include <cmath>

#include "elementwise.hpp"

namespace gramian::detail {

namespace {

/// The working set of one matrix: X and m x m matrices, all row-major.
template <class T>
struct Iteration {
  using R = real_t<T>;

  Context& ctx;
  const NewtonSchulzOptions& options;
  MatrixView<T> x;
  Side side;  // left: X is wide and G = X X^H
  index_t m;
  double* partial;
  Workspace scratch;

  MatrixView<const T> constant(T* p) const { return row_major<const T>(p, m, m); }
  MatrixView<T> matrix(T* p) const { return row_major(p, m, m); }

  void gram_into(T* g) const { gram<T>(ctx, x, side, {}, matrix(g), scratch); }

  /// out <- alpha S Z + beta D + gamma I.
  void product(T* s, T* z, T* out, double alpha, double beta = 0, T* d = nullptr,
               double gamma = 0) const {
    Update<T> update;
    update.alpha = static_cast<R>(alpha);
    update.beta = static_cast<R>(beta);
    if (d) update.d = constant(d);
    update.gamma = static_cast<R>(gamma);
    hermitian_product<T>(ctx, constant(s), constant(z), update, matrix(out), scratch);
  }

  void apply_to_x(T* s, double alpha) const {
    apply<T>(ctx, constant(s), side, static_cast<R>(alpha), x, scratch);
  }

  /// First step's polynomial a I + (b/s^2) G + (c/s^4) G^2 into p, and the norm s, which for
  /// the Schatten norm comes from G^2 itself. G must hold the Gram matrix of the unscaled X.
  double first_polynomial(T* g, T* p, int exponent) const {
    const Row row = options.table[0];
    double s = 0;
    switch (options.normalization) {
      case Normalization::schatten: {
        product(g, g, p, 1.0);
        s = std::sqrt(std::sqrt(frobenius_norm<T>(ctx, constant(p), partial)));
        const R b = static_cast<R>(row.b / (s * s));
        const R c = static_cast<R>(row.c / (s * s) / (s * s));
        const R a = static_cast<R>(row.a);
        ctx.run((m + 31) / 32, [&](index_t band, int) {
          for (index_t i = 32 * band; i < std::min(m, 32 * band + 32); ++i) {
            for (index_t j = 0; j < m; ++j) p[i * m + j] = b * g[i * m + j] + c * p[i * m + j];
            p[i * m + i] += a;
          }
        });
        return s;
      }
      case Normalization::frobenius:
        s = frobenius_norm<T>(ctx, x, partial);
        break;
      case Normalization::bound:
        s = std::ldexp(options.bound, -exponent);
        break;
    }
    product(g, g, p, row.c / (s * s) / (s * s), row.b / (s * s), g, row.a);
    return s;
  }

  void polynomial(T* g, T* p, std::size_t step) const {
    const Row row = options.table[step];
    product(g, g, p, row.c, row.b, g, row.a);
  }

  double standard(T* g, T* p, int exponent) const {
    gram_into(g);
    const double s = first_polynomial(g, p, exponent);
    apply_to_x(p, 1 / s);
    for (std::size_t t = 1; t < options.table.size(); ++t) {
      gram_into(g);
      polynomial(g, p, t);
      apply_to_x(p, 1.0);
    }
    return s;
  }

  double gram_form(T* g, T* p, T* q, T* spare, int exponent) const {
    const auto steps = options.table.size();
    const auto& restarts = options.plan.restarts;
    const auto restart_at = [&](std::size_t t) {
      return std::find(restarts.begin(), restarts.end(), static_cast<int>(t)) != restarts.end();
    };
    gram_into(g);
    double s = 0;
    double x_scale = 1;      // X <- x_scale Q X at the end of the segment
    bool q_is_one = true;
    for (std::size_t t = 0; t < steps; ++t) {
      if (t > 0 && restart_at(t)) {
        apply_to_x(q, x_scale);
        x_scale = 1;
        gram_into(g);
        q_is_one = true;
      }
      double g_scale = 1;
      if (t == 0) {
        s = first_polynomial(g, p, exponent);
        x_scale = 1 / s;
        g_scale = 1 / s / s;
      } else {
        polynomial(g, p, t);
      }
      if (t + 1 < steps && !restart_at(t + 1)) {  // G <- P G P; spare and g are free to be written
        product(g, p, spare, g_scale);
        product(spare, p, g, 1.0);
      }
      if (q_is_one) {
        std::swap(q, p);
        q_is_one = false;
      } else {
        product(q, p, spare, 1.0);
        std::swap(q, spare);
      }
    }
    apply_to_x(q, x_scale);
    return s;
  }
};

template <class T>
index_t square_matrices(const NewtonSchulzOptions& options) {
  return options.plan.method == NewtonSchulzMethod::gram ? 4 : 2;
}

}  // namespace

template <class T>
std::size_t matrix_workspace(index_t rows, index_t cols, const NewtonSchulzOptions& options,
                             int threads) {
  const index_t m = std::min(rows, cols);
  const index_t n = std::max(rows, cols);
  return static_cast<std::size_t>(square_matrices<T>(options)) * Workspace::bytes_for<T>(m * m) +
         Workspace::bytes_for<double>(n) +
         std::max(std::max(product_workspace<T>(m, n), product_workspace<T>(m, m)),
                  apply_workspace<T>(m, n, threads));
}

template <class T>
double iterate(Context& ctx, MatrixView<T> x, int exponent, const NewtonSchulzOptions& options,
               Workspace workspace) {
  const bool wide = x.rows <= x.cols;
  const index_t m = std::min(x.rows, x.cols);
  T* g = workspace.take<T>(m * m);
  T* p = workspace.take<T>(m * m);
  const bool gram = options.plan.method == NewtonSchulzMethod::gram;
  T* q = gram ? workspace.take<T>(m * m) : nullptr;
  T* spare = gram ? workspace.take<T>(m * m) : nullptr;
  double* partial = workspace.take<double>(std::max(x.rows, x.cols));
  const Iteration<T> it{ctx, options, x, wide ? Side::left : Side::right, m, partial, workspace};
  return gram ? it.gram_form(g, p, q, spare, exponent) : it.standard(g, p, exponent);
}

template <class T>
double orthogonality_residual(Context& ctx, MatrixView<const T> x, Workspace workspace) {
  const index_t m = std::min(x.rows, x.cols);
  T* g = workspace.take<T>(m * m);
  double* partial = workspace.take<double>(std::max(x.rows, x.cols));
  Update<T> less_one;
  less_one.gamma = -1;
  gramian::gram<T>(ctx, x, x.rows <= x.cols ? Side::left : Side::right, less_one,
                   row_major(g, m, m), workspace);
  const double norm = frobenius_norm<T>(ctx, row_major<const T>(g, m, m), partial);
  return norm / std::sqrt(static_cast<double>(m));
}

#define GRAMIAN_DEFINE_ITERATION(T)                                                             \
  template std::size_t matrix_workspace<T>(index_t, index_t, const NewtonSchulzOptions&, int);  \
  template double iterate<T>(Context&, MatrixView<T>, int, const NewtonSchulzOptions&, Workspace); \
  template double orthogonality_residual<T>(Context&, MatrixView<const T>, Workspace);

GRAMIAN_DEFINE_ITERATION(float)
GRAMIAN_DEFINE_ITERATION(double)
GRAMIAN_DEFINE_ITERATION(std::complex<float>)
GRAMIAN_DEFINE_ITERATION(std::complex<double>)

}  // namespace gramian::detail
