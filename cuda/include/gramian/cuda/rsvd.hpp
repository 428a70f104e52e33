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

/// One read of A, m x n. Half precision is computed in float32; every other type in its own: no
/// number is rounded to tf32 (src/thin_products.hpp splits numbers in two). Rows are copied, block
/// by block, where they are to be converted or centered, or lie as cuBLAS cannot take them. Arrays
/// but a lie row by row without gaps.
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

/// The randomized SVD of a real matrix computed in float32, by subspace iteration, without a wait:
/// everything is queued, and what the host must know it finds in `figures` afterwards. A call makes
/// reads `first` to `last`, counted from 1, and then the factors if they are asked for; Z, Y and W
/// carry over from call to call. A is m x n, m >= n > l, l = z.shape[1] at most
/// direct_limit_on(the device).
struct DirectSvd {
  ArrayRef a;        // float32, float16 or bfloat16; any strides
  ArrayRef z;        // n x l, float32
  ArrayRef y;        // m x l, float32
  ArrayRef w;        // n x l, float64
  ArrayRef figures;  // direct_figures(l, reads) float64 numbers; see below
  std::uint64_t seed = 0;
  int first = 1;
  int last = 1;
  bool ritz = false;  // eigenvalues of Y^T Y after the last direct_looks reads of the call
  bool ends = false;  // `last` is the last read of all
  // Factors, of A's type, or absent: m x k and n x k, with any strides; k float32 numbers.
  ArrayRef u;
  ArrayRef s;
  ArrayRef v;
  bool sign_of_v = false;  // whose largest entries become positive
};

/// Of the figures: how many factorizations or iterations failed (unless 0 nothing else counts), how
/// many Gram matrices were shifted, sweeps, the sum of squares of A; from 8 on l eigenvalues,
/// squares of singular values, and l Ritz values for each read that was looked at.
inline constexpr index_t direct_squares = 3;
inline constexpr index_t direct_values = 8;
inline constexpr int direct_looks = 3;
constexpr index_t direct_figures(index_t l, index_t reads) {
  return direct_values + l * (reads + 1);
}

/// 144 where a block has the shared memory of a Hopper GPU's, else less.
index_t direct_limit_on(int device);

std::size_t direct_svd_workspace(const Queue& queue, const DirectSvd& svd);
void direct_svd(const Queue& queue, const DirectSvd& svd, Workspace workspace);

/// The small problems of the above by themselves: src/one_block.hpp. `figures` holds three numbers:
/// failures (the kernels leave at once unless it is 0), shifts, sweeps.
void small_cholesky(const Queue& queue, const ArrayRef& gram, double least, double shift,
                    const ArrayRef& triangle, const ArrayRef& inverse, const ArrayRef& figures);
void small_values(const Queue& queue, const ArrayRef& grams, const ArrayRef& values,
                  const ArrayRef& figures);
void small_jacobi(const Queue& queue, const ArrayRef& triangle, double tolerance,
                  const ArrayRef& values, const ArrayRef& vectors, const ArrayRef& divided,
                  const ArrayRef& figures);

}  // namespace gramian::cuda
