// What decides about each step of the polar factor's iteration, on the device: a matrix of the
// batch has its own state, and what the next product is made with follows from norms that the last
// one left. docs/notes/polar_gpu.md has the reasons and the numbers.
//
// Singular values are driven to 1 by minimax rows for [guess, upper], guesses going down to the
// cutoff; then by Taylor's rows, once ||I - G||_F says that all are near. Where some stay behind
// although all above the cutoff must have arrived, they are below it: then one row brings what lay
// at the cutoff to sqrt(2/3), and the row (0, 5/2, -3/2), which has its unstable fixed point there,
// sends everything below to 0 and everything above to 1.
#pragma once

#include "entrance.hpp"
#include "gramian/cuda/queue.hpp"
#include "products.hpp"

namespace gramian::cuda {

/// Minimax rows for [2^(-k/4), 1], and the error e of each: the images lie in [1 - e, 1 + e]. The
/// last is for every smaller lower end.
struct PolarTable {
  static constexpr int rows = 23;
  double a[rows], b[rows], c[rows], error[rows];
};
const PolarTable& polar_table();

enum class PolarStatus : int { running, done, not_converged, zero, not_finite, unchanged };

struct PolarState {
  double cut;       // where what lay at the cutoff lies now
  double upper;     // a bound on the largest singular value
  double guess[4];  // lower ends, where they lie now
  double best, before;
  double residual;  // as far as it is known: ||I - G||_F, or ||G - G^2||_F
  int guesses, at;
  int sharpening, sharpened;
  int steps, rank;
  int place;  // of the two buffers, where the result is
  PolarStatus status;
};

/// What is asked of an iteration, the same for the batch.
struct PolarAim {
  index_t m = 0;
  double first_guess = 0;  // for sigma_min / sigma_1
  double cutoff = 0;       // relative to sigma_1
  double aim = 0;          // on ||I - G||_F
  double floor = 0;        // what rounding allows of it
  bool hold = false;       // matrices whose `done` is set are left out from the start
};

/// Device memory of an iteration.
struct PolarMemory {
  PolarState* states;  // [batch]
  int* done;           // [batch] the products' flag
  int* calm;           // [batch] likewise for what only sharpening asks for
  double* scalars;     // [batch][3]
  NormParts defect;    // of G, then of I - G
  NormParts other;     // of G^2, then of G - G^2
};

/// From G = X X^H, its norm and that of its square to the first row, for X not yet divided.
void polar_begin(const Queue& queue, Storage storage, index_t batch, const PolarAim& aim,
                 Matrices g, const PolarMemory& memory);

/// The next row, from the norms; `step` were taken. `last`: there is none.
void polar_decide(const Queue& queue, index_t batch, const PolarAim& aim, const PolarMemory& memory,
                  int step, bool last);

/// figures[b] <- method, steps, rank, residual of the result as returned, from ||I - G||_F and
/// ||G - G^2||_F of it, and residual before rounding.
void polar_figures(const Queue& queue, index_t batch, index_t m, bool small,
                   const PolarMemory& memory, double* figures);

}  // namespace gramian::cuda
