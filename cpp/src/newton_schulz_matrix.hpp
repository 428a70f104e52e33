// The iteration on one matrix already scaled and converted; private to newton_schulz*.cpp.
#pragma once

#include <cstddef>

#include "gramian/newton_schulz.hpp"
#include "gramian/symmetric_product.hpp"

namespace gramian::detail {

template <class T>
std::size_t matrix_workspace(index_t rows, index_t cols, const NewtonSchulzOptions& options,
                             int threads);

/// Runs all steps on X (2^-exponent times the input, columns adjacent) in place; returns s for
/// this X.
template <class T>
double iterate(Context& ctx, MatrixView<T> x, int exponent, const NewtonSchulzOptions& options,
               Workspace workspace);

/// ||I - G||_F / sqrt(r).
template <class T>
double orthogonality_residual(Context& ctx, MatrixView<const T> x, Workspace workspace);

}  // namespace gramian::detail
