#include "hopper_launch.inl"

namespace gramian::cuda::hopper {

void launch_general(const Queue& queue, Shape shape, const ProductArguments& arguments) {
  launch<false>(queue, shape, arguments);
}

}  // namespace gramian::cuda::hopper
