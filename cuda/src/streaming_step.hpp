// What becomes of a read's parts, and of the vectors at the end of a block.
#pragma once

#include "gramian/cuda/streaming.hpp"

namespace gramian::cuda {

/// Device memory of a step.
struct StepRoom {
  double* gram_parts;    // (gram_parts_count, 2 live, 2 live)
  double* gram;          // (2 live, 2 live)
  double* coefficients;  // (2 live, live)
};
inline constexpr index_t gram_parts_count = 64;

/// gathered <- decayed by the rows' number, and the parts added; totals likewise.
void add_parts(const Queue& queue, const StreamLayout& layout, const StreamState& state,
               index_t groups, const double* parts, const double* figures);

/// The live vectors take their step with what the block has gathered. An entry of that has passed
/// through `roundings` additions at most.
void take_step(const Queue& queue, const StreamLayout& layout, const StreamState& state,
               double roundings, const StepRoom& room);

}  // namespace gramian::cuda
