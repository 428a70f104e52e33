// cuBLAS, found and loaded when it is first needed: the library neither links to it nor bundles it,
// and runs on the copy that torch or CuPy have loaded already, if there is one.
#pragma once

#include <cuda_runtime_api.h>
#include <library_types.h>

#include <cstddef>
#include <string>
#include <vector>

#include "gramian/cuda/queue.hpp"
#include "gramian/matrix_view.hpp"

namespace gramian::cuda {

/// Bytes of workspace that cuBLAS's kernels are tuned for on this device.
std::size_t cublas_workspace_bytes(int device);

enum class Op { none, transpose, adjoint };

/// Column-major C (m x n) <- op(A) op(B) over a batch. Types of A and B are equal; lengths and
/// strides count elements.
struct Gemm {
  Op op_a = Op::none;
  Op op_b = Op::none;
  index_t m = 0;
  index_t n = 0;
  index_t k = 0;
  cudaDataType type = CUDA_R_32F;
  const void* a = nullptr;
  index_t lda = 0;
  index_t stride_a = 0;
  const void* b = nullptr;
  index_t ldb = 0;
  index_t stride_b = 0;
  cudaDataType type_c = CUDA_R_32F;
  void* c = nullptr;
  index_t ldc = 0;
  index_t stride_c = 0;
  index_t batch = 1;
  bool tf32 = false;  // of float32 types: whether factors may be rounded to tf32
};

/// The use of cuBLAS by one thread on one queue. Throws Error where cuBLAS cannot be found or
/// fails.
class Cublas {
 public:
  /// `workspace` (256-byte aligned device memory) serves every gemm, so that none allocates, also
  /// while the stream is captured; it must live until the work has run.
  Cublas(const Queue& queue, void* workspace, std::size_t bytes);
  ~Cublas();
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;

  void gemm(const Gemm& gemm);

 private:
  int device_;
  void* handle_;
};

}  // namespace gramian::cuda
