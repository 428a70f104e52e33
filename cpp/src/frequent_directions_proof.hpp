// What is proved of the rows of a sketch: eigenvalues of M M^T, with their error.
#pragma once

#include <algorithm>
#include <limits>
#include <utility>

#include "frequent_directions_plan.hpp"
#include "gramian/symmetric_product.hpp"
#include "gramian/workspace.hpp"
#include "small_lapack.hpp"

namespace gramian::detail {

struct ProvedEigen {
  Eigen<double> eigen;
  EigenProof proof;
};

inline double frobenius(const Small<double>& a) {
  double sum = 0;
  for (const double v : a.entries) sum += v * v;
  return std::sqrt(sum) * (1 + 2 * rounding::u * static_cast<double>(a.entries.size() + 8));
}

/// Eigenvalues and eigenvectors of M M^T for M of m rows; the proof looks at what LAPACK returned,
/// and does not trust it.
inline ProvedEigen proved_eigen(Context& ctx, const double* rows, index_t m, index_t d) {
  const WorkspaceMemory room(product_workspace<double>(m, d));
  if (!room.ok()) throw std::bad_alloc();
  Small<double> k(m, m);
  const auto view = row_major(k.data(), m, m);
  gram<double>(ctx, row_major<const double>(rows, m, d), Side::left, {1, 0, view, 0}, view,
               room.view());
  ProvedEigen out{hermitian_eigen(k), {}};
  const Small<double>& u = out.eigen.vectors;
  const std::vector<double>& values = out.eigen.values;

  double trace = 0;
  for (index_t i = 0; i < m; ++i) trace += k(i, i);
  const double order = static_cast<double>(m);
  const double terms = static_cast<double>(product_roundings(d) + 1);
  trace *= 1 + 2 * rounding::accumulated<double>(terms + order);
  double largest = 0;
  for (const double v : values) largest = std::max(largest, std::abs(v));
  const double size = frobenius(k);

  // K U - U Lambda and U^T U - I, with the rounding of both.
  Small<double> residual(m, m);
  gemm<double>(false, false, m, m, m, 1.0, k.data(), m, u.data(), m, 0.0, residual.data(), m);
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < m; ++j) residual(i, j) -= u(i, j) * values[static_cast<std::size_t>(j)];
  Small<double> skew(m, m);
  gemm<double>(true, false, m, m, m, 1.0, u.data(), m, u.data(), m, 0.0, skew.data(), m);
  for (index_t i = 0; i < m; ++i) skew(i, i) -= 1;
  const double length = frobenius(u);
  const double g = rounding::accumulated<double>(order + 4);
  EigenProof& p = out.proof;
  p.trace = trace;
  p.skew = 1.01 * (frobenius(skew) + g * length * length);
  p.norm = 1.01 * std::max(size, largest);
  p.error = 1.01 * (rounding::accumulated<double>(terms) * trace + frobenius(residual) +
                    g * (size + largest) * length + 2 * p.skew * p.norm);
  if (!(p.skew < 0.01) || !(p.error >= 0))
    p.error = p.norm = std::numeric_limits<double>::infinity();
  return out;
}

/// The first rows of M <- W M.
inline void rotate_rows(const Small<double>& w, const double* rows, index_t d, double* to) {
  constexpr index_t band = 512;
  if (w.rows == 0) return;
  std::vector<double> old(static_cast<std::size_t>(w.cols * std::min(band, d)));
  for (index_t first = 0; first < d; first += band) {
    const index_t count = std::min(band, d - first);
    for (index_t i = 0; i < w.cols; ++i)
      std::copy_n(rows + i * d + first, count, old.data() + i * count);
    gemm<double>(false, false, w.rows, count, w.cols, 1.0, w.data(), w.cols, old.data(), count, 0.0,
                 to + first, d);
  }
}

}  // namespace gramian::detail
