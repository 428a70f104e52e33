// The iteration on one matrix of any size, on the symmetric core.
#include "elementwise.hpp"
#include "general_products.hpp"
#include "newton_schulz_iteration.hpp"
#include "newton_schulz_matrix.hpp"

namespace gramian::detail {

namespace {

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
