// Singular values clipped, on the GPU: for cuda::polar.
#pragma once

#include "entrance.hpp"
#include "gramian/cuda/polar.hpp"
#include "polar_steps.hpp"

namespace gramian::cuda {

/// Waits for the stream: whether the first pass over x found numbers alone.
bool is_finite(const Queue& queue, index_t parts, const Entrance& entrance);

std::size_t clip_workspace(const Queue& queue, const PolarCall& call);
Status clip(const Queue& queue, const PolarCall& call, Workspace workspace);

}  // namespace gramian::cuda
