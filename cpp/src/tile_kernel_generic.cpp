// The generic build of the register tiles; see tile_kernel.inl for what may be included here.
#define GRAMIAN_ISA_NAMESPACE isa_generic
#define GRAMIAN_VECTOR_BYTES 16
#define GRAMIAN_TILE_ROWS (sizeof(R) == 8 ? 2 : 4)
#include "tile_kernel.inl"

namespace gramian::detail {

TileKernels<float> tile_kernels_generic_f32() { return isa_generic::kernels<float>("generic"); }
TileKernels<double> tile_kernels_generic_f64() { return isa_generic::kernels<double>("generic"); }

}  // namespace gramian::detail
