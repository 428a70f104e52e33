#include "tensor_map.hpp"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "gramian/cuda/queue.hpp"

namespace gramian::cuda {

namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

// By way of the runtime, so that the library needs no libcuda to load.
Encode encoder() {
  static const Encode encode = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found{};
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
                                           cudaEnableDefault, &found),
          "looking for cuTensorMapEncodeTiled");
    if (found != cudaDriverEntryPointSuccess || !entry)
      throw Error("the CUDA driver has no cuTensorMapEncodeTiled; 12.0 or later is needed");
    return reinterpret_cast<Encode>(entry);
  }();
  return encode;
}

constexpr index_t item = 2;  // bytes

CUtensorMap encode(CUtensorMapDataType type, void* data, const cuuint64_t (&size)[3],
                   const cuuint64_t (&strides)[2], int box_cols, int box_rows) {
  const cuuint32_t box[3] = {static_cast<cuuint32_t>(box_cols), static_cast<cuuint32_t>(box_rows),
                             1};
  const cuuint32_t steps[3] = {1, 1, 1};
  CUtensorMap map;
  const CUresult result =
      encoder()(&map, type, 3, data, size, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw Error("cuTensorMapEncodeTiled failed with code " + std::to_string(result) + " for " +
                std::to_string(size[2]) + " matrices of " + std::to_string(size[1]) + " x " +
                std::to_string(size[0]));
  return map;
}

}  // namespace

bool tensor_map_fits(const Matrices& x, index_t batch, index_t rows, index_t cols) {
  constexpr index_t side = index_t{1} << 31;  // coordinates are 32-bit integers
  return reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 && rows < side && cols < side &&
         batch < side && (rows == 1 || (x.ld % 8 == 0 && x.ld >= cols)) &&
         (batch == 1 || (x.stride % 8 == 0 && x.stride > 0));
}

CUtensorMap tensor_map(const Matrices& x, index_t batch, index_t rows, index_t cols, int box_cols,
                       int box_rows) {
  const auto whole = [](index_t v) { return static_cast<cuuint64_t>((v + 7) / 8 * 8 * item); };
  // Strides of dimensions that have one entry are never used, but must be valid.
  const cuuint64_t row = rows == 1 ? whole(cols) : static_cast<cuuint64_t>(x.ld * item);
  const cuuint64_t matrix =
      batch == 1 ? row * static_cast<cuuint64_t>(rows) : static_cast<cuuint64_t>(x.stride * item);
  const cuuint64_t size[3] = {static_cast<cuuint64_t>(cols), static_cast<cuuint64_t>(rows),
                              static_cast<cuuint64_t>(batch)};
  const cuuint64_t strides[2] = {row, matrix};
  return encode(CU_TENSOR_MAP_DATA_TYPE_FLOAT16, x.data, size, strides, box_cols, box_rows);
}

CUtensorMap float_tensor_map(const float* data, index_t rows, index_t cols, index_t ld,
                             int box_cols, int box_rows) {
  const auto whole = [](index_t v) { return static_cast<cuuint64_t>((v + 3) / 4 * 4 * 4); };
  const cuuint64_t row = whole(rows == 1 ? cols : ld);
  const cuuint64_t size[3] = {static_cast<cuuint64_t>(cols), static_cast<cuuint64_t>(rows), 1};
  const cuuint64_t strides[2] = {row, row * static_cast<cuuint64_t>(rows)};
  return encode(CU_TENSOR_MAP_DATA_TYPE_FLOAT32, const_cast<float*>(data), size, strides, box_cols,
                box_rows);
}

}  // namespace gramian::cuda
