// Hopper's own instructions, each behind a name: asynchronous matrix products on shared memory
// (wgmma), bulk tensor copies (TMA), barriers that count bytes, and moves of 8 x 8 blocks between
// registers and shared memory. What they mean is told in the PTX ISA, sections 9.7.15 (wgmma) and
// 9.7.9.27 (cp.async.bulk.tensor).
//
// Accumulators of m64nNk16: thread t of the warpgroup holds, for j < N/8 and i < 2, the entries
//   row 16 (t / 32) + 8 i + (t % 32) / 4,   columns 8 j + 2 (t % 4) + {0, 1}
// in d[4 j + 2 i + {0, 1}]. Rounded to float16 in pairs, columns 16 k .. 16 k + 15 are the A
// operand of the next product: a[0..3] = pairs (j = 2k, i = 0), (2k, 1), (2k + 1, 0), (2k + 1, 1).
#pragma once

#include <cuda.h>
#include <cuda_fp16.h>

#include <cstdint>

// Bodies exist only where the instructions do; elsewhere the kernels are empty and never launched.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define GRAMIAN_HOPPER 1
#endif

namespace gramian::cuda::hopper {

#define GRAMIAN_NAMES_32                                                   \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"

#define GRAMIAN_NAMES_64                                                             \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

#define GRAMIAN_NAMES_96                                                             \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, " \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"

#define GRAMIAN_NAMES_128                                                                        \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                       \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "             \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "             \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "             \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

#define GRAMIAN_SUMS_8(d, i)                                                                    \
  "+f"((d)[i]), "+f"((d)[(i) + 1]), "+f"((d)[(i) + 2]), "+f"((d)[(i) + 3]), "+f"((d)[(i) + 4]), \
      "+f"((d)[(i) + 5]), "+f"((d)[(i) + 6]), "+f"((d)[(i) + 7])
#define GRAMIAN_SUMS_32(d, i)                                                    \
  GRAMIAN_SUMS_8(d, i), GRAMIAN_SUMS_8(d, (i) + 8), GRAMIAN_SUMS_8(d, (i) + 16), \
      GRAMIAN_SUMS_8(d, (i) + 24)
#define GRAMIAN_SUMS_64(d, i) GRAMIAN_SUMS_32(d, i), GRAMIAN_SUMS_32(d, (i) + 32)
#define GRAMIAN_SUMS_96(d, i) GRAMIAN_SUMS_64(d, i), GRAMIAN_SUMS_32(d, (i) + 64)
#define GRAMIAN_SUMS_128(d, i) GRAMIAN_SUMS_64(d, i), GRAMIAN_SUMS_64(d, (i) + 64)

// D (64 x N, float32) <- A B + (accumulate ? D : 0), A and B float16. `a` and `b` are descriptors
// of shared memory, or `a` is four registers per thread. P0, P1, ... name the operands after the
// sums.
#define GRAMIAN_DEFINE_WGMMA(N, SUMS, P0, P1, P2, P3, P4, P5, P6)                                \
  template <int major_a, int major_b>                                                            \
  __device__ __forceinline__ void wgmma(float (&d)[SUMS], std::uint64_t a, std::uint64_t b,      \
                                        int accumulate) {                                        \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #P2                                        \
                 ", 0;\n"                                                                        \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.f16.f16 {" GRAMIAN_NAMES_##SUMS \
                 "}, "                                                                           \
                 "%" #P0 ", %" #P1 ", p, 1, 1, %" #P3 ", %" #P4 ";\n}\n"                         \
                 : GRAMIAN_SUMS_##SUMS(d, 0)                                                     \
                 : "l"(a), "l"(b), "r"(accumulate), "n"(major_a), "n"(major_b));                 \
  }                                                                                              \
  template <int major_b>                                                                         \
  __device__ __forceinline__ void wgmma(float (&d)[SUMS], const std::uint32_t (&a)[4],           \
                                        std::uint64_t b, int accumulate) {                       \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #P5                                        \
                 ", 0;\n"                                                                        \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.f16.f16 {" GRAMIAN_NAMES_##SUMS \
                 "}, "                                                                           \
                 "{%" #P0 ", %" #P1 ", %" #P2 ", %" #P3 "}, %" #P4 ", p, 1, 1, %" #P6 ";\n}\n"   \
                 : GRAMIAN_SUMS_##SUMS(d, 0)                                                     \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate),          \
                   "n"(major_b));                                                                \
  }
