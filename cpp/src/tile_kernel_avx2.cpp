// The avx2 build of the register tiles; see tile_kernel.inl for what may be included here.
#define GRAMIAN_ISA_NAMESPACE isa_avx2
#define GRAMIAN_VECTOR_BYTES 32
#define GRAMIAN_TILE_ROWS 4
#include "tile_kernel.inl"

namespace gramian::detail {

TileKernels<float> tile_kernels_avx2_f32() { return isa_avx2::kernels<float>("avx2"); }
TileKernels<double> tile_kernels_avx2_f64() { return isa_avx2::kernels<double>("avx2"); }

}  // namespace gramian::detail
