// Tall matrices with few columns, and the products among them: the bases and sketches of the
// randomized SVD. Sums run in an order fixed by the shape alone.
#pragma once

#include <algorithm>
#include <complex>
#include <vector>

#include "blas.hpp"
#include "gramian/context.hpp"
#include "gramian/matrix_view.hpp"

namespace gramian::detail {

/// The type in which Gram matrices of T are summed and small problems solved.
template <class T>
using wide_t = std::conditional_t<is_complex_v<T>, std::complex<double>, double>;

/// Row-major, rows padded with zeros to whole vectors, so that the register tiles need no packing.
template <class T>
struct Thin {
  static constexpr index_t lane = 64 / static_cast<index_t>(sizeof(T));

  Thin() = default;
  Thin(index_t r, index_t c)
      : rows(r),
        cols(c),
        ld((c + lane - 1) / lane * lane),
        entries(static_cast<std::size_t>(r * ld)) {}

  T* row(index_t i) { return entries.data() + i * ld; }
  const T* row(index_t i) const { return entries.data() + i * ld; }
  T& operator()(index_t i, index_t j) { return entries[static_cast<std::size_t>(i * ld + j)]; }
  const T& operator()(index_t i, index_t j) const {
    return entries[static_cast<std::size_t>(i * ld + j)];
  }

