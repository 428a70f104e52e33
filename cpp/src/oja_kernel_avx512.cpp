// The avx512 build of the products of Oja's method; see oja_kernel.inl.
#define GRAMIAN_ISA_NAMESPACE isa_avx512
#define GRAMIAN_VECTOR_BYTES 64
#define GRAMIAN_OJA_TILE 4
#include "oja_kernel.inl"

namespace gramian::detail {

OjaKernels<float> oja_kernels_avx512_f32() { return isa_avx512::kernels<float>(); }
OjaKernels<double> oja_kernels_avx512_f64() { return isa_avx512::kernels<double>(); }

}  // namespace gramian::detail
