// What a step of the iteration does, decided by one thread of a kernel.
#pragma once

#include "inverse_root_control.hpp"

namespace gramian::cuda {

/// Whose number k(lower) is on the host and on the device.
__host__ __device__ inline int table_for(double lower) {
  const int k = static_cast<int>(ceil(-log2(lower) / 2 - 1e-9));
  return k < 1 ? 1 : k > RootRows::finest ? RootRows::finest : k;
}

/// T = a I + b N + c N^2, where N is what is in memory: B, and from the second step on M - I.
struct RootStep {
  double a, b, c;
  bool last;
  bool lost;  // no step: there is no answer
};

__device__ inline void choose_table(const RootRows& rows, RootState& state, double lower) {
  const int k = table_for(lower);
  state.next = rows.first[k];
  state.end = rows.first[k + 1];
}

/// The next row of the table, for eigenvalues up to `top`. `shifted`: not the first step.
__device__ inline RootStep table_row(const RootRows& rows, RootState& state, int p, double top,
                                     bool shifted) {
  const double* const row = rows.row[state.next++];
  const double f = pow(top, -1.0 / p);
  const double a = row[0] * f;
  const double b = row[1] * f / top;
  const double c = row[2] * f / top / top;
  state.growth *= pow(a, static_cast<double>(p));
  if (!shifted) return {a, b, c, false, false};
  return {a + b + c, b + 2 * c, c, false, false};
}

__device__ inline double clamped(double v, double low, double high) {
  return v < low ? low : v > high ? high : v;
}

/// From the second step on, with e = ||M - I||_F. If it is to be the last, X is to be found in
/// buffer `where` after it.
__device__ inline RootStep next_step(const RootPlan& plan, const RootRows& rows, double e,
                                     int where, RootState& s) {
  const bool more = s.next < s.end;
  RootStep step{};
  step.lost = !isfinite(e);
  if (e <= 0.1 || (e <= 0.5 && !more)) {
    const double p = plan.p;
    const double square = (1 + p) / (2 * p * p);
    step = {1, -1 / p, square, false, false};
    s.growth *= pow(1 + 1 / p + square, p);
    step.last = 2 * (1 + p) * (1 + 2 * p) / (6 * p * p) * e * e * e <= plan.tolerance;
  } else if (more) {
    const bool lost = step.lost;
    step = table_row(rows, s, plan.p, 1, true);
    step.lost = lost;
  } else if (++s.rounds > 2) {
    step.lost = true;
  } else {
    // Eigenvalues smaller than was thought; how small they are by now, if there is an answer.
    const double least = fmax(plan.floor, s.shift / s.top * (1 - 0x1p-6));
    choose_table(rows, s, clamped(s.growth * s.top * least, 0x1p-52, 0.25));
    step = table_row(rows, s, plan.p, 1 + 0x1p-6, true);
  }
  if (step.lost) {
    s.status = RootStatus::missed;
    return step;
  }
  ++s.steps;
  if (step.last) {
    s.status = RootStatus::converged;
    s.where = where;
    s.condition = s.top * s.growth / (1 - e);
  }
  return step;
}

}  // namespace gramian::cuda
