#include "cublas.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>

#include "library_handles.hpp"
#include "shared_library.hpp"

namespace gramian::cuda {

namespace {

// The part of cuBLAS's C interface in use (the same in versions 12 and 13), restated because its
// headers are no part of the compiler's packages.
using Handle = void*;
using BlasStatus = int;  // 0: success
enum Operation : int { op_none = 0, op_transpose = 1, op_adjoint = 2 };
enum ComputeType : int { compute_32f = 68, compute_64f = 70, compute_32f_fast_tf32 = 77 };
constexpr int gemm_default = -1;

// No reduction (as of split sums) in the type of the result where that is the narrower one. The
// other bits stay 0: plain float32 products never use tf32.
constexpr int math_mode = 16;

template <class Int>
using GemmStridedBatchedEx = BlasStatus (*)(Handle, Operation, Operation, Int m, Int n, Int k,
                                            const void* alpha, const void* a, cudaDataType, Int lda,
                                            long long stride_a, const void* b, cudaDataType,
                                            Int ldb, long long stride_b, const void* beta, void* c,
                                            cudaDataType, Int ldc, long long stride_c, Int batch,
                                            ComputeType, int algorithm);

struct Library {
  BlasStatus (*create)(Handle*);
  BlasStatus (*set_stream)(Handle, cudaStream_t);
  BlasStatus (*set_workspace)(Handle, void*, std::size_t);
  BlasStatus (*set_math_mode)(Handle, int);
  const char* (*status_string)(BlasStatus);
  GemmStridedBatchedEx<int> gemm;
  GemmStridedBatchedEx<std::int64_t> gemm_64;
};

Library load() {
  const SharedLibrary library({"libcublas.so.13", "libcublas.so.12"},
                              {"libcublasLt.so.13", "libcublasLt.so.12"}, "nvidia-cublas");
  Library l{};
  library.resolve(l.create, "cublasCreate_v2");
  library.resolve(l.set_stream, "cublasSetStream_v2");
  library.resolve(l.set_workspace, "cublasSetWorkspace_v2");
  library.resolve(l.set_math_mode, "cublasSetMathMode");
  library.resolve(l.status_string, "cublasGetStatusString");
  library.resolve(l.gemm, "cublasGemmStridedBatchedEx");
  library.resolve(l.gemm_64, "cublasGemmStridedBatchedEx_64");
  return l;
}

const Library& library() {
  static auto* const loaded = new LoadedOnce<Library>;
  return (*loaded)(load);
}

HandlePool<Handle>& pool() {
  static auto* const it = new HandlePool<Handle>;
  return *it;
}

void check_blas(const Library& l, BlasStatus status, const char* what) {
  if (status == 0) return;
  cudaGetLastError();
  throw Error(std::string(what) + ": " + l.status_string(status));
}

Handle make_handle(const Library& l) {
  const RelaxedCapture relaxed;
  Handle handle = nullptr;
  check_blas(l, l.create(&handle), "cublasCreate");
  check_blas(l, l.set_math_mode(handle, math_mode), "cublasSetMathMode");
  return handle;
}

std::size_t bytes_of(cudaDataType type) {
  switch (type) {
    case CUDA_R_16F:
      return 2;
    case CUDA_R_32F:
      return 4;
    case CUDA_R_64F:
    case CUDA_C_32F:
      return 8;
    case CUDA_C_64F:
      return 16;
    default:
      throw Error("no such type of a product");
  }
}

/// 1 and 0 as the complex (and so the real) numbers that alpha and beta point to.
constexpr float one_32[] = {1, 0};
constexpr float zero_32[] = {0, 0};
constexpr double one_64[] = {1, 0};
constexpr double zero_64[] = {0, 0};

Operation operation(Op op, bool is_complex) {
  if (op == Op::none) return op_none;
  return op == Op::adjoint && is_complex ? op_adjoint : op_transpose;
}

template <class Int>
BlasStatus run(GemmStridedBatchedEx<Int> function, Handle handle, const Gemm& g) {
  const bool is_complex = g.type == CUDA_C_32F || g.type == CUDA_C_64F;
  const bool is_64 = g.type == CUDA_R_64F || g.type == CUDA_C_64F;
  const ComputeType compute = is_64 ? compute_64f : g.tf32 ? compute_32f_fast_tf32 : compute_32f;
  return function(handle, operation(g.op_a, is_complex), operation(g.op_b, is_complex),
                  static_cast<Int>(g.m), static_cast<Int>(g.n), static_cast<Int>(g.k),
                  is_64 ? static_cast<const void*>(one_64) : one_32, g.a, g.type,
                  static_cast<Int>(g.lda), g.stride_a, g.b, g.type, static_cast<Int>(g.ldb),
                  g.stride_b, is_64 ? static_cast<const void*>(zero_64) : zero_32, g.c, g.type_c,
                  static_cast<Int>(g.ldc), g.stride_c, static_cast<Int>(g.batch), compute,
                  gemm_default);
}

}  // namespace

std::size_t cublas_workspace_bytes(int device) {
  int major = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
        "cudaDeviceGetAttribute");
  // NVIDIA's recommendation for cublasSetWorkspace: 32 MiB from Hopper on, else 4 MiB.
  return static_cast<std::size_t>(major >= 9 ? 32 : 4) << 20;
}

Cublas::Cublas(const Queue& queue, void* workspace, std::size_t bytes)
    : device_(queue.device), handle_(nullptr) {
  const DeviceGuard guard(device_);
  const Library& l = library();
  handle_ = pool().take(device_, [&] { return make_handle(l); });
  try {
    // In this order: a new stream brings back the handle's own workspace.
    check_blas(l, l.set_stream(handle_, queue.stream), "cublasSetStream");
    check_blas(l, l.set_workspace(handle_, workspace, bytes), "cublasSetWorkspace");
  } catch (...) {
    pool().give(device_, handle_);
    throw;
  }
}

Cublas::~Cublas() { pool().give(device_, handle_); }

void Cublas::gemm(const Gemm& gemm) {
  const DeviceGuard guard(device_);
  const Library& l = library();
  const index_t longest = std::max({gemm.m, gemm.n, gemm.k, gemm.lda, gemm.ldb, gemm.ldc});
  // Kernels put the batch on the third dimension of the grid, which ends at 65535.
  constexpr index_t batch_limit = 65535;
  const auto moved = [](const void* data, index_t elements, cudaDataType type) {
    return static_cast<const char*>(data) + elements * static_cast<index_t>(bytes_of(type));
  };
  for (index_t first = 0; first < gemm.batch; first += batch_limit) {
    Gemm part = gemm;
    part.batch = std::min(batch_limit, gemm.batch - first);
    part.a = moved(gemm.a, first * gemm.stride_a, gemm.type);
    part.b = moved(gemm.b, first * gemm.stride_b, gemm.type);
    part.c = const_cast<char*>(moved(gemm.c, first * gemm.stride_c, gemm.type_c));
    check_blas(l,
               longest <= std::numeric_limits<int>::max() ? run(l.gemm, handle_, part)
                                                          : run(l.gemm_64, handle_, part),
               "cublasGemmStridedBatchedEx");
  }
}

}  // namespace gramian::cuda
