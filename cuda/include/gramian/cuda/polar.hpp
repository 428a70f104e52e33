// Functions of singular values on the GPU: the same names and meaning as gramian/polar.hpp.
//
// Everything is computed in float64 or complex128, whatever the arrays hold, and queued on the
// caller's stream; nothing waits for it, unless check_finite is set. All memory is the caller's.
// What depends on the numbers stays on the device, so a call can be captured into a CUDA graph.
// docs/notes/polar_gpu.md.
#pragma once

#include "gramian/array_ref.hpp"
#include "gramian/cuda/queue.hpp"
#include "gramian/polar.hpp"
#include "gramian/status.hpp"
#include "gramian/workspace.hpp"

namespace gramian::cuda {

struct PolarCall {
  enum Kind { polar, sign, hard, soft } kind = polar;
  ArrayRef x;
  ArrayRef out;
  ArrayRef p;  // the Hermitian factor, or absent
  /// polar_figure_count float64 numbers for each matrix, without gaps, or absent: method (0 nothing
  /// done, 1 polynomial steps, 2 SVD, 3 unchanged), steps, rank, residual of the result as
  /// returned, and before it was rounded as far as that is known.
  ArrayRef figures;
  Side side = Side::right;
  double tolerance = 0;          // as PolarOptions; beyond the default it ends earlier
  double bound = 0;              // of hard and soft clipping
  bool lose_unconverged = true;  // NaN for a matrix without convergence
  bool check_finite = false;
};
inline constexpr index_t polar_figure_count = 5;

/// Whether polar factors of such matrices come from an SVD.
bool polar_by_svd(int device, const ArrayRef& x);

std::size_t polar_workspace(const Queue& queue, const PolarCall& call);

/// Status::not_finite (only with check_finite): nothing has been written. Else a matrix with NaN or
/// infinity becomes NaN throughout.
Status polar(const Queue& queue, const PolarCall& call, Workspace workspace);

}  // namespace gramian::cuda
