#include "one_block.hpp"

#include <algorithm>

#include "device_properties.hpp"
#include "one_block_cholesky.cuh"
#include "one_block_jacobi.cuh"
#include "one_block_values.cuh"

namespace gramian::cuda {

namespace {

void check_size(const Queue& queue, index_t size) {
  if (size < 1 || size > one_block_side(queue.device))
    throw Error("no such size of a small matrix");
}

/// What a kernel may be launched with, for any size that fits.
void allow_at_most(const void* kernel, int device, int bytes) {
  allow_shared_memory(kernel, device, std::min(bytes, most_shared_memory(device)));
}

template <int each>
void launch_jacobi(const Queue& queue, const JacobiRequest& request, SmallFigures* figures) {
  constexpr int largest = each * one_block::pair_lanes;
  const auto kernel = one_block::jacobi_kernel<each>;
  allow_at_most(reinterpret_cast<const void*>(kernel), queue.device,
                one_block::jacobi_bytes(largest));
  const int size = static_cast<int>(request.size);
  launch_after(queue, kernel,
               Grid{1, static_cast<unsigned>(one_block::jacobi_threads(size)),
                    static_cast<unsigned>(one_block::jacobi_bytes(size))},
               "launching an eigenproblem", request, figures);
}

template <int each>
void launch_values(const Queue& queue, const ValuesRequest& request, SmallFigures* figures) {
  const auto kernel = one_block::values_kernel<each>;
  allow_at_most(reinterpret_cast<const void*>(kernel), queue.device,
                one_block::values_bytes(each * one_block::pair_lanes));
  const int bytes = one_block::values_bytes(static_cast<int>(request.size));
  launch_after(queue, kernel,
               Grid{static_cast<unsigned>(request.count), one_block::values_threads,
                    static_cast<unsigned>(bytes)},
               "launching eigenvalues", request, figures);
}

}  // namespace

index_t one_block_side(int device) {
  const int room = most_shared_memory(device);
  int side = one_block_limit;
  while (side > 0 && std::max({one_block::cholesky_bytes(side), one_block::jacobi_bytes(side),
                               one_block::values_bytes(side)}) > room)
    --side;
  return side;
}

void cholesky(const Queue& queue, const CholeskyRequest& request, SmallFigures* figures) {
  check_size(queue, request.size);
  allow_at_most(reinterpret_cast<const void*>(one_block::cholesky_kernel), queue.device,
                one_block::cholesky_bytes(one_block_limit));
  launch_after(
      queue, one_block::cholesky_kernel,
      Grid{1, one_block::cholesky_threads,
           static_cast<unsigned>(one_block::cholesky_bytes(static_cast<int>(request.size)))},
      "launching a factorization", request, figures);
}

void jacobi(const Queue& queue, const JacobiRequest& request, SmallFigures* figures) {
  check_size(queue, request.size);
  // As many entries of a row to a lane as the size asks for.
  if (request.size <= 48) return launch_jacobi<6>(queue, request, figures);
  if (request.size <= 80) return launch_jacobi<10>(queue, request, figures);
  if (request.size <= 112) return launch_jacobi<14>(queue, request, figures);
  launch_jacobi<18>(queue, request, figures);
}

void eigenvalues(const Queue& queue, const ValuesRequest& request, SmallFigures* figures) {
  check_size(queue, request.size);
  if (request.count < 1) throw Error("no such number of small matrices");
  if (request.size <= 48) return launch_values<6>(queue, request, figures);
  if (request.size <= 80) return launch_values<10>(queue, request, figures);
  if (request.size <= 112) return launch_values<14>(queue, request, figures);
  launch_values<18>(queue, request, figures);
}

}  // namespace gramian::cuda
