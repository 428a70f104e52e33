// What a device is, asked once.
#pragma once

namespace gramian::cuda {

/// Compute capability 9.0: the kernels made for Hopper run there, and only there.
bool is_hopper(int device);

int multiprocessors(int device);

/// Bytes that one block can have.
int most_shared_memory(int device);

/// Whether float64 on tensor cores is as fast as float32 without them: on data-center GPUs.
bool float64_is_fast(int device);

}  // namespace gramian::cuda
