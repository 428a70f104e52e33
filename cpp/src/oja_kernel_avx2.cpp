// The avx2 build of the products of Oja's method; see oja_kernel.inl.
#define GRAMIAN_ISA_NAMESPACE isa_avx2
#define GRAMIAN_VECTOR_BYTES 32
#define GRAMIAN_OJA_TILE 2
#include "oja_kernel.inl"

namespace gramian::detail {

OjaKernels<float> oja_kernels_avx2_f32() { return isa_avx2::kernels<float>(); }
OjaKernels<double> oja_kernels_avx2_f64() { return isa_avx2::kernels<double>(); }

}  // namespace gramian::detail
