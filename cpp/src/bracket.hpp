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

/// What a bracket should reach, once it is rounded to the type of the results.
struct Goal {
  double rtol;
  int exponent;  // X is 2^-exponent times the input
  bool single;   // results are float32

  /// An upper bound on 2^-exponent sigma_1 that, rounded outwards, is within rtol of this lower
  /// one rounded outwards, with an ulp to spare for whoever divides the two.
  double upper(double lower) const {
    const double returned = single
                                ? static_cast<double>(rounding::round_down<float>(lower, exponent))
                                : rounding::round_down<double>(lower, exponent);
    return std::ldexp(returned, -exponent) * (1 + rtol) * (1 - (single ? 0x1p-22 : 0x1p-51));
  }
};

template <class T>
std::size_t bracket_workspace(index_t rows, index_t cols, BoundsMethod method);

/// X (float64 or complex128, entries at most 1, not zero) is overwritten.
template <class T>
Proved bracket(Context& ctx, MatrixView<T> x, const Goal& goal, const BoundsOptions& options,
               Workspace workspace);

}  // namespace gramian::detail
