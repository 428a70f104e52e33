// Newton-Schulz iteration on the GPU: the same names and meaning as gramian/newton_schulz.hpp.
//
// Everything is queued on the caller's stream and nothing waits for it, unless check_finite is set.
// All memory is the caller's: x, out, the figures of `info`, and `workspace`, whose size
// newton_schulz_workspace() tells. Every scalar that depends on the data stays on the device, so a
// call can be captured into a CUDA graph.
#pragma once

#include "gramian/array_ref.hpp"
#include "gramian/cuda/queue.hpp"
#include "gramian/newton_schulz.hpp"
#include "gramian/workspace.hpp"

namespace gramian::cuda {

/// What the products are computed in. Complex input takes the real type of that width.
enum class Arithmetic {
  half,     // 16-bit storage (float16), float32 accumulation, tensor cores
  tf32,     // float32 storage, products rounded to tf32
  float32,  // float32 throughout
  float64,
};

struct NewtonSchulzOptions {
  std::vector<Row> table;
  Normalization normalization = Normalization::schatten;
  double bound = 1.0;
  NewtonSchulzPlan plan;
  Arithmetic arithmetic = Arithmetic::float32;
  bool check_finite = false;  // waits for the stream
};

/// As gramian::plan_newton_schulz, with the precision of that arithmetic and the cost of products
/// on the GPU.
NewtonSchulzPlan plan_newton_schulz(index_t rows, index_t cols, std::span<const Row> table,
                                    Arithmetic arithmetic,
                                    std::optional<NewtonSchulzMethod> wanted = std::nullopt);

/// Bytes of device memory that newton_schulz needs besides x and out, for these very arguments.
std::size_t newton_schulz_workspace(const Queue& queue, const ArrayRef& x, const ArrayRef& out,
                                    const NewtonSchulzOptions& options,
                                    const NewtonSchulzInfo& info = {});

/// out <- the iterate after all steps. As gramian::newton_schulz; a matrix with NaN or infinity
/// becomes NaN throughout and leaves the others alone. Status::not_finite (only with check_finite):
/// nothing has been written. Throws Error where CUDA fails.
Status newton_schulz(const Queue& queue, const ArrayRef& x, const ArrayRef& out,
                     const NewtonSchulzOptions& options, const NewtonSchulzInfo& info,
                     Workspace workspace);

}  // namespace gramian::cuda