GRAMIAN_DEFINE_WGMMA(64, 32, 32, 33, 34, 35, 36, 37, 38)
GRAMIAN_DEFINE_WGMMA(128, 64, 64, 65, 66, 67, 68, 69, 70)
GRAMIAN_DEFINE_WGMMA(192, 96, 96, 97, 98, 99, 100, 101, 102)
GRAMIAN_DEFINE_WGMMA(256, 128, 128, 129, 130, 131, 132, 133, 134)

// D <- A B: the first product of a sum. That D is only written tells the compiler that its
// registers are free before.
#define GRAMIAN_NEW_8(d, i)                                                                     \
  "=f"((d)[i]), "=f"((d)[(i) + 1]), "=f"((d)[(i) + 2]), "=f"((d)[(i) + 3]), "=f"((d)[(i) + 4]), \
      "=f"((d)[(i) + 5]), "=f"((d)[(i) + 6]), "=f"((d)[(i) + 7])
#define GRAMIAN_NEW_32(d, i)                                                  \
  GRAMIAN_NEW_8(d, i), GRAMIAN_NEW_8(d, (i) + 8), GRAMIAN_NEW_8(d, (i) + 16), \
      GRAMIAN_NEW_8(d, (i) + 24)
#define GRAMIAN_NEW_64(d, i) GRAMIAN_NEW_32(d, i), GRAMIAN_NEW_32(d, (i) + 32)
#define GRAMIAN_NEW_96(d, i) GRAMIAN_NEW_64(d, i), GRAMIAN_NEW_32(d, (i) + 64)
#define GRAMIAN_NEW_128(d, i) GRAMIAN_NEW_64(d, i), GRAMIAN_NEW_64(d, (i) + 64)
#define GRAMIAN_DEFINE_WGMMA_FIRST(N, SUMS, P0, P1, P2, P3, P4, P5)                          \
  template <int major_a, int major_b>                                                        \
  __device__ __forceinline__ void wgmma_first(float (&d)[SUMS], std::uint64_t a,             \
                                              std::uint64_t b) {                             \
    asm volatile(                                                                            \
        "{\n.reg .pred p;\nsetp.ne.b32 p, 0, 0;\n"                                           \
        "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.f16.f16 {" GRAMIAN_NAMES_##SUMS      \
        "}, "                                                                                \
        "%" #P0 ", %" #P1 ", p, 1, 1, %" #P2 ", %" #P3 ";\n}\n"                              \
        : GRAMIAN_NEW_##SUMS(d, 0)                                                           \
        : "l"(a), "l"(b), "n"(major_a), "n"(major_b));                                       \
  }                                                                                          \
  template <int major_b>                                                                     \
  __device__ __forceinline__ void wgmma_first(float (&d)[SUMS], const std::uint32_t (&a)[4], \
                                              std::uint64_t b) {                             \
    asm volatile(                                                                            \
        "{\n.reg .pred p;\nsetp.ne.b32 p, 0, 0;\n"                                           \
        "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.f16.f16 {" GRAMIAN_NAMES_##SUMS      \
        "}, "                                                                                \
        "{%" #P0 ", %" #P1 ", %" #P2 ", %" #P3 "}, %" #P4 ", p, 1, 1, %" #P5 ";\n}\n"        \
        : GRAMIAN_NEW_##SUMS(d, 0)                                                           \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(major_b));                 \
  }
GRAMIAN_DEFINE_WGMMA_FIRST(64, 32, 32, 33, 34, 35, 36, 37)
GRAMIAN_DEFINE_WGMMA_FIRST(128, 64, 64, 65, 66, 67, 68, 69)
GRAMIAN_DEFINE_WGMMA_FIRST(192, 96, 96, 97, 98, 99, 100, 101)
GRAMIAN_DEFINE_WGMMA_FIRST(256, 128, 128, 129, 130, 131, 132, 133)

// The first n columns alone, into the first n / 2 of the sums of a tile of 256 columns. (Templates,
// so that they need not exist for others.)
template <int n, int sums>
__device__ __forceinline__ void wgmma_part(float (&d)[sums], std::uint64_t a, std::uint64_t b,
                                           int accumulate) {
  static_assert(sums == 128 && (n == 64 || n == 128));
  if constexpr (n == 64)
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" GRAMIAN_NAMES_32
        "}, "
        "%32, %33, p, 1, 1, 0, 0;\n}\n"
        : GRAMIAN_SUMS_32(d, 0)
        : "l"(a), "l"(b), "r"(accumulate));
  else
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" GRAMIAN_NAMES_64
        "}, "
        "%64, %65, p, 1, 1, 0, 0;\n}\n"
        : GRAMIAN_SUMS_64(d, 0)
        : "l"(a), "l"(b), "r"(accumulate));
}

