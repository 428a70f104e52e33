// Included by tile_kernel_<isa>.cpp, which sets GRAMIAN_ISA_NAMESPACE, GRAMIAN_VECTOR_BYTES,
// GRAMIAN_TILE_ROWS and is compiled with that instruction set's flags. No header of the standard
// library beyond <cstddef>/<cstdint> may be included: an inline function from one, compiled here,
// could be the copy that the linker keeps for the whole program, and fail on an older CPU.
#include "sketch_tile.inl"
#include "tile_kernel.hpp"

namespace gramian::detail::GRAMIAN_ISA_NAMESPACE {

template <class R>
struct Vector {
  // Element alignment only: panels are aligned, views of the caller's memory need not be.
  typedef R type __attribute__((vector_size(GRAMIAN_VECTOR_BYTES), aligned(alignof(R)), may_alias));
  static constexpr int width = GRAMIAN_VECTOR_BYTES / static_cast<int>(sizeof(R));
};

template <class R>
inline typename Vector<R>::type load(const R* p) {
  return *reinterpret_cast<const typename Vector<R>::type*>(p);
}

template <class R>
inline void store(R* p, typename Vector<R>::type v) {
  *reinterpret_cast<typename Vector<R>::type*>(p) = v;
}

// Edge tiles: spill the accumulators and write the valid corner entry by entry.
template <class R>
inline void store_edge(const TileArgs<R>& t, const R* tile, int tile_stride, int reals_per_row) {
  for (int i = 0; i < t.rows; ++i) {
    for (int j = 0; j < reals_per_row; ++j) {
      const R base = t.d ? t.beta * t.d[i * t.ldd + j] : R(0);
      t.c[i * t.ldc + j] = t.alpha * tile[i * tile_stride + j] + base;
    }
  }
}

template <class R, int Rows, int Vectors, bool RowsOfA>
void real_tile(const TileArgs<R>& t) {
  using V = typename Vector<R>::type;
  constexpr int W = Vector<R>::width;
  V acc[Rows][Vectors];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) acc[i][v] = V{};
  }

  const R* a = t.a;
  const R* b = t.b;
  for (std::int64_t k = 0; k < t.k; ++k) {
    V bv[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) bv[v] = load(b + v * W);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      const R ai = RowsOfA ? a[i * t.a_row + k] : a[i];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) acc[i][v] += ai * bv[v];
    }
    if constexpr (!RowsOfA) a += t.a_stride;
    b += t.b_stride;
  }

  if (t.rows == Rows && t.cols == Vectors * W) {
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) {
        V out = t.alpha * acc[i][v];
        if (t.d) out += t.beta * load(t.d + i * t.ldd + v * W);
        store(t.c + i * t.ldc + v * W, out);
      }
    }
    return;
  }
  alignas(64) R tile[Rows * Vectors * W];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) store(tile + (i * Vectors + v) * W, acc[i][v]);
  }
  store_edge(t, tile, Vectors * W, t.cols);
}

// With s = +-1 for conjugation: (ar + i sa ai)(br + i sb bi)
//   = ar br - sa sb ai bi + i (sb ar bi + sa ai br).
template <class R, int Rows, int Vectors, bool ConjA, bool ConjB>
void complex_tile(const TileArgs<R>& t) {
  using V = typename Vector<R>::type;
  constexpr int W = Vector<R>::width;
  V re[Rows][Vectors];
  V im[Rows][Vectors];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) re[i][v] = im[i][v] = V{};
  }

  const R* a = t.a;
  const R* b = t.b;
  for (std::int64_t k = 0; k < t.k; ++k) {
    V br[Vectors];
    V bi[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      br[v] = load(b + v * W);
      bi[v] = load(b + t.b_plane + v * W);
    }
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      const R ar = a[i];
      const R ai = a[t.a_plane + i];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) {
        re[i][v] += ar * br[v];
        if constexpr (ConjA == ConjB)
          re[i][v] -= ai * bi[v];
        else
          re[i][v] += ai * bi[v];
        if constexpr (ConjB)
          im[i][v] -= ar * bi[v];
        else
          im[i][v] += ar * bi[v];
        if constexpr (ConjA)
          im[i][v] -= ai * br[v];
        else
          im[i][v] += ai * br[v];
      }
    }
    a += t.a_stride;
    b += t.b_stride;
  }

  // Interleaving in registers would save little: the sum over k dominates this spill.
  alignas(64) R planes[2][Rows * Vectors * W];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      store(planes[0] + (i * Vectors + v) * W, re[i][v]);
      store(planes[1] + (i * Vectors + v) * W, im[i][v]);
    }
  }
  alignas(64) R tile[2 * Rows * Vectors * W];
  for (int e = 0; e < Rows * Vectors * W; ++e) {
    tile[2 * e] = planes[0][e];
    tile[2 * e + 1] = planes[1][e];
  }
  store_edge(t, tile, 2 * Vectors * W, 2 * t.cols);
}

template <class R>
TileKernels<R> kernels(const char* isa) {
  constexpr int rows = GRAMIAN_TILE_ROWS;
  constexpr int crows = rows / 2;  // twice the accumulators per row
  constexpr int panel = 3 * Vector<R>::width;
  static_assert(panel % rows == 0, "a panel holds a whole number of row tiles");
  return {
      Vector<R>::width,
      panel,
      rows,
      crows,
      {real_tile<R, rows, 1, false>, real_tile<R, rows, 2, false>, real_tile<R, rows, 3, false>},
      {real_tile<R, rows, 1, true>, real_tile<R, rows, 2, true>, real_tile<R, rows, 3, true>},
      {{complex_tile<R, crows, 1, false, false>, complex_tile<R, crows, 2, false, false>,
        complex_tile<R, crows, 3, false, false>},
       {complex_tile<R, crows, 1, true, false>, complex_tile<R, crows, 2, true, false>,
        complex_tile<R, crows, 3, true, false>},
       {complex_tile<R, crows, 1, false, true>, complex_tile<R, crows, 2, false, true>,
        complex_tile<R, crows, 3, false, true>},
       {complex_tile<R, crows, 1, true, true>, complex_tile<R, crows, 2, true, true>,
        complex_tile<R, crows, 3, true, true>}},
      sketch_tile<R>,
      isa};
}

}  // namespace gramian::detail::GRAMIAN_ISA_NAMESPACE
