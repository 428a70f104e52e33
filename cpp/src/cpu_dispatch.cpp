// Which builds of the register tiles and of Oja's products this machine runs.
#include <cstdlib>
#include <cstring>

#include "oja_kernel.hpp"
#include "tile_kernel.hpp"

namespace gramian::detail {

TileKernels<float> tile_kernels_generic_f32();
TileKernels<double> tile_kernels_generic_f64();
OjaKernels<float> oja_kernels_generic_f32();
OjaKernels<double> oja_kernels_generic_f64();
#if defined(__x86_64__)
TileKernels<float> tile_kernels_avx2_f32();
TileKernels<double> tile_kernels_avx2_f64();
TileKernels<float> tile_kernels_avx512_f32();
TileKernels<double> tile_kernels_avx512_f64();
OjaKernels<float> oja_kernels_avx2_f32();
OjaKernels<double> oja_kernels_avx2_f64();
OjaKernels<float> oja_kernels_avx512_f32();
OjaKernels<double> oja_kernels_avx512_f64();
#endif

namespace {

enum Isa { generic, avx2, avx512 };

Isa best_isa() {
  Isa best = generic;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) best = avx2;
  if (best == avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    best = avx512;
  if (const char* wish = std::getenv("GRAMIAN_ISA")) {
    if (!std::strcmp(wish, "generic")) best = generic;
    if (!std::strcmp(wish, "avx2") && best > avx2) best = avx2;
  }
#endif
  return best;
}

}  // namespace

template <>
const TileKernels<float>& tile_kernels<float>() {
  static const TileKernels<float> kernels = [] {
#if defined(__x86_64__)
    switch (best_isa()) {
      case avx512:
        return tile_kernels_avx512_f32();
      case avx2:
        return tile_kernels_avx2_f32();
      default:
        break;
    }
#endif
    return tile_kernels_generic_f32();
  }();
  return kernels;
}

template <>
const TileKernels<double>& tile_kernels<double>() {
  static const TileKernels<double> kernels = [] {
#if defined(__x86_64__)
    switch (best_isa()) {
      case avx512:
        return tile_kernels_avx512_f64();
      case avx2:
        return tile_kernels_avx2_f64();
      default:
        break;
    }
#endif
    return tile_kernels_generic_f64();
  }();
  return kernels;
}

template <>
const OjaKernels<float>& oja_kernels<float>() {
  static const OjaKernels<float> kernels = [] {
#if defined(__x86_64__)
    switch (best_isa()) {
      case avx512:
        return oja_kernels_avx512_f32();
      case avx2:
        return oja_kernels_avx2_f32();
      default:
        break;
    }
#endif
    return oja_kernels_generic_f32();
  }();
  return kernels;
}

template <>
const OjaKernels<double>& oja_kernels<double>() {
  static const OjaKernels<double> kernels = [] {
#if defined(__x86_64__)
    switch (best_isa()) {
      case avx512:
        return oja_kernels_avx512_f64();
      case avx2:
        return oja_kernels_avx2_f64();
      default:
        break;
    }
#endif
    return oja_kernels_generic_f64();
  }();
  return kernels;
}

}  // namespace gramian::detail
