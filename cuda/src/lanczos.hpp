// Lanczos on the device for one Hermitian matrix, as in the CPU's lanczos.hpp: a step at a time,
// its coefficients left in device memory. What they say is for the host (gramian/tridiagonal.hpp).
#pragma once

#include <cstdint>

#include "entrance.hpp"
#include "gramian/cuda/queue.hpp"
#include "products.hpp"

namespace gramian::cuda {

/// Device memory of a run: float64 or complex128.
struct LanczosMemory {
  Matrices g;            // m x m
  Matrices basis;        // a vector in each row
  double* coefficients;  // two for each step: the diagonal entry, and what lies beside it
  double* parts;         // lanczos_parts(m)
};
index_t lanczos_parts(index_t m);

/// The first row of the basis.
void lanczos_start(const Queue& queue, Storage storage, index_t m, std::uint64_t seed,
                   const LanczosMemory& memory);

/// Row `step` + 1 of the basis and coefficients of `step`. Where the space is invariant, up to
/// rounding, the row means nothing.
void lanczos_step(const Queue& queue, Storage storage, index_t m, index_t step,
                  const LanczosMemory& memory);

/// v <- the conjugate of sum y_j (row j of the basis), j < steps.
void ritz_vector(const Queue& queue, Storage storage, index_t m, Matrices basis, const double* y,
                 index_t steps, void* v);

/// b <- s I - g below the diagonal and on it, 0 above.
void shifted_triangle(const Queue& queue, Storage storage, index_t m, Matrices g, double s,
                      Matrices b);

}  // namespace gramian::cuda
