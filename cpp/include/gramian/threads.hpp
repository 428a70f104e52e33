// How many threads the CPU kernels may use, process-wide.
#pragma once

namespace gramian {

/// The current limit. Starts as the first of GRAMIAN_NUM_THREADS, OPENBLAS_NUM_THREADS,
/// OMP_NUM_THREADS that holds a positive integer, else the CPUs this process may run on.
int num_threads();

/// Sets the limit for calls that start from now on; n < 1 is refused (returns false). Results do
/// not depend on it: work is cut by shape alone, so every thread count gives the same bits.
bool set_num_threads(int n);

}  // namespace gramian
