// The same products for one small real matrix: everything stays in the first two cache levels, so
// packing would cost as much as computing. X is kept tall (long side down, short side across) and
// all matrices are padded with zeros to whole register tiles, so that every tile is a full one and
// operands are read where they lie: a Gram or Hermitian operand by columns of its mirror image, X
// by rows (tile_kernel.hpp, real_rows).
#pragma once

#include <algorithm>
#include <utility>

#include "elementwise.hpp"
#include "mirror.hpp"
#include "tile_kernel.hpp"

namespace gramian::detail {

inline index_t round_up(index_t n, index_t unit) { return (n + unit - 1) / unit * unit; }

// Up to here a full product with no mirroring is faster than half of one with it.
constexpr index_t mirrored_from = 48;

template <class R>
struct SmallProducts {
  using Scalar = R;

  const TileKernels<R>& kernels;
  index_t m;   // short side
  index_t mp;  // padded; the row length of everything here
  index_t n;   // long side
  index_t np;  // padded to whole tiles
  R* x;
  R* x_next;
  double* partial;

  MatrixView<R> current() const { return {x, n, m, mp, 1}; }
  index_t stride() const { return mp; }

  void tiles(const R* a, bool rows_of_a, const R* b, index_t depth, index_t rows, bool symmetric,
             R* c, R alpha, R beta, const R* d) const {
    const int W = kernels.vector;
    const auto& by_vectors = rows_of_a ? kernels.real_rows : kernels.real;
    TileArgs<R> t{};
    t.k = depth;
    t.a_stride = t.b_stride = t.a_row = t.ldc = t.ldd = mp;
    t.alpha = alpha;
    t.beta = beta;
    t.rows = kernels.rows;
    for (index_t j = 0; j < mp; j += 3 * W) {
      t.b = b + j;
      const index_t first = symmetric ? j / kernels.rows * kernels.rows : 0;
      for (index_t i = first; i < rows; i += kernels.rows) {
        index_t cols = std::min<index_t>(3 * W, mp - j);
        if (symmetric) cols = std::min<index_t>(cols, round_up(i + kernels.rows - j, W));
        t.cols = static_cast<int>(cols);
        t.a = rows_of_a ? a + i * mp : a + i;
        t.c = c + i * mp + j;
        t.d = d ? d + i * mp + j : nullptr;
        by_vectors[t.cols / W - 1](t);
      }
    }
  }

  void symmetric_product(const R* a, const R* b, index_t depth, R* c, R alpha, R beta, const R* d,
                         R gamma) const {
    const bool half = mp >= mirrored_from;
    tiles(a, false, b, depth, mp, half, c, alpha, beta, d);
    if (half) {
      const auto view = row_major(c, mp, mp);
      for (index_t block = 0; block * mirror_block < mp; ++block)
        mirror_block_row(view, block, R(0));
    }
    if (gamma != R(0))
      for (index_t i = 0; i < m; ++i) c[i * mp + i] += gamma;
  }

  void gram_into(R* g) const { symmetric_product(x, x, n, g, 1, 0, nullptr, 0); }

  void product(R* s, R* z, R* out, double alpha, double beta = 0, R* d = nullptr,
               double gamma = 0) const {
    symmetric_product(s, z, m, out, static_cast<R>(alpha), static_cast<R>(beta), d,
                      static_cast<R>(gamma));
  }

  void combine(const R* g, R* p, double a, double b, double c) const {
    const R rb = static_cast<R>(b);
    const R rc = static_cast<R>(c);
    for (index_t e = 0; e < mp * mp; ++e) p[e] = rb * g[e] + rc * p[e];
    for (index_t i = 0; i < m; ++i) p[i * mp + i] += static_cast<R>(a);
  }

  void apply_to_x(const R* s, double alpha) {
    tiles(x, true, s, m, np, false, x_next, static_cast<R>(alpha), 0, nullptr);
    std::swap(x, x_next);
  }

  double norm(const R* p) const {
    Context serial(1, false);
    return frobenius_norm<R>(serial, row_major<const R>(p, mp, mp), partial);
  }
  double norm_of_x() const {
    Context serial(1, false);
    return frobenius_norm<R>(serial, row_major<const R>(x, np, mp), partial);
  }
};

}  // namespace gramian::detail
