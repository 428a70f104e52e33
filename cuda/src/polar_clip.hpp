// Singular values clipped, on the GPU: for cuda::polar.
#pragma once

#include "gramian/cuda/polar.hpp"

namespace gramian::cuda {

std::size_t clip_workspace(const Queue& queue, const PolarCall& call);
Status clip(const Queue& queue, const PolarCall& call, Workspace workspace);

}  // namespace gramian::cuda
