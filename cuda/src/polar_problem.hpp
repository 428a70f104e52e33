// What the polar factor, the sign and clipping begin with: sizes, memory, the entrance, and what is
// asked of an iteration.
#pragma once

#include "carver.hpp"
#include "entrance.hpp"
#include "gramian/cuda/polar.hpp"
#include "polar_iteration.hpp"

namespace gramian::cuda {

/// Of the batch x in a call, as m x n matrices, m <= n: transposed where x is tall.
class PolarProblem {
 public:
  virtual ~PolarProblem() = default;

  /// Bytes of device memory.
  std::size_t workspace();

  /// Whether few rows are decomposed, or there is nothing to decompose.
  bool by_svd() const { return empty_ || small_; }

 protected:
  PolarProblem(const Queue& queue, const PolarCall& call);

  /// Memory for what the function needs besides the entrance and the iteration.
  virtual void carve(Carver& carver) = 0;

  /// Deals out the memory and measures x; Status::not_finite where that was asked for and is so.
  Status begin(const ArrayRef& x, Workspace workspace);

  bool is_wide() const {
    return call_.x.dtype == DType::float64 || call_.x.dtype == DType::complex128;
  }
  double unit() const { return is_wide() ? 0x1p-53 : 0x1p-24; }
  int steps() const { return is_wide() ? polar_steps_of_double : polar_steps_of_float; }

  /// Where a random matrix has its least singular value, over the largest.
  double guess_of_random() const;

  /// For rows of that length.
  PolarAim aim(index_t length, double cutoff, double first_guess) const;

  Queue queue_;
  const PolarCall& call_;
  index_t m_, n_, batch_;
  Storage storage_;
  bool empty_;
  bool small_ = false;
  Entrance entrance_{};
  PolarIteration iteration_;

 private:
  void carve_all(Carver& carver);
};

}  // namespace gramian::cuda
