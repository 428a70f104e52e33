#include "gramian/cuda/newton_schulz.hpp"

#include <algorithm>

#include "small_matrices.hpp"

namespace gramian::cuda {

namespace {

// Eigenvalue error of a fresh Gram matrix in 16-bit storage (or of tf32 products), relative to its
// norm. Entries are rounded to 2^-12 each, at random: what was measured for restarts is better than
// this, and a table of gramian's own is used with as many restarts as leave its result unchanged to
// three digits (docs/notes/newton_schulz_gpu.md).
constexpr double half_delta = 0x1p-13;

// Modelled worst error up to which the Gram form is taken. Measured errors are 20 times smaller and
// more, and the peer methods' own error on such spectra is 0.1 to 0.9.
constexpr double half_accepted = 0.16;

// Hermitian products take 0.55 to 0.65 of a full one at large m.
constexpr double hermitian_cost = 0.6;

}  // namespace

NewtonSchulzPlan plan_newton_schulz(index_t rows, index_t cols, std::span<const Row> table,
                                    Arithmetic arithmetic,
                                    std::optional<NewtonSchulzMethod> wanted) {
  if (arithmetic == Arithmetic::float32 || arithmetic == Arithmetic::float64)
    return gramian::plan_newton_schulz(
        rows, cols, table,
        arithmetic == Arithmetic::float64 ? unit_roundoff<double> : unit_roundoff<float>, wanted);

  // Matrices that stay in shared memory take the standard form, which needs less of it.
  const bool small = std::max(rows, cols) <= longest_small_half(std::min(rows, cols));
  if (!wanted && arithmetic == Arithmetic::half && small) return {};
  return gramian::plan_newton_schulz(rows, cols, table, {half_delta, half_accepted, hermitian_cost},
                                     wanted);
}

}  // namespace gramian::cuda
