// Inverse roots and square roots on the GPU: the same meaning as gramian/inverse_root.hpp, computed
// in float64 or complex128 whatever the input.
//
// Everything is queued on the caller's stream and nothing waits for it, unless `wait` or
// check_finite is set. All memory is the caller's. What depends on the numbers is decided on the
// device, so that a call can be captured into a CUDA graph; a matrix for which the iteration finds
// no answer becomes NaN throughout.
#pragma once

#include <vector>

#include "gramian/array_ref.hpp"
#include "gramian/cuda/queue.hpp"
#include "gramian/inverse_root.hpp"
#include "gramian/workspace.hpp"

namespace gramian::cuda {

struct RootOptions {
  int p = 2;  // from 1 to largest_iterated_root
  double ridge = 0;
  double tol = 0;             // 0: to rounding; else what the residual must not exceed
  bool check_finite = false;  // waits for the stream
  bool wait = false;          // for the outcome
};

/// Known only where the call waited for it.
struct RootOutcome {
  int steps = 0;                // most steps of the iteration
  std::vector<index_t> missed;  // matrices that have become NaN for want of an answer
};

/// Bytes of device memory that inverse_root needs besides its arrays, for these very arguments.
std::size_t inverse_root_workspace(const Queue& queue, const ArrayRef& a, const ArrayRef* root,
                                   const ArrayRef& inverse, const RootOptions& options,
                                   const InverseRootInfo& info);

/// inverse <- (A + ridge lambda_1 I)^(-1/p) for each matrix, and with `root`, for p = 2 and no
/// ridge, root <- A^(1/2). Of A only the lower triangle is taken, and the diagonal as real. The
/// results may overlap A but not each other. Status::not_finite (only with check_finite): nothing
/// has been written. Throws Error where CUDA fails.
Status inverse_root(const Queue& queue, const ArrayRef& a, const ArrayRef* root,
                    const ArrayRef& inverse, const RootOptions& options,
                    const InverseRootInfo& info, Workspace workspace, RootOutcome& outcome);

}  // namespace gramian::cuda
