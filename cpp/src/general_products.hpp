// The products that an iteration on X and its Gram matrix is made of, for any size and type, on the
// symmetric core: what newton_schulz_iteration.hpp and polar_iteration.hpp ask for.
#pragma once

#include <algorithm>

#include "elementwise.hpp"
#include "gramian/symmetric_product.hpp"

namespace gramian::detail {

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

  MatrixView<T> current() const { return x; }
  index_t stride() const { return m; }
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

}  // namespace gramian::detail
