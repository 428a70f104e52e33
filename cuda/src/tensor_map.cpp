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
  const cuuint32_t box[3] = {static_cast<cuuint32_t>(box_cols), static_cast<cuuint32_t>(box_rows),
                             1};
  const cuuint32_t steps[3] = {1, 1, 1};
  CUtensorMap map;
  const CUresult result =
      encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 3, x.data, size, strides, box, steps,
                CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw Error("cuTensorMapEncodeTiled failed with code " + std::to_string(result) + " for " +
                std::to_string(batch) + " matrices of " + std::to_string(rows) + " x " +
                std::to_string(cols));
  return map;
}

}  // namespace gramian::cuda
