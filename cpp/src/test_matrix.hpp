// What a read of A multiplies by: a basis as it stands, or the sketch, which is made tile by tile
// where it is needed and never as a whole.
#pragma once

#include <optional>

#include "gramian/sketch.hpp"
#include "orthonormalize.hpp"
#include "thin.hpp"
#include "tile_kernel.hpp"

namespace gramian::detail {

// Depth of a partial sum of Y: this many rows of Z stay in L1. Also what the bound on the rounding
// of Y rests on (pass_roundings).
inline constexpr index_t pass_depth = 256;

template <class T>
class TestMatrix {
 public:
  // Bases are test matrices as they are.
  TestMatrix(const Thin<T>& basis)
      : rows(basis.rows), cols(basis.cols), ld(basis.ld), basis_(&basis) {}
  TestMatrix(std::uint64_t seed, index_t r, index_t c)
      : rows(r), cols(c), ld(Thin<T>(0, c).ld), seed_(seed) {}

  bool stored() const { return basis_ != nullptr; }
  std::uint64_t seed() const { return seed_; }

  /// Rows [first, first + count), ld apart, count at most pass_depth: in `room` if they are made.
  const T* tile(index_t first, index_t count, std::vector<T>& room) const {
    if (basis_) return basis_->row(first);
    room.resize(static_cast<std::size_t>(pass_depth * ld));
    fill(first, count, room.data());
    return room.data();
  }

  void fill(index_t first, index_t count, T* to) const {
    const auto row = static_cast<std::uint64_t>(first);
    if constexpr (is_complex_v<T>) {
      Thin<real_t<T>> signs(count, cols);
      tile_kernels<real_t<T>>().sketch(seed_, row, count, cols, signs.row(0), signs.ld);
      for (index_t i = 0; i < count; ++i)
        for (index_t j = 0; j < ld; ++j) to[i * ld + j] = j < cols ? T(signs(i, j)) : T(0);
    } else {
      tile_kernels<T>().sketch(seed_, row, count, cols, to, ld);
    }
  }

  index_t rows;
  index_t cols;
  index_t ld;

 private:
  const Thin<T>* basis_ = nullptr;
  std::uint64_t seed_ = 0;
};

/// The triangle C that makes the columns of sketch C orthonormal; none where too few rows, or
/// chance, leave them too far from that to begin with.
template <class T>
std::optional<Small<wide_t<T>>> sketch_triangle(Context& ctx, const TestMatrix<T>& sketch) {
  using R = real_t<T>;
  using D = wide_t<T>;
  const index_t size = sketch.cols;
  const index_t tiles = (sketch.rows + pass_depth - 1) / pass_depth;
  const index_t parts = std::clamp<index_t>(tiles, 1, 8);
  // Sums of up to 256 products of signs are exact in every type, and so are their sums in double.
  std::vector<Small<double>> sums(static_cast<std::size_t>(parts), Small<double>(size, size));
  ctx.run(parts, [&](index_t part, int) {
    Thin<R> signs(pass_depth, size);
    Small<R> gram(size, size);
    Small<double>& sum = sums[static_cast<std::size_t>(part)];
    for (index_t t = tiles * part / parts; t < tiles * (part + 1) / parts; ++t) {
      const index_t count = std::min(pass_depth, sketch.rows - t * pass_depth);
      tile_kernels<R>().sketch(sketch.seed(), static_cast<std::uint64_t>(t * pass_depth), count,
                               size, signs.row(0), signs.ld);
      gemm<R>(true, false, size, size, count, R(1), signs.row(0), signs.ld, signs.row(0), signs.ld,
              R(0), gram.data(), size);
      for (std::size_t e = 0; e < sum.entries.size(); ++e)
        sum.entries[e] += static_cast<double>(gram.entries[e]);
    }
  });
  for (index_t part = 1; part < parts; ++part)
    for (std::size_t e = 0; e < sums[0].entries.size(); ++e)
      sums[0].entries[e] += sums[static_cast<std::size_t>(part)].entries[e];
  Small<double>& g = sums[0];
  if (!cholesky(g.data(), size)) return {};
  Small<D> inverse(size, size);
  for (index_t j = 0; j < size; ++j) {
    // The columns' lengths squared are `rows`: a pivot is what the earlier columns leave of that.
    if (g(j, j) * g(j, j) < 0.25 * static_cast<double>(sketch.rows)) return {};
    for (index_t i = j; i >= 0; --i) {
      D sum = i == j ? D(1) : D(0);
      for (index_t k = i + 1; k <= j; ++k) sum -= g(i, k) * inverse(k, j);
      inverse(i, j) = sum / g(i, i);
    }
  }
  return inverse;
}

}  // namespace gramian::detail