  index_t rows = 0;
  index_t cols = 0;
  index_t ld = 0;
  std::vector<T> entries;
};

/// Square or small matrices: row-major without gaps.
template <class D>
struct Small {
  Small() = default;
  Small(index_t r, index_t c) : rows(r), cols(c), entries(static_cast<std::size_t>(r * c)) {}
  D* data() { return entries.data(); }
  const D* data() const { return entries.data(); }
  D& operator()(index_t i, index_t j) { return entries[static_cast<std::size_t>(i * cols + j)]; }
  const D& operator()(index_t i, index_t j) const {
    return entries[static_cast<std::size_t>(i * cols + j)];
  }
  index_t rows = 0;
  index_t cols = 0;
  std::vector<D> entries;
};

template <class T>
T conjugate(const T& v) {
  if constexpr (is_complex_v<T>)
    return std::conj(v);
  else
    return v;
}

/// |v|^2 in double, without the care for overflow that std::abs takes.
template <class T>
double squared(const T& v) {
  if constexpr (is_complex_v<T>) {
    const double re = static_cast<double>(v.real());
    const double im = static_cast<double>(v.imag());
    return re * re + im * im;
  } else {
    return static_cast<double>(v) * static_cast<double>(v);
  }
}

/// C <- alpha op(A) op(B) + beta C, all row-major; op is the adjoint where it is asked for.
template <class T>
void gemm(bool adjoint_a, bool adjoint_b, index_t m, index_t n, index_t k, T alpha, const T* a,
          index_t lda, const T* b, index_t ldb, T beta, T* c, index_t ldc) {
  const auto op = [](bool adjoint) {
    return !adjoint ? CblasNoTrans : is_complex_v<T> ? CblasConjTrans : CblasTrans;
  };
  const auto i = [](index_t v) { return static_cast<int>(v); };
  if (m == 0 || n == 0) return;
  if constexpr (std::is_same_v<T, float>) GRAMIAN_BLAS(cblas_sgemm)
  (CblasRowMajor, op(adjoint_a), op(adjoint_b), i(m), i(n), i(k), alpha, a, i(lda), b, i(ldb), beta,
   c, i(ldc));
  else if constexpr (std::is_same_v<T, double>)
      GRAMIAN_BLAS(cblas_dgemm)(CblasRowMajor, op(adjoint_a), op(adjoint_b), i(m), i(n), i(k),
                                alpha, a, i(lda), b, i(ldb), beta, c, i(ldc));
  else if constexpr (std::is_same_v<T, std::complex<float>>)
      GRAMIAN_BLAS(cblas_cgemm)(CblasRowMajor, op(adjoint_a), op(adjoint_b), i(m), i(n), i(k),
                                &alpha, a, i(lda), b, i(ldb), &beta, c, i(ldc));
  else GRAMIAN_BLAS(cblas_zgemm)(CblasRowMajor, op(adjoint_a), op(adjoint_b), i(m), i(n), i(k),
                                 &alpha, a, i(lda), b, i(ldb), &beta, c, i(ldc));
}

/// X^H Y in double, for columns [x0, x1) of X and [y0, y1) of Y. Both are converted a band at a
/// time, so the error is that of the entries alone.
template <class T>
Small<wide_t<T>> cross_gram(Context& ctx, const Thin<T>& x, index_t x0, index_t x1,
                            const Thin<T>& y, index_t y0, index_t y1) {
  using D = wide_t<T>;
  constexpr index_t band = 256;
  const index_t bands = (x.rows + band - 1) / band;
  const index_t parts = std::clamp<index_t>(bands, 1, 8);
  const index_t p = x1 - x0;
  const index_t q = y1 - y0;
  std::vector<Small<D>> sums(static_cast<std::size_t>(parts), Small<D>(p, q));
  std::vector<std::vector<D>> rooms(static_cast<std::size_t>(parts));
  for (auto& room : rooms) room.resize(static_cast<std::size_t>(band * (p + q)));
  ctx.run(parts, [&](index_t part, int) {
    D* left = rooms[static_cast<std::size_t>(part)].data();
    D* right = left + band * p;
    D* sum = sums[static_cast<std::size_t>(part)].data();
    for (index_t b = bands * part / parts; b < bands * (part + 1) / parts; ++b) {
      const index_t first = b * band;
      const index_t count = std::min(band, x.rows - first);
      for (index_t i = 0; i < count; ++i) {
        const T* from = x.row(first + i) + x0;
        for (index_t j = 0; j < p; ++j) left[i * p + j] = static_cast<D>(from[j]);
        from = y.row(first + i) + y0;
        for (index_t j = 0; j < q; ++j) right[i * q + j] = static_cast<D>(from[j]);
      }
      gemm<D>(true, false, p, q, count, D(1), left, p, right, q, D(1), sum, q);
    }
  });
  Small<D> total = std::move(sums[0]);
  for (index_t part = 1; part < parts; ++part)
    for (std::size_t e = 0; e < total.entries.size(); ++e)
      total.entries[e] += sums[static_cast<std::size_t>(part)].entries[e];
  return total;
}

template <class T>
Small<wide_t<T>> gram_of(Context& ctx, const Thin<T>& y) {
  return cross_gram(ctx, y, 0, y.cols, y, 0, y.cols);
}

/// X <- X C, C square.
template <class T>
void times_square(Context& ctx, Thin<T>& x, const Small<wide_t<T>>& c) {
  std::vector<T> narrow(c.entries.size());
  for (std::size_t e = 0; e < narrow.size(); ++e) narrow[e] = static_cast<T>(c.entries[e]);
  constexpr index_t band = 256;
  ctx.run((x.rows + band - 1) / band, [&](index_t b, int) {
    const index_t first = b * band;
    const index_t count = std::min(band, x.rows - first);
    const std::vector<T> old(x.row(first), x.row(first) + count * x.ld);
    gemm<T>(false, false, count, c.cols, c.rows, T(1), old.data(), x.ld, narrow.data(), c.cols,
            T(0), x.row(first), x.ld);
  });
}

/// out columns [o0, o0 + C.cols) <- alpha X[:, :C.rows] C + beta out.
template <class T>
void times_small(Context& ctx, const Thin<T>& x, const Small<wide_t<T>>& c, real_t<T> alpha,
                 real_t<T> beta, Thin<T>& out, index_t o0) {
  std::vector<T> narrow(c.entries.size());
  for (std::size_t e = 0; e < narrow.size(); ++e) narrow[e] = static_cast<T>(c.entries[e]);
  constexpr index_t band = 256;
  ctx.run((x.rows + band - 1) / band, [&](index_t b, int) {
    const index_t first = b * band;
    gemm<T>(false, false, std::min(band, x.rows - first), c.cols, c.rows, T(alpha), x.row(first),
            x.ld, narrow.data(), std::max<index_t>(c.cols, 1), T(beta), out.row(first) + o0,
            out.ld);
  });
}

}  // namespace gramian::detail
