// cuSOLVER's Cholesky factorization. Nothing is proved by it: what it returns is verified
// (bounds_cholesky.hpp), so that its rounding errors need no bound.
#pragma once

#include <library_types.h>

#include <cstddef>

#include "gramian/cuda/queue.hpp"
#include "gramian/matrix_view.hpp"

namespace gramian::cuda {

/// cuSOLVER itself failed.
class SolverError : public Error {
 public:
  using Error::Error;
};

/// The use of cuSOLVER by one thread on one queue.
class Cusolver {
 public:
  /// Throws Error where cuSOLVER cannot be found, SolverError where it fails.
  explicit Cusolver(const Queue& queue);
  ~Cusolver();
  Cusolver(const Cusolver&) = delete;
  Cusolver& operator=(const Cusolver&) = delete;

  /// Bytes of device memory that a factorization needs.
  std::size_t cholesky_bytes(cudaDataType type, index_t m, index_t ld);

  /// L <- the lower triangular factor of the Hermitian matrix A = L L^H, row by row in place of A's
  /// lower triangle (float64 or complex128). Device memory for the work: `workspace`,
  /// cholesky_bytes() long, and `info`. Waits for the result: whether the factorization ran to its
  /// end.
  bool cholesky(cudaDataType type, index_t m, void* a, index_t ld, void* workspace,
                std::size_t bytes, int* info);

 private:
  struct Sizes {
    std::size_t device, host;
  };
  Sizes sizes(cudaDataType type, index_t m, const void* a, index_t ld);

  Queue queue_;
  void* handle_ = nullptr;
  void* parameters_ = nullptr;
};

/// Whether cuSOLVER can be used there. A failure is not remembered.
bool has_cusolver(const Queue& queue);

}  // namespace gramian::cuda
