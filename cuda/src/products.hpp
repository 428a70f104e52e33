// What the iteration is made of, over a batch of matrices in device memory. Implementations:
//   GeneralProducts (general_products.cu)  any storage type, cuBLAS and a finishing pass
//   HopperProducts (hopper_products.cu)    float16, own kernels
//
// Internal matrices are row-major with adjacent columns. The long side lies along the rows: X is
// m x n with m <= n, whatever the caller's matrix is (polar(X^T) = polar(X)^T).
#pragma once

#include <cuda_runtime_api.h>

#include "gramian/array_ref.hpp"

namespace gramian::cuda {

/// One matrix every `stride` elements, `ld` elements from one row to the next.
struct Matrices {
  void* data = nullptr;
  index_t ld = 0;
  index_t stride = 0;

  explicit operator bool() const { return data != nullptr; }
};

/// alpha * product + beta * D + gamma * I. With `device`, three doubles {alpha, beta, gamma} per
/// matrix of the batch are read from device memory when the work runs, and the values here are
/// ignored.
struct Scalars {
  double alpha = 1;
  double beta = 0;
  double gamma = 0;
  const double* device = nullptr;
};

/// Sums of squares of a result's entries, in parts: `count` doubles per matrix, which are to be
/// added in order. A sum that is not finite says that the result is not.
struct NormParts {
  double* data = nullptr;
  index_t count = 0;
};

class Products {
 public:
  virtual ~Products() = default;

  /// Row stride (elements) that matrices of `cols` columns must have.
  virtual index_t leading(index_t cols) const = 0;

  /// Parts in which sums of squares of m x m results come.
  virtual index_t norm_count() const = 0;

  /// G <- scalars(X X^H), G Hermitian to the last bit. D is not used. With `norm`, its sum of
  /// squares too; an empty G then means that only the norm is wanted.
  virtual void gram(Matrices x, Matrices g, const Scalars& scalars, NormParts norm) = 0;

  /// C <- scalars(S Z, D), S, Z, D Hermitian and S, Z commuting; C is none of them and Hermitian to
  /// the last bit. D may be empty (then beta counts as 0).
  virtual void product(Matrices s, Matrices z, Matrices d, Matrices c, const Scalars& scalars,
                       NormParts norm) = 0;

  /// P <- alpha P + beta G + gamma I.
  virtual void combine(Matrices g, Matrices p, const Scalars& scalars) = 0;

  /// Y <- S X, S m x m Hermitian, X and Y m x n, Y not X.
  virtual void apply(Matrices s, Matrices x, Matrices y) = 0;

  /// out <- S X, or its transpose where out (..., rows, cols) is tall, in out's own type; only
  /// where can_apply_to(out). Else it is apply() and leave().
  virtual bool can_apply_to(const ArrayRef& out) const { return (void)out, false; }
  virtual void apply_to(Matrices s, Matrices x, const ArrayRef& out) {
    (void)s, (void)x, (void)out;
  }
};

/// The m x n matrices that out holds, transposed where it is tall: `data`, the step from row to row
/// and from column to column, and from matrix to matrix. False where the latter is not one number.
struct Layout {
  void* data = nullptr;
  index_t down = 0;
  index_t across = 0;
  index_t stride = 0;
};
bool wide_layout(const ArrayRef& out, Layout& layout);

}  // namespace gramian::cuda
