#include "hopper_launch.inl"

namespace gramian::cuda::hopper {

void launch_hermitian(const Queue& queue, Shape shape, const ProductArguments& arguments) {
  launch<true>(queue, shape, arguments);
}

}  // namespace gramian::cuda::hopper