inline constexpr int k_major = 0;   // the summed index is adjacent in memory
inline constexpr int mn_major = 1;  // the row (A) or column (B) index is

// Orders the registers of D and A, and shared memory written by ordinary stores and fenced, before
// the products that follow.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
template <int pending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(pending) : "memory");
}
// Keeps the compiler from moving reads of the sums over the asynchronous products.
template <int n>
__device__ __forceinline__ void wgmma_touch(float (&d)[n]) {
#pragma unroll
  for (int i = 0; i < n; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// ---- Shared memory ------------------------------------------------------------------------------

__device__ __forceinline__ std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

// An operand lies in panels of 128-byte rows, swizzled as TMA's 128-byte mode does: the 16-byte
// piece c of row r is at r * 128 + 16 * (c ^ (r % 8)). Panels start at multiples of 1024 bytes.
__device__ __forceinline__ std::uint32_t swizzled(int row, int byte) {
  return static_cast<std::uint32_t>(row * 128 + (byte ^ ((row & 7) << 4)));
}

// K-major: a panel's rows are rows of A (columns of B), its 64 columns the summed index; step k by
// 16 is 32 bytes. 8 rows to the next are 1024 bytes.
__device__ __forceinline__ std::uint64_t k_major_operand(std::uint32_t address) {
  constexpr std::uint64_t fixed =
      (std::uint64_t{1} << 62) | (std::uint64_t{1024 >> 4} << 32) | (std::uint64_t{1} << 16);
  return fixed | ((address & 0x3ffff) >> 4);
}

// MN-major: a panel's rows are the summed index, its 64 columns rows of A (columns of B); step k by
// 16 is 2048 bytes. `panel_bytes` from 64 columns to the next 64.
__device__ __forceinline__ std::uint64_t mn_major_operand(std::uint32_t address,
                                                          std::uint32_t panel_bytes) {
  constexpr std::uint64_t fixed = (std::uint64_t{1} << 62) | (std::uint64_t{1024 >> 4} << 32);
  return fixed | (static_cast<std::uint64_t>(panel_bytes >> 4) << 16) | ((address & 0x3ffff) >> 4);
}

// Makes ordinary stores to shared memory visible to wgmma and TMA; before the barrier.
__device__ __forceinline__ void fence_async_shared() {
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}

// Four 8 x 8 blocks of 16-bit entries: thread t gives the row address of block t / 8, row t % 8.
__device__ __forceinline__ void stmatrix4(std::uint32_t address, std::uint32_t a, std::uint32_t b,
                                          std::uint32_t c, std::uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(address),
               "r"(a), "r"(b), "r"(c), "r"(d)
               : "memory");
}
__device__ __forceinline__ void stmatrix4_transposed(std::uint32_t address, std::uint32_t a,
                                                     std::uint32_t b, std::uint32_t c,
                                                     std::uint32_t d) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(address),
      "r"(a), "r"(b), "r"(c), "r"(d)
      : "memory");
}
__device__ __forceinline__ void ldmatrix4(std::uint32_t address, std::uint32_t (&a)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "r"(address)
               : "memory");
}
// The transposed blocks.
__device__ __forceinline__ void ldmatrix4_transposed(std::uint32_t address, std::uint32_t (&a)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ uint4 load_shared(std::uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}
// The transpose of an 8 x 8 block held by a warp.
__device__ __forceinline__ std::uint32_t movmatrix(std::uint32_t a) {
  std::uint32_t out;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;\n" : "=r"(out) : "r"(a));
  return out;
}

__device__ __forceinline__ std::uint32_t pack_half(float low, float high) {
  const __half2 h = __floats2half2_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&h);
}

