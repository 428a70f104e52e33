// The iteration on one small real matrix, which stays in the first two cache levels.
#include "newton_schulz_iteration.hpp"
#include "newton_schulz_matrix.hpp"
#include "small_products.hpp"

namespace gramian::detail {

template <class R>
bool is_small(index_t rows, index_t cols) {
  const index_t m = std::min(rows, cols);
  const index_t n = std::max(rows, cols);
  return m <= 128 && n * m * static_cast<index_t>(sizeof(R)) <= 256 * 1024;
}

template <class R>
SmallMatrix<R>::SmallMatrix(index_t rows, index_t cols, const NewtonSchulzOptions& options)
    : options_(options),
      m_(std::min(rows, cols)),
      n_(std::max(rows, cols)),
      mp_(round_up(m_, tile_kernels<R>().vector)),  // whole row tiles too: they divide a vector
      np_(round_up(n_, tile_kernels<R>().rows)) {}

template <class R>
std::size_t SmallMatrix<R>::workspace() const {
  return 2 * Workspace::bytes_for<R>(np_ * mp_) + 4 * Workspace::bytes_for<R>(mp_ * mp_) +
         Workspace::bytes_for<double>(np_ + mp_);
}

template <class R>
struct SmallMatrix<R>::Buffers {
  R* x;
  R* x_next;
  R* square[4];
  double* partial;

  Buffers(const SmallMatrix& of, Workspace workspace) {
    x = workspace.take<R>(of.np_ * of.mp_);
    x_next = workspace.take<R>(of.np_ * of.mp_);
    for (R*& q : square) q = workspace.take<R>(of.mp_ * of.mp_);
    partial = workspace.take<double>(of.np_ + of.mp_);
  }

  SmallProducts<R> products(const SmallMatrix& of) const {
    return {tile_kernels<R>(), of.m_, of.mp_, of.n_, of.np_, x, x_next, partial};
  }
};

template <class R>
MatrixView<R> SmallMatrix<R>::input(Workspace workspace) const {
  R* x = Buffers(*this, workspace).x;
  if (mp_ > m_)
    for (index_t i = 0; i < n_; ++i) std::fill(x + i * mp_ + m_, x + (i + 1) * mp_, R(0));
  std::fill(x + n_ * mp_, x + np_ * mp_, R(0));
  return {x, n_, m_, mp_, 1};
}

template <class R>
MatrixView<R> SmallMatrix<R>::iterate(int exponent, Workspace workspace, double& s) const {
  const Buffers buffers(*this, workspace);
  R* const* square = buffers.square;
  SmallProducts<R> products = buffers.products(*this);
  Iteration<SmallProducts<R>> iteration(products, options_, exponent);
  s = options_.plan.method == NewtonSchulzMethod::gram
          ? iteration.gram_form(square[0], square[1], square[2], square[3])
          : iteration.standard(square[0], square[1]);
  return {products.x, n_, m_, mp_, 1};
}

template <class R>
double SmallMatrix<R>::residual(MatrixView<R> result, Workspace workspace) const {
  const Buffers buffers(*this, workspace);
  R* g = buffers.square[0];
  const SmallProducts<R> products = buffers.products(*this);
  products.symmetric_product(result.data, result.data, n_, g, 1, 0, nullptr, R(-1));
  return products.norm(g) / std::sqrt(static_cast<double>(m_));
}

template bool is_small<float>(index_t, index_t);
template bool is_small<double>(index_t, index_t);
template class SmallMatrix<float>;
template class SmallMatrix<double>;

}  // namespace gramian::detail
