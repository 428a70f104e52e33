// The iteration on one matrix of any size, on the symmetric core.
#include "elementwise.hpp"
#include "newton_schulz_iteration.hpp"
#include "newton_schulz_matrix.hpp"

namespace gramian::detail {

namespace {

template <class T>
struct GeneralProducts {
  using Scalar = T;
  using R = real_t<T>;

  Context& ctx;
  MatrixView<T> x;
  Side side;  // left: X is wide and G = X X^H. Square: right, whose operands lie side by side
  index_t m;
  double* partial;
  Workspace scratch;
  T* squares;       // all m x m buffers, one after the other
  Workspace for_s;  // empty: pack into squares that are free

  MatrixView<const T> view(const T* p) const { return row_major<const T>(p, m, m); }

  void gram_into(T* g) const { gram<T>(ctx, x, side, {}, row_major(g, m, m), scratch); }

  void product(T* s, T* z, T* out, double alpha, double beta = 0, T* d = nullptr,
               double gamma = 0) const {
    Update<T> update;
    update.alpha = static_cast<R>(alpha);
    update.beta = static_cast<R>(beta);
    if (d) update.d = view(d);
    update.gamma = static_cast<R>(gamma);
    hermitian_product<T>(ctx, view(s), view(z), update, row_major(out, m, m), scratch);
  }

  void combine(const T* g, T* p, double a, double b, double c) const {
    const R rb = static_cast<R>(b);
    const R rc = static_cast<R>(c);
    constexpr index_t band = 32;
    ctx.run((m + band - 1) / band, [&](index_t block, int) {
      for (index_t i = block * band; i < std::min(m, (block + 1) * band); ++i) {
        for (index_t j = 0; j < m; ++j) p[i * m + j] = rb * g[i * m + j] + rc * p[i * m + j];
        p[i * m + i] += static_cast<R>(a);
      }
    });
  }

  void apply_to_x(const T* s, double alpha) const {
    Workspace packed = for_s;
    if (packed.bytes() == 0) {
      // The Gram form needs no other square when it touches X; two neighbours of the four are free.
      const std::size_t each = Workspace::bytes_for<T>(m * m);
      auto* base = reinterpret_cast<std::byte*>(squares);
      const auto used =
          static_cast<std::size_t>(reinterpret_cast<const std::byte*>(s) - base) / each;
      packed = Workspace(base + (used >= 2 ? 0 : used + 1) * each, 2 * each);
    }
    apply<T>(ctx, view(s), side, static_cast<R>(alpha), x, scratch, packed);
  }

  double norm(const T* p) const { return frobenius_norm<T>(ctx, view(p), partial); }
  double norm_of_x() const { return frobenius_norm<T>(ctx, x, partial); }
};

int square_matrices(const NewtonSchulzOptions& options) {
  return options.plan.method == NewtonSchulzMethod::gram ? 4 : 2;
}

template <class T>
bool packs_into_squares(index_t m, const NewtonSchulzOptions& options) {
  return square_matrices(options) == 4 &&
         packed_hermitian_bytes<T>(m) <= 2 * Workspace::bytes_for<T>(m * m);
}

}  // namespace

template <class T>
std::size_t matrix_workspace(index_t rows, index_t cols, const NewtonSchulzOptions& options,
                             int threads) {
  const index_t m = std::min(rows, cols);
  const index_t n = std::max(rows, cols);
  return static_cast<std::size_t>(square_matrices(options)) * Workspace::bytes_for<T>(m * m) +
         Workspace::bytes_for<double>(n) +
         (packs_into_squares<T>(m, options) ? 0 : packed_hermitian_bytes<T>(m)) +
         std::max(std::max(product_workspace<T>(m, n), product_workspace<T>(m, m)),
                  apply_workspace<T>(m, n, threads));
}

template <class T>
double iterate(Context& ctx, MatrixView<T> x, int exponent, const NewtonSchulzOptions& options,
               Workspace workspace) {
  const index_t m = std::min(x.rows, x.cols);
  const int count = square_matrices(options);
  T* square[4] = {};
  for (int i = 0; i < count; ++i) square[i] = workspace.take<T>(m * m);
  double* partial = workspace.take<double>(std::max(x.rows, x.cols));
  Workspace for_s;
  if (!packs_into_squares<T>(m, options)) {
    const auto bytes = packed_hermitian_bytes<T>(m);
    for_s = Workspace(workspace.take<std::byte>(static_cast<index_t>(bytes)), bytes);
  }
  GeneralProducts<T> products{
      ctx, x, x.rows < x.cols ? Side::left : Side::right, m, partial, workspace, square[0], for_s};
  Iteration<GeneralProducts<T>> iteration(products, options, exponent);
  return count == 4 ? iteration.gram_form(square[0], square[1], square[2], square[3])
                    : iteration.standard(square[0], square[1]);
}

template <class T>
double orthogonality_residual(Context& ctx, MatrixView<const T> x, Workspace workspace) {
  const index_t m = std::min(x.rows, x.cols);
  T* g = workspace.take<T>(m * m);
  double* partial = workspace.take<double>(std::max(x.rows, x.cols));
  Update<T> less_one;
  less_one.gamma = -1;
  gram<T>(ctx, x, x.rows < x.cols ? Side::left : Side::right, less_one, row_major(g, m, m),
          workspace);
  const double norm = frobenius_norm<T>(ctx, row_major<const T>(g, m, m), partial);
  return norm / std::sqrt(static_cast<double>(m));
}

#define GRAMIAN_DEFINE_ITERATION(T)                                                                \
  template std::size_t matrix_workspace<T>(index_t, index_t, const NewtonSchulzOptions&, int);     \
  template double iterate<T>(Context&, MatrixView<T>, int, const NewtonSchulzOptions&, Workspace); \
  template double orthogonality_residual<T>(Context&, MatrixView<const T>, Workspace);

GRAMIAN_DEFINE_ITERATION(float)
GRAMIAN_DEFINE_ITERATION(double)
GRAMIAN_DEFINE_ITERATION(std::complex<float>)
GRAMIAN_DEFINE_ITERATION(std::complex<double>)

}  // namespace gramian::detail
