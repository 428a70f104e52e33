#include "float64_product.cuh"

#include <algorithm>

#include "device_properties.hpp"
#include "float64_product.hpp"

namespace gramian::cuda {

namespace {

index_t triangle(index_t m, index_t side) {
  const index_t tiles = ceil_div(m, side);
  return tiles * (tiles + 1) / 2;
}

template <bool is_complex, int tile>
void start(const Queue& queue, index_t batch, float64::Arguments a) {
  using Shape = float64::Shape<is_complex, tile>;
  const auto kernel = float64::product_kernel<is_complex, tile>;
  allow_shared_memory(reinterpret_cast<const void*>(kernel), queue.device, Shape::shared_bytes);
  a.tiles = triangle(a.m, tile);
  launch_after(queue, kernel, {grid_size(batch * a.tiles), Shape::threads, Shape::shared_bytes},
               "launching a product in float64", a);
}

template <bool is_complex>
void start(const Queue& queue, index_t batch, const float64::Arguments& a, int tile) {
  if (tile == 64) return start<is_complex, 64>(queue, batch, a);
  return start<is_complex, 32>(queue, batch, a);
}

}  // namespace

index_t float64_norm_count(index_t m) { return triangle(m, float64::part_side); }

int float64_tile(const Queue& queue, Storage storage, index_t batch, index_t m) {
  // A multiprocessor takes its share of the tiles at one speed, whatever their number; entries of
  // small tiles cost more. Fitted to measurements on an H100 (docs/notes/float64_product_gpu.md).
  const auto rounds = [&](index_t side) {
    return static_cast<double>(ceil_div(batch * triangle(m, side), multiprocessors(queue.device)) *
                               side * side);
  };
  const double small_penalty = storage == Storage::complex128 ? 1.1 : 1.45;
  return rounds(32) * small_penalty < rounds(64) ? 32 : 64;
}

void float64_product(const Queue& queue, Storage storage, index_t batch, index_t m, index_t depth,
                     Matrices s, Matrices z, Matrices d, Matrices c, const Scalars& scalars,
                     NormParts norm, int tile, bool triangular, const int* done) {
  if (!in_float64(storage)) throw Error("a product in float64 of another type");
  const float64::Arguments a{s,          z, d,     c, scalars,    norm.data,
                             norm.count, m, depth, 0, triangular, done};
  if (storage == Storage::complex128) return start<true>(queue, batch, a, tile);
  start<false>(queue, batch, a, tile);
}

}  // namespace gramian::cuda
