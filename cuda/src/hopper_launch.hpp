// Launches of the product kernel, and which of its shapes to launch.
#pragma once

#include "gramian/cuda/queue.hpp"
#include "hopper_tiling.hpp"

namespace gramian::cuda::hopper {

/// Columns of a tile and blocks of a cluster.
struct Shape {
  int tile = 128;
  int cluster = 2;
};

/// The shape that is fastest by the measured costs in hopper_launch.cu.
Shape choose_shape(const Queue& queue, int rows, int cols, int depth, int batch, bool hermitian);

/// Rows of the boxes in which B's map must be made: see product_kernel.
inline int box_rows_of_b(Shape shape, bool hermitian) {
  if (Tiling::has_halves(shape.tile, shape.cluster, hermitian)) return shape.tile / 2;
  return (hermitian ? shape.tile : block_depth) / shape.cluster;
}

void launch_hermitian(const Queue& queue, Shape shape, const ProductArguments& arguments);
void launch_general(const Queue& queue, Shape shape, const ProductArguments& arguments);

}  // namespace gramian::cuda::hopper
