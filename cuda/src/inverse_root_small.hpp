// The steps of the iteration for small matrices, all in one launch: each belongs to one block, and
// stays in its shared memory.
#pragma once

#include "entrance.hpp"
#include "gramian/cuda/queue.hpp"
#include "inverse_root_control.hpp"

namespace gramian::cuda {

bool fit_small_roots(int device, Storage storage, index_t m);

/// After begin_root: up to `steps` steps from b on, the first with `scalars`. x <- X of those that
/// converged, whose states say so, with `where` 0.
void small_roots(const Queue& queue, Storage storage, index_t batch, index_t m,
                 const RootPlan& plan, const RootRows* rows, const double* scalars, int steps,
                 Matrices b, Matrices x, RootState* states);

}  // namespace gramian::cuda
