// What becomes of the sums: each warp finishes and writes its 16 rows of a 64 x 64 chunk by itself,
// by way of 2 KB of shared memory, so that whole 32-byte sectors are written. (Bulk stores need
// both warpgroup barriers and waits for the copy engine around every chunk; with them a tile's end
// took twice as long.)
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "hopper_tiling.hpp"
#include "wgmma.cuh"

namespace gramian::cuda::hopper {

__device__ __forceinline__ std::uint32_t pack(float low, float high, bool bfloat16) {
  if (!bfloat16) return pack_half(low, high);
  const __nv_bfloat162 h = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&h);
}

/// v: this thread's 32 entries of a 64 x 64 chunk on the diagonal, of which `size` rows and columns
/// are inside the matrix.
__device__ __forceinline__ void add_to_diagonal(float (&v)[32], float gamma, int size) {
  const int row = threadIdx.x % warpgroup / 32 * 16 + threadIdx.x % 32 / 4;
  const int col = 2 * (threadIdx.x % 4);
#pragma unroll
  for (int e = 0; e < 32; ++e) {
    const int r = row + 8 * (e / 2 % 2);
    if (r == col + 8 * (e / 4) + e % 2 && r < size) v[e] += gamma;
  }
}

/// Sum of squares of this thread's entries, those off the diagonal counted for their mirror images
/// too. On the diagonal chunk entries above it are left out.
__device__ __forceinline__ float sum_squares(const float (&v)[32], bool diagonal) {
  const int row = threadIdx.x % warpgroup / 32 * 16 + threadIdx.x % 32 / 4;
  const int col = 2 * (threadIdx.x % 4);
  float twice = 0;
  float once = 0;
  if (!diagonal) {
#pragma unroll
    for (int e = 0; e < 32; ++e) twice += v[e] * v[e];
  } else {
#pragma unroll
    for (int e = 0; e < 32; ++e) {
      const int r = row + 8 * (e / 2 % 2);
      const int c = col + 8 * (e / 4) + e % 2;
      if (r > c) twice += v[e] * v[e];
      if (r == c) once += v[e] * v[e];
    }
  }
  return 2 * twice + once;
}

/// Reads this warp's 16 rows of a 64 x 64 chunk of float16, 128-byte rows, swizzled.
__device__ __forceinline__ void read_chunk(std::uint32_t (&h)[16], std::uint32_t from) {
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x % warpgroup / 32;
#pragma unroll
  for (int j = 0; j < 8; j += 2) {
    std::uint32_t four[4];
    ldmatrix4(from + swizzled(16 * warp + 8 * (lane / 8 % 2) + lane % 8, 16 * (j + lane / 16)),
              four);
#pragma unroll
    for (int e = 0; e < 4; ++e) h[2 * j + e] = four[e];
  }
}

/// Makes the 16 x 16 block on the diagonal symmetric: its upper triangle becomes the mirror image
/// of the lower one. h[2 j + i]: pairs of entries of rows 8 i.., columns 8 j.. of the warp's part.
__device__ __forceinline__ void mirror_diagonal_block(std::uint32_t (&h)[16]) {
  const int warp = threadIdx.x % warpgroup / 32;
  const int row = threadIdx.x % 32 / 4;
  const int col = 2 * (threadIdx.x % 4);
  const auto symmetric = [&](std::uint32_t v) {
    const std::uint32_t t = movmatrix(v);
    if (col > row) v = (v & 0xffff0000u) | (t & 0xffffu);
    if (col + 1 > row) v = (v & 0xffffu) | (t & 0xffff0000u);
    return v;
  };
#pragma unroll
  for (int j = 0; j < 8; j += 2)
    if (j == 2 * warp) {
      h[2 * j] = symmetric(h[2 * j]);
      h[2 * j + 3] = symmetric(h[2 * j + 3]);
      h[2 * j + 2] = movmatrix(h[2 * j + 1]);
    }
}

