#include "one_block.hpp"

#include "one_block_cholesky.cuh"
#include "one_block_jacobi.cuh"

namespace gramian::cuda {

namespace {

void check_size(index_t size) {
  if (size < 1 || size > one_block_limit) throw Error("no such size of a small matrix");
}

template <int each>
void launch_jacobi(const Queue& queue, const JacobiRequest& request, SmallFigures* figures) {
  constexpr int largest = each * one_block::pair_lanes;
  const auto kernel = one_block::jacobi_kernel<each>;
  allow_shared_memory(reinterpret_cast<const void*>(kernel), queue.device,
                      one_block::jacobi_bytes(largest));
  const int size = static_cast<int>(request.size);
  launch_after(queue, kernel,
               Grid{1, static_cast<unsigned>(one_block::jacobi_threads(size)),
                    static_cast<unsigned>(one_block::jacobi_bytes(size))},
               "launching an eigenproblem", request, figures);
}

}  // namespace

void cholesky(const Queue& queue, const CholeskyRequest& request, SmallFigures* figures) {
  check_size(request.size);
  allow_shared_memory(reinterpret_cast<const void*>(one_block::cholesky_kernel), queue.device,
                      one_block::cholesky_bytes(one_block_limit));
  launch_after(
      queue, one_block::cholesky_kernel,
      Grid{1, one_block::cholesky_threads,
           static_cast<unsigned>(one_block::cholesky_bytes(static_cast<int>(request.size)))},
      "launching a factorization", request, figures);
}

void jacobi(const Queue& queue, const JacobiRequest& request, SmallFigures* figures) {
  check_size(request.size);
  // As many entries of a row to a lane as the size asks for.
  if (request.size <= 48) return launch_jacobi<6>(queue, request, figures);
  if (request.size <= 80) return launch_jacobi<10>(queue, request, figures);
  if (request.size <= 112) return launch_jacobi<14>(queue, request, figures);
  launch_jacobi<18>(queue, request, figures);
}

}  // namespace gramian::cuda
