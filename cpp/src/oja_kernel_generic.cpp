// The generic build of the products of Oja's method; see oja_kernel.inl.
#define GRAMIAN_ISA_NAMESPACE isa_generic
#define GRAMIAN_VECTOR_BYTES 16
#define GRAMIAN_OJA_TILE 2
#include "oja_kernel.inl"

namespace gramian::detail {

OjaKernels<float> oja_kernels_generic_f32() { return isa_generic::kernels<float>(); }
OjaKernels<double> oja_kernels_generic_f64() { return isa_generic::kernels<double>(); }

}  // namespace gramian::detail
