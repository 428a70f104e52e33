// What a randomized SVD needs of a GPU that its libraries do not have: the sketch, whose values are
// those of the CPU, and a read of A that gives Y = A Z and W = A^H Y at once. docs/rsvd.md.
#pragma once

#include <cstdint>

#include "gramian/array_ref.hpp"
#include "gramian/cuda/queue.hpp"
#include "gramian/workspace.hpp"

namespace gramian::cuda {

/// z (n x l, gapless) <- columns [first, first + l) of the sketch (gramian/sketch.hpp).
void sketch(const Queue& queue, std::uint64_t seed, index_t first, const ArrayRef& z);

/// One read of A, m x n. Half precision is computed in float32; every other type in its own, never
/// in tf32. Rows are copied, block by block, where they are to be converted or centered, or lie as
/// cuBLAS cannot take them. Arrays but a lie row by row without gaps.
struct TwoSidedRead {
  ArrayRef a;
  ArrayRef z;        // n x l, of the type that is computed in
  ArrayRef y;        // m x l, likewise
  ArrayRef w;        // n x l, float64 or complex128; or absent
  ArrayRef means;    // n, as w's type: taken off each row of A; or absent
  ArrayRef sums;     // sum_parts x n, as w's type: column sums of A less means, in parts; or absent
  ArrayRef squares;  // 1, float64: sum of squares of the entries of A less means; or absent
};
inline constexpr index_t sum_parts = 8;

std::size_t two_sided_read_workspace(const Queue& queue, const TwoSidedRead& read);
void two_sided_read(const Queue& queue, const TwoSidedRead& read, Workspace workspace);

}  // namespace gramian::cuda
