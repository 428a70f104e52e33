// wgmma on tf32 numbers: D (64 x N, float32) <- A B + (accumulate ? D : 0), A four registers for
// each thread, B a descriptor of K-major shared memory (wgmma.cuh). Of each number the hardware
// reads the upper 19 bits. Thread t of warp w holds, of A (64 x 8), the entries
//   a[i + 2 j]: row 16 w + 8 i + t / 4, column 4 j + t % 4;   of D as in wgmma.cuh.
#pragma once

#include "wgmma.cuh"

namespace gramian::cuda::hopper {

template <int width>
struct Tf32Product;

#define GRAMIAN_TF32_NAMES_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define GRAMIAN_TF32_NAMES_16 GRAMIAN_TF32_NAMES_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define GRAMIAN_TF32_NAMES_24 GRAMIAN_TF32_NAMES_16 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define GRAMIAN_TF32_NAMES_32 GRAMIAN_TF32_NAMES_24 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define GRAMIAN_TF32_NAMES_40 GRAMIAN_TF32_NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define GRAMIAN_TF32_NAMES_48 GRAMIAN_TF32_NAMES_40 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define GRAMIAN_TF32_NAMES_56 GRAMIAN_TF32_NAMES_48 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define GRAMIAN_TF32_NAMES_64 GRAMIAN_TF32_NAMES_56 ", %56, %57, %58, %59, %60, %61, %62, %63"
#define GRAMIAN_TF32_NAMES_72 GRAMIAN_TF32_NAMES_64 ", %64, %65, %66, %67, %68, %69, %70, %71"
#define GRAMIAN_TF32_NAMES_80 GRAMIAN_TF32_NAMES_72 ", %72, %73, %74, %75, %76, %77, %78, %79"
#define GRAMIAN_TF32_SUMS_8(d) GRAMIAN_SUMS_8(d, 0)
#define GRAMIAN_TF32_SUMS_16(d) GRAMIAN_TF32_SUMS_8(d), GRAMIAN_SUMS_8(d, 8)
#define GRAMIAN_TF32_SUMS_24(d) GRAMIAN_TF32_SUMS_16(d), GRAMIAN_SUMS_8(d, 16)
#define GRAMIAN_TF32_SUMS_32(d) GRAMIAN_TF32_SUMS_24(d), GRAMIAN_SUMS_8(d, 24)
#define GRAMIAN_TF32_SUMS_40(d) GRAMIAN_TF32_SUMS_32(d), GRAMIAN_SUMS_8(d, 32)
#define GRAMIAN_TF32_SUMS_48(d) GRAMIAN_TF32_SUMS_40(d), GRAMIAN_SUMS_8(d, 40)
#define GRAMIAN_TF32_SUMS_56(d) GRAMIAN_TF32_SUMS_48(d), GRAMIAN_SUMS_8(d, 48)
#define GRAMIAN_TF32_SUMS_64(d) GRAMIAN_TF32_SUMS_56(d), GRAMIAN_SUMS_8(d, 56)
#define GRAMIAN_TF32_SUMS_72(d) GRAMIAN_TF32_SUMS_64(d), GRAMIAN_SUMS_8(d, 64)
#define GRAMIAN_TF32_SUMS_80(d) GRAMIAN_TF32_SUMS_72(d), GRAMIAN_SUMS_8(d, 72)
#define GRAMIAN_TF32_NEW_8(d) GRAMIAN_NEW_8(d, 0)
#define GRAMIAN_TF32_NEW_16(d) GRAMIAN_TF32_NEW_8(d), GRAMIAN_NEW_8(d, 8)
#define GRAMIAN_TF32_NEW_24(d) GRAMIAN_TF32_NEW_16(d), GRAMIAN_NEW_8(d, 16)
#define GRAMIAN_TF32_NEW_32(d) GRAMIAN_TF32_NEW_24(d), GRAMIAN_NEW_8(d, 24)
#define GRAMIAN_TF32_NEW_40(d) GRAMIAN_TF32_NEW_32(d), GRAMIAN_NEW_8(d, 32)
#define GRAMIAN_TF32_NEW_48(d) GRAMIAN_TF32_NEW_40(d), GRAMIAN_NEW_8(d, 40)
#define GRAMIAN_TF32_NEW_56(d) GRAMIAN_TF32_NEW_48(d), GRAMIAN_NEW_8(d, 48)
#define GRAMIAN_TF32_NEW_64(d) GRAMIAN_TF32_NEW_56(d), GRAMIAN_NEW_8(d, 56)
#define GRAMIAN_TF32_NEW_72(d) GRAMIAN_TF32_NEW_64(d), GRAMIAN_NEW_8(d, 64)
#define GRAMIAN_TF32_NEW_80(d) GRAMIAN_TF32_NEW_72(d), GRAMIAN_NEW_8(d, 72)

#define GRAMIAN_DEFINE_TF32(N, SUMS, P0, P1, P2, P3, P4)                                        \
  template <>                                                                                   \
  struct Tf32Product<N> {                                                                       \
    static __device__ __forceinline__ void first(float (&d)[SUMS], const std::uint32_t (&a)[4], \
                                                 std::uint64_t b) {                             \
      asm volatile(                                                                             \
          "{\n.reg .pred p;\nsetp.ne.b32 p, 0, 0;\n"                                            \
          "wgmma.mma_async.sync.aligned.m64n" #N "k8.f32.tf32.tf32 {" GRAMIAN_TF32_NAMES_##SUMS \
          "}, {%" #P0 ", %" #P1 ", %" #P2 ", %" #P3 "}, %" #P4 ", p, 1, 1;\n}\n"                \
          : GRAMIAN_TF32_NEW_##SUMS(d)                                                          \
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                \
    }                                                                                           \
    static __device__ __forceinline__ void add(float (&d)[SUMS], const std::uint32_t (&a)[4],   \
                                               std::uint64_t b) {                               \
      asm volatile(                                                                             \
          "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"                                            \
          "wgmma.mma_async.sync.aligned.m64n" #N "k8.f32.tf32.tf32 {" GRAMIAN_TF32_NAMES_##SUMS \
          "}, {%" #P0 ", %" #P1 ", %" #P2 ", %" #P3 "}, %" #P4 ", p, 1, 1;\n}\n"                \
          : GRAMIAN_TF32_SUMS_##SUMS(d)                                                         \
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                \
    }                                                                                           \
  };
GRAMIAN_DEFINE_TF32(16, 8, 8, 9, 10, 11, 12)
GRAMIAN_DEFINE_TF32(32, 16, 16, 17, 18, 19, 20)
GRAMIAN_DEFINE_TF32(48, 24, 24, 25, 26, 27, 28)
GRAMIAN_DEFINE_TF32(64, 32, 32, 33, 34, 35, 36)
GRAMIAN_DEFINE_TF32(80, 40, 40, 41, 42, 43, 44)
GRAMIAN_DEFINE_TF32(96, 48, 48, 49, 50, 51, 52)
GRAMIAN_DEFINE_TF32(112, 56, 56, 57, 58, 59, 60)
GRAMIAN_DEFINE_TF32(128, 64, 64, 65, 66, 67, 68)
GRAMIAN_DEFINE_TF32(144, 72, 72, 73, 74, 75, 76)
GRAMIAN_DEFINE_TF32(160, 80, 80, 81, 82, 83, 84)

}  // namespace gramian::cuda::hopper
