// The register-tile product that every dense kernel ends in: a few rows of A against one to three
// vectors of columns of B, accumulated in registers over k. One source (tile_kernel.inl) is
// compiled per instruction set; the best set of the running machine is chosen once.
//
// Panels. An operand is read as panels of `panel` consecutive rows (of A) or columns (of B); at
// each k a panel holds its `panel` entries side by side (complex: all real parts, then all
// imaginary parts). A and B share the format, so a Gram product packs its operand once.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gramian::detail {

template <class R>
struct TileArgs {
  std::int64_t k;         // length of the sum
  const R* a;             // first of the tile's rows at k = 0
  std::int64_t a_stride;  // from k to k + 1
  std::int64_t a_plane;   // from real to imaginary part (complex only)
  std::int64_t a_row;     // from row to row (real_rows only; panels hold rows side by side)
  const R* b;
  std::int64_t b_stride;
  std::int64_t b_plane;
  R* c;              // C tile, columns adjacent (complex: interleaved)
  std::int64_t ldc;  // in reals
  const R* d;        // C <- alpha * A B + beta * D; null for no D; may be c itself
  std::int64_t ldd;
  R alpha;
  R beta;
  int rows;  // valid rows and columns of this tile; smaller than the full tile at edges
  int cols;
};

template <class R>
struct TileKernels {
  using Fn = void (*)(const TileArgs<R>&);
  // to (rows x cols, rows ld apart) <- rows first, first + 1, ... of the sketch, in whole vectors,
  // with zeros beyond cols.
  using SketchTile = void (*)(std::uint64_t seed, std::uint64_t first, std::int64_t rows,
                              std::int64_t cols, R* to, std::int64_t ld);
  int vector;        // entries of R in a vector
  int panel;         // 3 vectors
  int rows;          // rows of a real tile; divides panel
  int complex_rows;  // rows of a complex tile; divides panel
  Fn real[3];        // by number of column vectors - 1
  Fn real_rows[3];   // the same for an A that is not packed: rows a_row apart, k adjacent
  Fn complex[4][3];  // [conjugate A + 2 * conjugate B][vectors - 1]
  SketchTile sketch;
  const char* isa;
};

/// The kernels for this machine (GRAMIAN_ISA=generic|avx2|avx512 lowers the choice).
template <class R>
const TileKernels<R>& tile_kernels();

}  // namespace gramian::detail
