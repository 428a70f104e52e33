// The certified bracket of one matrix already scaled and converted; private to bracket.cpp and
// spectral_norm_bounds.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gramian/bounds.hpp"
#include "gramian/bracket_figures.hpp"
#include "gramian/rounding.hpp"
#include "gramian/symmetric_product.hpp"

namespace gramian::detail {

template <class T>
std::size_t bracket_workspace(index_t rows, index_t cols, BoundsMethod method);

/// X (float64 or complex128, entries at most 1, not zero) is overwritten.
template <class T>
Proved bracket(Context& ctx, MatrixView<T> x, const Goal& goal, const BoundsOptions& options,
               Workspace workspace);

}  // namespace gramian::detail