// A barrier among the `threads` threads that name it; 0 is __syncthreads'.
__device__ __forceinline__ void named_barrier(int name, int threads) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(name), "r"(threads) : "memory");
}

// ---- Barriers that count arrivals and bytes -----------------------------------------------------

__device__ __forceinline__ void barrier_init(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(barrier), "r"(arrivals));
}
__device__ __forceinline__ void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
}
__device__ __forceinline__ void barrier_expect(std::uint32_t barrier, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void barrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier) : "memory");
}
// At the same barrier of another block of the cluster.
__device__ __forceinline__ void barrier_arrive_at(std::uint32_t barrier, std::uint32_t rank) {
  asm volatile(
      "{\n.reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}\n" ::"r"(barrier),
      "r"(rank)
      : "memory");
}
__device__ __forceinline__ void barrier_wait(std::uint32_t barrier, std::uint32_t parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra over;\n"
      "bra again;\n"
      "over:\n}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// ---- Clusters -----------------------------------------------------------------------------------

__device__ __forceinline__ std::uint32_t cluster_rank() {
  std::uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;\n" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;\n" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;\n" ::: "memory");
}

// `bytes` of this block's shared memory to the same place in block `rank`, where they count at the
// same barrier. What is sent must be fenced for asynchronous readers.
__device__ __forceinline__ void copy_to_block(std::uint32_t at, std::uint32_t bytes,
                                              std::uint32_t barrier, std::uint32_t rank) {
  asm volatile(
      "{\n.reg .b32 to;\n.reg .b32 done;\n"
      "mapa.shared::cluster.u32 to, %0, %3;\n"
      "mapa.shared::cluster.u32 done, %2, %3;\n"
      "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [to], [%0], %1, "
      "[done];\n}\n" ::"r"(at),
      "r"(bytes), "r"(barrier), "r"(rank)
      : "memory");
}
__device__ __forceinline__ void store_in_block(std::uint32_t at, double v, std::uint32_t rank) {
  asm volatile(
      "{\n.reg .b32 to;\n"
      "mapa.shared::cluster.u32 to, %0, %2;\n"
      "st.shared::cluster.f64 [to], %1;\n}\n" ::"r"(at),
      "d"(v), "r"(rank)
      : "memory");
}

// ---- Bulk tensor copies -------------------------------------------------------------------------

// A box of the tensor at (x, y, z) into shared memory; its bytes count at the barrier.
__device__ __forceinline__ void tma_load(std::uint32_t to, const CUtensorMap* map,
                                         std::uint32_t barrier, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
      "%4, %5}], [%2];\n" ::"r"(to),
      "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z)
      : "memory");
}
// The same into every block of the cluster whose bit in `mask` is set, at the same place there.
__device__ __forceinline__ void tma_load_multicast(std::uint32_t to, const CUtensorMap* map,
                                                   std::uint32_t barrier, std::uint16_t mask, int x,
                                                   int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::"
      "cluster [%0], [%1, {%4, %5, %6}], [%2], %3;\n" ::"r"(to),
      "l"(map), "r"(barrier), "h"(mask), "r"(x), "r"(y), "r"(z)
      : "memory");
}
__device__ __forceinline__ void prefetch_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];\n" ::"l"(map) : "memory");
}

// ---- Kernels in a row ---------------------------------------------------------------------------

// Programmatic dependent launch: the next kernel's blocks may start once all of this one's have
// said so or ended; what they read of this kernel's results must wait for its end.
__device__ __forceinline__ void launch_dependents() {
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
}
__device__ __forceinline__ void wait_for_dependency() {
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
}

template <int registers>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(registers));
}
template <int registers>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(registers));
}

}  // namespace gramian::cuda::hopper
