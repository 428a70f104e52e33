// Bounds on the spectral norm on the GPU: the same names and meaning as gramian/bounds.hpp.
// docs/bounds.md has the proof, and what differs on a GPU.
//
// gram_bound is queued on the caller's stream and nothing waits for it, unless check_finite is set.
// spectral_norm_bounds waits: how far to iterate depends on the numbers. All memory is the
// caller's: a, the results, and `workspace`.
#pragma once

#include "gramian/array_ref.hpp"
#include "gramian/bounds.hpp"
#include "gramian/cuda/queue.hpp"
#include "gramian/workspace.hpp"

namespace gramian::cuda {

/// Bytes of device memory that gram_bound needs besides its arguments.
std::size_t gram_bound_workspace(const Queue& queue, const ArrayRef& a, int steps);

/// As gramian::gram_bound. Status::not_finite (only with check_finite): nothing has been written.
Status gram_bound(const Queue& queue, const ArrayRef& a, int steps, bool check_finite,
                  const ArrayRef& bound, Workspace workspace);

std::size_t spectral_norm_bounds_workspace(const Queue& queue, const ArrayRef& a,
                                           BoundsMethod method);

/// As gramian::spectral_norm_bounds; there is no BoundsMethod::eigh. The Cholesky factorization is
/// cuSOLVER's, and what it returns is verified; without cuSOLVER, automatic is gram. Where
/// a matrix resists, the whole batch is squared, and out.method says so.
Status spectral_norm_bounds(const Queue& queue, const ArrayRef& a, const BoundsOptions& options,
                            Bracket& out, Workspace workspace);

}  // namespace gramian::cuda
