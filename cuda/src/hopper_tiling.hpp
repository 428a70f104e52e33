// How a product is cut into tiles, and what its kernel is told.
#pragma once

#include <cuda.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace gramian::cuda::hopper {

inline constexpr int tile_rows = 128;
inline constexpr int block_depth = 64;  // 128 bytes: the width of a swizzled row
inline constexpr int chunk = 64;        // rows and columns of a piece of the result
inline constexpr int warpgroup = 128;
inline constexpr int block_threads = 3 * warpgroup;

__host__ __device__ constexpr int stage_bytes(int tile) {
  return (tile_rows + tile) * block_depth * 2;
}
// For each of two warpgroups a transposed chunk, and 16 x 64 entries for each of its warps.
inline constexpr int staging_bytes = 2 * 2 * chunk * chunk * 2;

// Tiles of 128 columns go to the two warpgroups in turn, so that one multiplies while the other
// writes; of others each warpgroup has 64 rows (whose sums would leave no registers for a second).
__host__ __device__ constexpr bool takes_turns(int tile) { return tile == 128; }
// As many stages as 227 KB hold.
__host__ __device__ constexpr int stage_count(int tile) {
  return (227 * 1024 - 2048 - staging_bytes) / stage_bytes(tile) < 8
             ? (227 * 1024 - 2048 - staging_bytes) / stage_bytes(tile)
             : 8;
}
__host__ __device__ constexpr int shared_bytes(int tile) {
  return 1024 + stage_count(tile) * stage_bytes(tile) + staging_bytes + 256;
}

struct ProductArguments {
  CUtensorMap a;     // boxes of 64 x 128
  CUtensorMap b;     // see the kernel
  CUtensorMap d;     // boxes of 64 x 128
  std::uint16_t* c;  // 16-byte aligned, c_ld and c_stride multiples of 8
  long long c_stride;
  long long c_ld;
  int rows, cols, depth, batch;
  int whole, units;              // of the Tiling; filled in by the launch
  const double* device_scalars;  // see Scalars
  float alpha, beta, gamma;
  double* norm;  // null: not wanted; see norm_parts()
  int norm_count;
  bool add_d;
  bool store, store_mirror;  // as it is; transposed. Hermitian results: both or neither
  bool bfloat16;             // the type of what is stored
};

/// Tiles of one matrix, in units: what a cluster takes at a time. A unit is `cluster` tiles one
/// above the other. Hermitian results by single blocks of 256 columns are cut more finely: where
/// the diagonal leaves half a tile to do, it is a tile of 128 columns, and two of those make a
/// unit. So all units take the same time, and 4096 x 4096 comes to 264 of them: two for each of 132
/// multiprocessors.
struct Tiling {
  int row_units, col_tiles, unit_rows, tile;
  bool hermitian, halves;

  __host__ __device__ Tiling(int rows, int cols, int tile_, int cluster, bool hermitian_)
      : row_units((rows + cluster * tile_rows - 1) / (cluster * tile_rows)),
        col_tiles((cols + tile_ - 1) / tile_),
        unit_rows(cluster * tile_rows),
        tile(tile_),
        hermitian(hermitian_),
        halves(has_halves(tile_, cluster, hermitian_)) {}

  __host__ __device__ static constexpr bool has_halves(int tile, int cluster, bool hermitian) {
    return hermitian && cluster == 1 && tile == 2 * tile_rows;
  }

  /// Whole tiles that a row of units has.
  __host__ __device__ int cols_at(int row) const {
    if (!hermitian) return col_tiles;
    const int needed = ((row + 1) * unit_rows + (halves ? 0 : tile - 1)) / tile;
    return needed < col_tiles ? needed : col_tiles;
  }
  __host__ __device__ int whole() const {
    if (!hermitian) return row_units * col_tiles;
    int n = 0;
    for (int r = 0; r < row_units; ++r) n += cols_at(r);
    return n;
  }
  /// Rows 0, 2, 4, ... end in half a tile.
  __host__ __device__ int half_tiles() const { return halves ? (row_units + 1) / 2 : 0; }
  __host__ __device__ int units() const { return whole() + (half_tiles() + 1) / 2; }
};

/// Sums of squares per matrix that a Hermitian product delivers.
inline int norm_parts(const Tiling& tiling, int cluster) {
  return (tiling.whole() + tiling.half_tiles()) * cluster * 8;
}

}  // namespace gramian::cuda::hopper
