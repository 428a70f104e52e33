#include "gramian/symmetric_product.hpp"

#include <algorithm>

#include "mirror.hpp"
#include "pack.hpp"
#include "tile_kernel.hpp"

namespace gramian {

namespace {

using detail::left_operand;
using detail::pack_panel;
using detail::packed_size;
using detail::PanelSource;
using detail::right_operand;
using detail::tile_kernels;
using detail::TileArgs;
using detail::TileKernels;

// Sums are cut into blocks of at most this length, half of it where A and B are packed apart, so
// that the packed operands take the same memory. Longer blocks pass over C less often; at 512 a
// panel of B and the rows of A that meet it still share a second-level cache of 1 MB. Measured at
// 2048 x 2048, float32, one thread, against gemm: 256 1.56, 384 1.66, 512 1.72.
constexpr index_t max_depth_block = 512;

// C is cut into blocks of about this many rows and columns, whose packed operands share a
// second-level cache; smaller where fewer than about 8 blocks a side would be left for the threads.
constexpr index_t max_block = 192;

/// Length of the blocks that a sum of this length is cut into, none longer than `most`.
index_t depth_block(index_t depth, index_t most) {
  const index_t blocks = (depth + most - 1) / most;
  return blocks == 0 ? 0 : (depth + blocks - 1) / blocks;
}

index_t panels_per_block(index_t panels, int panel) {
  return std::clamp<index_t>(panels / 8, 1, std::max<index_t>(1, max_block / panel));
}

template <class T>
constexpr int planes() {
  return is_complex_v<T> ? 2 : 1;
}

/// A packed operand: panel p starts at data + p * panel_stride; depth index 0 is the block's first.
template <class R>
struct Packed {
  const R* data;
  index_t panel_stride;
  bool conjugate;
};

/// Tiles of C covering rows [i0, i1) x columns [j0, j1), both multiples of the panel width except
/// at the end; with lower_only, tiles wholly above the diagonal are left out.
template <class T>
void block_product(const TileKernels<real_t<T>>& kernels, Packed<real_t<T>> a, Packed<real_t<T>> b,
                   index_t kc, index_t i0, index_t i1, index_t j0, index_t j1, bool lower_only,
                   real_t<T> alpha, MatrixView<T> c, const T* d, index_t ldd, real_t<T> beta) {
  using R = real_t<T>;
  constexpr int P = planes<T>();
  const int panel = kernels.panel;
  const int tile_rows = is_complex_v<T> ? kernels.complex_rows : kernels.rows;
  const int conjugation = (a.conjugate ? 1 : 0) + (b.conjugate ? 2 : 0);
  TileArgs<R> t{};
  t.k = kc;
  t.a_stride = t.b_stride = P * panel;
  t.a_plane = t.b_plane = panel;
  t.ldc = P * c.row_stride;
  t.ldd = P * ldd;
  t.alpha = alpha;
  t.beta = beta;
  const index_t step = max_block / panel * panel;  // rows of A that stay in cache for all of B
  for (index_t ib = i0; ib < i1; ib += step) {
    for (index_t j = j0; j < j1; j += panel) {
      t.b = b.data + j / panel * b.panel_stride;
      for (index_t i = ib; i < std::min(i1, ib + step); i += tile_rows) {
        t.rows = static_cast<int>(std::min<index_t>(tile_rows, i1 - i));
        index_t cols = std::min<index_t>(panel, j1 - j);
        if (lower_only) cols = std::min(cols, i + t.rows - j);
        if (cols <= 0) continue;
        const int vectors = static_cast<int>((cols + kernels.vector - 1) / kernels.vector);
        t.cols = static_cast<int>(std::min<index_t>(vectors * kernels.vector, j1 - j));
        t.a = a.data + i / panel * a.panel_stride + i % panel;
        t.c = reinterpret_cast<R*>(c.data + i * c.row_stride + j);
        t.d = d ? reinterpret_cast<const R*>(d + i * ldd + j) : nullptr;
        if constexpr (is_complex_v<T>)
          kernels.complex[conjugation][vectors - 1](t);
        else
          kernels.real[vectors - 1](t);
      }
    }
  }
}

/// Lower triangle to upper, and gamma onto the diagonal, whose imaginary part is rounding only.
template <class T>
void mirror(Context& ctx, real_t<T> gamma, MatrixView<T> c) {
  constexpr index_t B = detail::mirror_block;
  ctx.run((c.rows + B - 1) / B,
          [&](index_t block, int) { detail::mirror_block_row(c, block, gamma); });
}

template <class T>
void lower_then_mirror(Context& ctx, const PanelSource<T>& a, const PanelSource<T>& b,
                       const Update<T>& update, MatrixView<T> c, Workspace workspace) {
  using R = real_t<T>;
  const auto& kernels = tile_kernels<R>();
  const int panel = kernels.panel;
  const index_t m = c.rows;
  const index_t panels = detail::panel_count(m, panel);
  const index_t block = panels_per_block(panels, panel) * panel;
  const index_t blocks = (m + block - 1) / block;
  const bool shared = a.same_memory(b);
  const index_t kc_max = depth_block(a.depth, shared ? max_depth_block : max_depth_block / 2);
  const index_t panel_stride = planes<T>() * panel * kc_max;
  R* packed_a = workspace.take<R>(panels * panel_stride);
  R* packed_b = shared ? packed_a : workspace.take<R>(panels * panel_stride);

  for (index_t k0 = 0; k0 < a.depth; k0 += kc_max) {
    const index_t kc = std::min(kc_max, a.depth - k0);
    ctx.run(shared ? panels : 2 * panels, [&](index_t p, int) {
      if (p < panels)
        pack_panel(a, p, k0, kc, panel, packed_a + p * panel_stride);
      else
        pack_panel(b, p - panels, k0, kc, panel, packed_b + (p - panels) * panel_stride);
    });
    const bool start = k0 == 0;
    const T* d = start ? (update.beta != R(0) ? update.d.data : nullptr) : c.data;
    const index_t ldd = start ? update.d.row_stride : c.row_stride;
    const R beta = start ? update.beta : R(1);
    ctx.run(blocks * (blocks + 1) / 2, [&](index_t task, int) {
      // Task numbers run down the block rows of the lower triangle.
      index_t bi = 0;
      while ((bi + 1) * (bi + 2) / 2 <= task) ++bi;
      const index_t bj = task - bi * (bi + 1) / 2;
      block_product<T>(kernels, {packed_a, panel_stride, a.conjugate},
                       {packed_b, panel_stride, b.conjugate}, kc, bi * block,
                       std::min(m, (bi + 1) * block), bj * block, std::min(m, (bj + 1) * block),
                       true, update.alpha, c, d, ldd, beta);
    });
  }
  mirror(ctx, update.gamma, c);
}

// A Hermitian operand read as rows is its own columns conjugated; those lie side by side.
template <class T>
PanelSource<T> hermitian_left_operand(MatrixView<const T> s) {
  return {s.data, s.rows, s.cols, s.col_stride, s.row_stride, is_complex_v<T>};
}

index_t panels_per_group(index_t long_side, int panel) {
  return std::clamp<index_t>(long_side / (8 * panel), 1, std::max<index_t>(1, max_block / panel));
}

}  // namespace

template <class T>
void gram(Context& ctx, MatrixView<const T> x, Side side, const Update<T>& update, MatrixView<T> c,
          Workspace workspace) {
  const MatrixView<const T> left = side == Side::left ? x : x.transposed();
  // left: C_ij = sum_k x_ik conj(x_jk);  right: C_ij = sum_k conj(x_ki) x_kj.
  constexpr bool cplx = is_complex_v<T>;
  const auto a = left_operand<T>(left, cplx && side == Side::right);
  const auto b = right_operand<T>(left.transposed(), cplx && side == Side::left);
  lower_then_mirror(ctx, a, b, update, c, workspace);
}

template <class T>
void hermitian_cross(Context& ctx, MatrixView<const T> w, MatrixView<const T> x, Side side,
                     const Update<T>& update, MatrixView<T> c, Workspace workspace) {
  constexpr bool cplx = is_complex_v<T>;
  if (side == Side::right)
    lower_then_mirror(ctx, left_operand<T>(w.transposed(), cplx), right_operand<T>(x), update, c,
                      workspace);
  else
    lower_then_mirror(ctx, left_operand<T>(x), right_operand<T>(w.transposed(), cplx), update, c,
                      workspace);
}

template <class T>
void hermitian_product(Context& ctx, MatrixView<const T> s, MatrixView<const T> z,
                       const Update<T>& update, MatrixView<T> c, Workspace workspace) {
  lower_then_mirror(ctx, hermitian_left_operand<T>(s), right_operand<T>(z), update, c, workspace);
}

template <class T>
void apply(Context& ctx, MatrixView<const T> s, Side side, real_t<T> alpha, MatrixView<T> x,
           Workspace workspace, Workspace for_s) {
  using R = real_t<T>;
  const auto& kernels = tile_kernels<R>();
  const int panel = kernels.panel;
  const index_t m = s.rows;
  const bool left = side == Side::left;
  const index_t long_side = left ? x.cols : x.rows;
  const index_t panels = detail::panel_count(m, panel);
  const index_t panel_stride = planes<T>() * panel * m;
  const index_t group = panels_per_group(long_side, panel);
  const index_t groups = (detail::panel_count(long_side, panel) + group - 1) / group;

  R* packed_s = for_s.take<R>(panels * panel_stride);
  R* packed_x = workspace.take<R>(group * panel_stride * ctx.size());
  const auto source_s = left ? hermitian_left_operand<T>(s) : right_operand<T>(s);
  const auto source_x = left ? right_operand<T>(x) : left_operand<T>(x);

  ctx.run(panels, [&](index_t p, int) {
    pack_panel(source_s, p, 0, m, panel, packed_s + p * panel_stride);
  });
  const index_t kc_max = depth_block(m, max_depth_block);
  // A group of columns (rows) of X is copied whole before any of it is overwritten.
  ctx.run(groups, [&](index_t g, int slot) {
    R* mine = packed_x + slot * group * panel_stride;
    const index_t first = g * group * panel;
    const index_t last = std::min(long_side, first + group * panel);
    for (index_t p = 0; first + p * panel < last; ++p)
      pack_panel(source_x, g * group + p, 0, m, panel, mine + p * panel_stride);
    const MatrixView<T> c =
        left ? MatrixView<T>{x.data + first, m, last - first, x.row_stride, 1}
             : MatrixView<T>{x.data + first * x.row_stride, last - first, m, x.row_stride, 1};
    for (index_t k0 = 0; k0 < m; k0 += kc_max) {
      const index_t kc = std::min(kc_max, m - k0);
      const index_t offset = k0 * planes<T>() * panel;
      Packed<R> ps{packed_s + offset, panel_stride, source_s.conjugate};
      Packed<R> px{mine + offset, panel_stride, false};
      block_product<T>(kernels, left ? ps : px, left ? px : ps, kc, 0, c.rows, 0, c.cols, false,
                       alpha, c, k0 == 0 ? nullptr : c.data, c.row_stride, R(1));
    }
  });
}

template <class T>
std::size_t product_workspace(index_t m, index_t depth) {
  using R = real_t<T>;
  const int panel = tile_kernels<R>().panel;
  // min(depth, most) is the largest depth_block of all depths up to this one: that of the depth
  // itself may be shorter, as 257 at 513 after 512 at 512.
  const auto bytes = [&](index_t most, std::size_t operands) {
    return operands * Workspace::bytes_for<R>(packed_size<T>(m, std::min(depth, most), panel));
  };
  return std::max(bytes(max_depth_block, 1), bytes(max_depth_block / 2, 2));
}

template <class T>
std::size_t apply_workspace(index_t m, index_t long_side, int threads) {
  using R = real_t<T>;
  const int panel = tile_kernels<R>().panel;
  return Workspace::bytes_for<R>(panels_per_group(long_side, panel) * planes<T>() * panel * m *
                                 threads);
}

template <class T>
std::size_t packed_hermitian_bytes(index_t m) {
  using R = real_t<T>;
  return Workspace::bytes_for<R>(packed_size<T>(m, m, tile_kernels<R>().panel));
}

index_t product_roundings(index_t depth) {
  // Within a block each multiply-add rounds at most twice a term's product and then sums that hold
  // it; each later block adds once.
  constexpr index_t shortest = max_depth_block / 2;
  return std::min(depth, max_depth_block) + (depth + shortest - 1) / shortest;
}

#define GRAMIAN_DEFINE_PRODUCTS(T)                                                                 \
  template void gram<T>(Context&, MatrixView<const T>, Side, const Update<T>&, MatrixView<T>,      \
                        Workspace);                                                                \
  template void hermitian_cross<T>(Context&, MatrixView<const T>, MatrixView<const T>, Side,       \
                                   const Update<T>&, MatrixView<T>, Workspace);                    \
  template void hermitian_product<T>(Context&, MatrixView<const T>, MatrixView<const T>,           \
                                     const Update<T>&, MatrixView<T>, Workspace);                  \
  template void apply<T>(Context&, MatrixView<const T>, Side, real_t<T>, MatrixView<T>, Workspace, \
                         Workspace);                                                               \
  template std::size_t packed_hermitian_bytes<T>(index_t);                                         \
  template std::size_t product_workspace<T>(index_t, index_t);                                     \
  template std::size_t apply_workspace<T>(index_t, index_t, int);

GRAMIAN_DEFINE_PRODUCTS(float)
GRAMIAN_DEFINE_PRODUCTS(double)
GRAMIAN_DEFINE_PRODUCTS(std::complex<float>)
GRAMIAN_DEFINE_PRODUCTS(std::complex<double>)

}  // namespace gramian
