// What the iteration of inverse_root.cpp decides on the device, and its passes over entries.
#pragma once

#include "entrance.hpp"
#include "gramian/cuda/queue.hpp"
#include "gramian/inverse_root.hpp"
#include "products.hpp"

namespace gramian::cuda {

/// Rows of the CPU's plan for one p: table k, for eigenvalues in [4^-k, 1], is
/// row[first[k]] ... row[first[k + 1] - 1].
struct RootRows {
  static constexpr int finest = 26;
  static constexpr int most = 640;
  double row[most][3];
  int first[finest + 2];
};
const RootRows& root_rows(int p);

/// How many rows the table for `lower` has.
int row_count(const RootRows& rows, double lower);

enum class RootStatus : int { running, converged, missed, not_finite };

/// Of one matrix, scaled by its power of two; in device memory.
struct RootState {
  double largest;    // lambda_1(A)
  double shift;      // ridge lambda_1
  double top;        // what no eigenvalue of B = A + shift I should exceed
  double growth;     // what the steps so far have multiplied small eigenvalues of M = B by, at most
  double condition;  // at least kappa once converged, then kappa itself where it was looked at
  double residual;
  RootStatus status;
  int next, end;  // rows of the table that are left
  int rounds;     // tables
  int steps;
  int where;  // the buffer that X is in, once converged
};

/// How far the iteration goes.
struct RootPlan {
  int p;
  double ridge;
  double margin;     // lambda_1 is known to this, relatively
  double floor;      // of lambda_n / lambda_1 that the steps are made for
  double tolerance;  // for ||I - M||_F
};

/// Flags that products are skipped by: one int for each matrix.
struct RootFlags {
  int* done;     // X is not to be multiplied any more
  int* closing;  // M is not
};

/// The buffers that X may be in.
struct RootBuffers {
  static constexpr int count = 5;
  Matrices buffer[count];
};

/// a <- its lower triangle with the mirror image of it, the diagonal real.
void mirror_lower(const Queue& queue, Storage storage, index_t batch, index_t m, Matrices a);

/// States, flags and scalars for the first step, from the ends of A's spectrum (two doubles for
/// each matrix, largest and smallest); a <- a + shift I; copies the rows to the device.
void begin_root(const Queue& queue, Storage storage, index_t batch, index_t m, const RootPlan& plan,
                const double* ends, Matrices a, RootRows* rows, RootState* states, RootFlags flags,
                double* scalars);

/// The next row, from ||M - I||_F: scalars <- those of (M - I)^2, M - I and I in T. If the step is
/// to be the last, X will be found in buffer `where` after it.
void next_row(const Queue& queue, index_t batch, const RootPlan& plan, const RootRows* rows,
              NormParts squares, int where, RootState* states, RootFlags flags, double* scalars);

/// After all steps: what still runs has no answer. flags.done <- 0 where the condition is to be
/// looked at: where it converged and the condition may be `suspect` or more.
void end_steps(const Queue& queue, index_t batch, double suspect, RootState* states,
               RootFlags flags);

/// condition <- top times the largest eigenvalue of X (two doubles for each matrix, as in
/// begin_root) to the p where flags.done is 0; more than `limit` is no answer.
void judge_condition(const Queue& queue, index_t batch, int p, double limit, const double* ends,
                     RootState* states, RootFlags flags);

/// to <- X, wherever it is; zero where there is none.
void gather(const Queue& queue, Storage storage, index_t batch, index_t m,
            const RootBuffers& buffers, const RootState* states, Matrices to);

/// state.residual <- the root of the sum of squares over m. Above tol, unless that is 0, there is
/// no answer.
void judge_residual(const Queue& queue, index_t batch, index_t m, double tol, NormParts squares,
                    RootState* states);

/// The figures of `info` that are present.
void report_figures(const Queue& queue, index_t batch, const RootState* states, const int* exponent,
                    const InverseRootInfo& info);

/// out <- X, or with `root` the one matrix of buffers.buffer[0], on the scale of the input 2^e A;
/// NaN where there is no answer.
void leave_root(const Queue& queue, Storage storage, index_t m, const RootBuffers& buffers,
                const RootState* states, const int* exponent, int p, bool root,
                const ArrayRef& out);

}  // namespace gramian::cuda
