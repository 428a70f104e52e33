// Both ends of the spectra of a batch of Hermitian matrices, by Lanczos, in one launch: as on the
// CPU (inverse_root_ends.hpp there), with every decision made on the device.
//
// A matrix belongs to a group of blocks. Each block multiplies by some of the rows; the vectors and
// the tridiagonal matrix it keeps whole, for itself: so a step needs one barrier in the group, and
// all its blocks decide the same.
#pragma once

#include "carver.hpp"
#include "entrance.hpp"
#include "gramian/cuda/queue.hpp"
#include "inverse_root_control.hpp"

namespace gramian::cuda {

struct EndsMemory {
  double* ends;       // [batch][2]: largest and smallest Ritz value
  void* products;     // of the groups of several blocks
  void* vectors;      // of the blocks, where shared memory does not hold them
  unsigned* arrived;  // of each group, at its barrier
};

/// For matrices of one size.
class SpectrumEnds {
 public:
  SpectrumEnds(const Queue& queue, Storage storage, index_t batch, index_t m);

  EndsMemory take(Carver& carver) const;

  /// memory.ends of matrix b from buffers.buffer[states[b].where], or without states from the first
  /// buffer, until the largest Ritz value is likely within `tolerance` of the largest eigenvalue,
  /// in a cluster within `cluster`, relatively. NaN where the matrix has NaN. Nothing is read or
  /// written where skip[b] is not 0.
  void run(const RootBuffers& buffers, const RootState* states, const int* skip, double tolerance,
           double cluster, int least_steps, const EndsMemory& memory) const;

 private:
  Queue queue_;
  Storage storage_;
  index_t batch_, m_;
  index_t groups_;
  int blocks_;      // of a group
  bool in_shared_;  // the vectors
};

}  // namespace gramian::cuda
