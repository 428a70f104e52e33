// The avx512 build of the register tiles; see tile_kernel.inl for what may be included here.
#define GRAMIAN_ISA_NAMESPACE isa_avx512
#define GRAMIAN_VECTOR_BYTES 64
#define GRAMIAN_TILE_ROWS 8
#include "tile_kernel.inl"

namespace gramian::detail {

TileKernels<float> tile_kernels_avx512_f32() { return isa_avx512::kernels<float>("avx512"); }
TileKernels<double> tile_kernels_avx512_f64() { return isa_avx512::kernels<double>("avx512"); }

}  // namespace gramian::detail
