// lambda_1(G) < s, proved by a Cholesky factor of s I - G that is verified: L L^H is multiplied
// out, so that it does not matter how L came about. docs/bounds.md has the proof.
#pragma once

#include <cstdint>
#include <optional>

#include "bounds_proof.hpp"
#include "gram_squares.hpp"
#include "gramian/bracket_figures.hpp"

namespace gramian::cuda {

/// Improves bounds on sigma_1^2 of matrix b until they reach the goal; the Lanczos steps that took.
/// Nothing if that fails: the bounds hold all the same. T: double or std::complex<double>.
template <class T>
std::optional<int> prove_by_factorization(const Queue& queue, const GramSquares& squares, index_t b,
                                          const detail::Goal& goal, std::uint64_t seed,
                                          SquaredBounds<T>& bounds);

}  // namespace gramian::cuda