/// Eight entries to global memory, of which `count` > 0 exist.
__device__ __forceinline__ void store_eight(std::uint16_t* to, uint4 v, int count) {
  if (count >= 8) {
    *reinterpret_cast<uint4*>(to) = v;
    return;
  }
  const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int e = 0; e < 7; ++e)
    if (e < count) to[e] = static_cast<std::uint16_t>(words[e / 2] >> (16 * (e % 2)));
}

/// The warp's 16 x 64 part, of which `rows` x `cols` are wanted, to rows of `ld` entries at `to`.
__device__ __forceinline__ void store_rows(const std::uint32_t (&h)[16], std::uint32_t staging,
                                           std::uint16_t* to, long long ld, int rows, int cols) {
  const int lane = threadIdx.x % 32;
  __syncwarp();
#pragma unroll
  for (int j = 0; j < 8; j += 2)
    stmatrix4(staging + swizzled(lane % 16, 16 * (j + lane / 16)), h[2 * j], h[2 * j + 1],
              h[2 * j + 2], h[2 * j + 3]);
  __syncwarp();
  const int col = lane % 8 * 8;
#pragma unroll
  for (int t = 0; t < 4; ++t) {
    const int row = lane / 8 + 4 * t;
    const uint4 v = load_shared(staging + swizzled(row, 2 * col));
    if (row < rows && col < cols) store_eight(to + row * ld + col, v, cols - col);
  }
}

/// The same transposed: columns of the part become rows at `to`.
__device__ __forceinline__ void store_columns(const std::uint32_t (&h)[16], std::uint32_t staging,
                                              std::uint16_t* to, long long ld, int rows, int cols) {
  const int lane = threadIdx.x % 32;
  // 32-byte rows; every other four of them with their halves exchanged, against bank conflicts.
  const auto place = [&](int row, int half) {
    return staging + static_cast<std::uint32_t>(32 * row + 16 * (half ^ (row / 4 % 2)));
  };
  __syncwarp();
#pragma unroll
  for (int j = 0; j < 8; j += 2)
    stmatrix4_transposed(place(8 * (j + lane / 16) + lane % 8, lane / 8 % 2), h[2 * j],
                         h[2 * j + 1], h[2 * j + 2], h[2 * j + 3]);
  __syncwarp();
  const int half = lane % 2;
#pragma unroll
  for (int t = 0; t < 4; ++t) {
    const int row = lane / 2 + 16 * t;
    const uint4 v = load_shared(place(row, half));
    if (row < cols && 8 * half < rows) store_eight(to + row * ld + 8 * half, v, rows - 8 * half);
  }
}

/// A warpgroup's 64 x 64 chunk transposed into shared memory (8 KB), each warp its part.
__device__ __forceinline__ void stage_transposed(const std::uint32_t (&h)[16],
                                                 std::uint32_t staging) {
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x % warpgroup / 32;
#pragma unroll
  for (int j = 0; j < 8; j += 2)
    stmatrix4_transposed(
        staging + swizzled(8 * (j + lane / 16) + lane % 8, 32 * warp + 16 * (lane / 8 % 2)),
        h[2 * j], h[2 * j + 1], h[2 * j + 2], h[2 * j + 3]);
}

/// From there to rows of `ld` entries at `to`, of which `cols` x `rows` are wanted: 16 rows a warp.
__device__ __forceinline__ void store_transposed(std::uint32_t staging, std::uint16_t* to,
                                                 long long ld, int rows, int cols) {
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x % warpgroup / 32;
  const int at = lane % 8 * 8;
#pragma unroll
  for (int t = 0; t < 4; ++t) {
    const int row = 16 * warp + lane / 8 + 4 * t;
    const uint4 v = load_shared(staging + swizzled(row, 2 * at));
    if (row < cols && at < rows) store_eight(to + row * ld + at, v, rows - at);
  }
}

}  // namespace gramian::cuda::hopper
