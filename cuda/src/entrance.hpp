// In and out: from the caller's arrays to the iteration's matrices and back, with the scale.
//
// Scaling is by a power of two, so that scaling the input by one changes no bit of the result. For
// float16 storage the power is chosen by the Frobenius norm, such that ||y||_F^2 lies in
// [sqrt(m)/4, sqrt(m)): then the eigenvalues of y y^H lie around 1, its entries under sqrt(m) and
// those of its square under m, all well inside the range of float16 whether the spectrum is flat or
// has one large value. For other storage the largest entry (real or imaginary part) of y lies in
// [1/2, 1), as on the CPU.
//
// A matrix that holds NaN or infinity becomes NaN throughout; a zero matrix stays zero.
#pragma once

#include "gramian/array_ref.hpp"
#include "gramian/cuda/queue.hpp"
#include "products.hpp"

namespace gramian::cuda {

enum class Storage { float16, float32, float64, complex64, complex128 };

index_t element_size(Storage storage);

/// float64 or complex128 where `wide`, else float32 or complex64.
Storage storage_of(DType dtype, bool wide);

/// Figures of each matrix of the batch, in device memory.
struct Entrance {
  double* parts;  // [batch][entrance_parts(rows, cols)]
  int* exponent;  // [batch] y = x 2^-exponent; 0 if x is zero or not finite
  double* norm;   // [batch] ||y||_F before y is rounded; NaN if x is not finite
};

/// Doubles per matrix that the first pass leaves: pairs of a part's largest magnitude (NaN or
/// infinity if the part holds either) and its sum of squares in units of 4^e, where 2^e is the
/// first power of two above that magnitude. So neither overflows nor vanishes.
index_t entrance_parts(index_t rows, index_t cols);

/// First pass over x (..., rows, cols): fills the parts.
void measure(const Queue& queue, const ArrayRef& x, const Entrance& figures);

/// y (m x n, m <= n, transposed where x is tall) <- x 2^-exponent in the storage type; fills
/// exponent and norm from the parts.
void enter(const Queue& queue, const ArrayRef& x, Storage storage, const Entrance& figures,
           Matrices y);

/// As enter, without scaling and figures.
void load(const Queue& queue, const ArrayRef& x, Storage storage, Matrices y);

/// out (..., rows, cols) <- y, transposed back where out is tall, rounded to out's type.
void leave(const Queue& queue, Matrices y, Storage storage, const ArrayRef& out);

}  // namespace gramian::cuda
