// What is proved of the rows of a sketch: eigenvalues of M M^H, with their error.
#pragma once

#include <algorithm>
#include <limits>
#include <utility>

#include "frequent_directions_plan.hpp"
#include "gramian/symmetric_product.hpp"
#include "gramian/workspace.hpp"
#include "small_lapack.hpp"

namespace gramian::detail {

template <class T>
struct ProvedEigen {
  Eigen<T> eigen;
  EigenProof proof;
};

template <class T>
double frobenius(const Small<T>& a) {
  const double terms = static_cast<double>(a.entries.size()) * (is_complex_v<T> ? 2 : 1);
  double sum = 0;
  for (const T& v : a.entries) sum += squared(v);
  return std::sqrt(sum) * (1 + 2 * rounding::u * (terms + 8));
}

/// Eigenvalues and eigenvectors of M M^H for M of m rows; the proof looks at what LAPACK returned,
/// and does not trust it.
template <class T>
ProvedEigen<T> proved_eigen(Context& ctx, const T* rows, index_t m, index_t d) {
  // Also where nothing else of the library is linked that would say so.
  [[maybe_unused]] static const bool blas_is_quiet = (blas_use_one_thread(), true);
  const WorkspaceMemory room(product_workspace<T>(m, d));
  if (!room.ok()) throw std::bad_alloc();
  Small<T> k(m, m);
  const auto view = row_major(k.data(), m, m);
  gram<T>(ctx, row_major<const T>(rows, m, d), Side::left, {1, 0, view, 0}, view, room.view());
  ProvedEigen<T> out{hermitian_eigen(k), {}};
  const Small<T>& u = out.eigen.vectors;
  const std::vector<double>& values = out.eigen.values;

  double trace = 0;
  for (index_t i = 0; i < m; ++i) trace += std::real(k(i, i));
  const double order = static_cast<double>(m);
  const double terms = static_cast<double>(product_roundings(d) + 1);
  trace *= 1 + 2 * rounding::accumulated<T>(terms + order);
  double largest = 0;
  for (const double v : values) largest = std::max(largest, std::abs(v));
  const double size = frobenius(k);

  // K U - U Lambda and U^H U - I, with the rounding of both.
  Small<T> residual(m, m);
  gemm<T>(false, false, m, m, m, T(1), k.data(), m, u.data(), m, T(0), residual.data(), m);
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < m; ++j) residual(i, j) -= u(i, j) * values[static_cast<std::size_t>(j)];
  Small<T> skew(m, m);
  gemm<T>(true, false, m, m, m, T(1), u.data(), m, u.data(), m, T(0), skew.data(), m);
  for (index_t i = 0; i < m; ++i) skew(i, i) -= 1;
  const double length = frobenius(u);
  const double g = rounding::accumulated<T>(order + 4);
  EigenProof& p = out.proof;
  p.trace = trace;
  p.skew = 1.01 * (frobenius(skew) + g * length * length);
  p.norm = 1.01 * std::max(size, largest);
  p.error = 1.01 * (rounding::accumulated<T>(terms) * trace + frobenius(residual) +
                    g * (size + largest) * length + 2 * p.skew * p.norm);
  if (!(p.skew < 0.01) || !(p.error >= 0))
    p.error = p.norm = std::numeric_limits<double>::infinity();
  return out;
}

/// The first rows of M <- W M.
template <class T>
void rotate_rows(const Small<T>& w, const T* rows, index_t d, T* to) {
  constexpr index_t band = 128;  // a copy that stays in the second-level cache
  if (w.rows == 0) return;
  std::vector<T> old(static_cast<std::size_t>(w.cols * std::min(band, d)));
  for (index_t first = 0; first < d; first += band) {
    const index_t count = std::min(band, d - first);
    for (index_t i = 0; i < w.cols; ++i)
      std::copy_n(rows + i * d + first, count, old.data() + i * count);
    gemm<T>(false, false, w.rows, count, w.cols, T(1), w.data(), w.cols, old.data(), count, T(0),
            to + first, d);
  }
}

}  // namespace gramian::detail
