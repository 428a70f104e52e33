// The whole iteration of one matrix with 128 < m <= 256, n <= 256, in a cluster of two blocks.
//
// Both blocks hold all of X (256 x 256). G is formed by each of them, its lower triangle only: that
// costs less than to exchange it. P X is shared: each of the four warpgroups of the cluster owns a
// slab of 64 rows of P, in registers, and of the new X, which it stores in its own block's copy
// and sends to the other's by a bulk copy. Columns go in two halves, so that one half's exchange
// runs beside the other's product and the next Gram product starts on the half that is there.
#pragma once

#include "small_half_kernel.cuh"

namespace gramian::cuda::small_half_detail {

namespace cluster {

inline constexpr int side = 256;
inline constexpr int panels = side / 64;
inline constexpr int threads = 256;
inline constexpr int depth = side / 16;
inline constexpr std::uint32_t block_64 = 64 * 128;  // bytes of 64 x 64 entries in a panel
inline constexpr std::uint32_t x_panel = side * 128;
inline constexpr std::uint32_t g_panel = 128 * 128;
inline constexpr std::uint32_t g_block = 2 * g_panel;

// Shared memory: Slots and barriers; G11, G21, G22 of 128 x 128 (all of G has no room: its fourth
// block is G21 read with the other index adjacent); X.
inline constexpr std::uint32_t g_at = 1024;
inline constexpr std::uint32_t x_at = g_at + 3 * g_block;
inline constexpr std::size_t bytes = x_at + panels * x_panel;

using Fragments = std::uint32_t[depth][4];

/// One warpgroup's share.
class Share {
 public:
  __device__ __forceinline__ Share(std::uint32_t memory)
      : memory_(memory),
        rank_(static_cast<int>(hopper::cluster_rank())),
        group_(__shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0)),
        warp_(__shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32 % 4, 0)),
        lane_(static_cast<int>(threadIdx.x) % 32) {
    const auto l = static_cast<std::uint32_t>(lane_);
    const auto w = static_cast<std::uint32_t>(warp_);
    straight_ = (w * 16 + l % 16) * 128 + (((l / 16) ^ (l % 8)) << 4);
    turned_ = (l / 16 * 8 + l % 8) * 128 + (((w * 2 + l / 8 % 2) ^ (l % 8)) << 4);
  }

  /// The slab that this warpgroup owns.
  __device__ __forceinline__ int slab() const { return 2 * rank_ + group_; }

  /// The lower triangle of G = X X^T by slabs, 3 and 0 or 2 and 1: 320 columns for either group.
  /// visit(sums, slab) for both slabs in turn; arrived(half) before columns of that half are read.
  template <class Visit, class Arrived>
  __device__ __forceinline__ void gram(Arrived arrived, Visit visit) const {
    if (group_ == 0)
      gram_slabs<3, 0>(arrived, visit);
    else
      gram_slabs<2, 1>(arrived, visit);
  }

  /// Rounded to float16 and stored; where the mirror image of a block lies in G11 or G22, it too.
  template <int slab>
  __device__ __forceinline__ void store_gram(const float (&sums)[32 * (slab + 1)]) const {
#pragma unroll
    for (int k = 0; k < 4 * (slab + 1); ++k) {
      const float* s = sums + 8 * k;
      const std::uint32_t f[4] = {hopper::pack_half(s[0], s[1]), hopper::pack_half(s[2], s[3]),
                                  hopper::pack_half(s[4], s[5]), hopper::pack_half(s[6], s[7])};
      hopper::stmatrix4(g_at_block(slab, k / 4) + (straight_ ^ (k % 4 * 32)), f[0], f[1], f[2],
                        f[3]);
      if (slab % 2 == 1 && k / 4 == slab - 1)
        hopper::stmatrix4_transposed(g_at_block(k / 4, slab) + k % 4 * 2048 + turned_, f[0], f[1],
                                     f[2], f[3]);
    }
  }

  /// This slab's rows of G, as the left operand.
  __device__ __forceinline__ void load_gram(Fragments& g) const {
#pragma unroll
    for (int k = 0; k < depth; ++k) {
      if (rank_ == 0 && k >= depth / 2)
        hopper::ldmatrix4_transposed(g_at_block(k / 4, slab()) + k % 4 * 2048 + turned_, g[k]);
      else
        hopper::ldmatrix4(g_at_block(slab(), k / 4) + (straight_ ^ (k % 4 * 32)), g[k]);
    }
  }

  /// low | high <- this slab's rows of G^2, columns 0 .. 127 | 128 .. 255.
  __device__ __forceinline__ void square(Fragments& g, float (&low)[64], float (&high)[64]) const {
    using namespace hopper;
    const std::uint32_t g11 = memory_ + g_at;
    const std::uint32_t g21 = g11 + g_block;
    const std::uint32_t g22 = g21 + g_block;
    wgmma_fence();
    wgmma_first<k_major>(low, g[0], k_major_operand(g11));
    wgmma_first<k_major>(high, g[0], k_major_operand(g21));
#pragma unroll
    for (int k = 1; k < depth / 2; ++k) {
      const std::uint32_t step = k / 4 * g_panel + k % 4 * 32;
      wgmma<k_major>(low, g[k], k_major_operand(g11 + step), 1);
      wgmma<k_major>(high, g[k], k_major_operand(g21 + step), 1);
    }
#pragma unroll
    for (int k = 0; k < depth / 2; ++k) {
      const std::uint32_t step = k / 4 * g_panel + k % 4 * 32;
      wgmma<mn_major>(low, g[k + depth / 2], mn_major_operand(g21 + k * 2048, g_panel), 1);
      wgmma<k_major>(high, g[k + depth / 2], k_major_operand(g22 + step), 1);
    }
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_touch(low);
    wgmma_touch(high);
    keep(g);
  }

  /// g <- a I + b g + c G^2.
  __device__ __forceinline__ void polynomial(const float (&low)[64], const float (&high)[64],
                                             const Coefficients& row, Fragments& g) const {
    const int met = 4 * slab() + warp_;  // the 16 columns that hold this warp's diagonal
    const float even = 2 * (lane_ % 4) == lane_ / 4 ? row.a : 0.0f;
    const float odd = 2 * (lane_ % 4) + 1 == lane_ / 4 ? row.a : 0.0f;
#pragma unroll
    for (int k = 0; k < depth; ++k)
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        const float* s = (k < depth / 2 ? low : high) + 8 * (k % (depth / 2)) + 2 * q;
        const float2 f = Float16::unpack(g[k][q]);
        float v0 = fmaf(row.b, f.x, row.c * s[0]);
        float v1 = fmaf(row.b, f.y, row.c * s[1]);
        if ((q == 0 || q == 3) && k == met) {
          v0 += even;
          v1 += odd;
        }
        g[k][q] = hopper::pack_half(v0, v1);
      }
  }

  /// Starts sums <- P_I X, columns of a half.
  __device__ __forceinline__ void apply(const Fragments& p, int half, float (&sums)[64]) const {
    using namespace hopper;
    const std::uint32_t x = memory_ + x_at + half * 2 * x_panel;
    wgmma_fence();
    wgmma_first<mn_major>(sums, p[0], mn_major_operand(x, x_panel));
#pragma unroll
    for (int k = 1; k < depth; ++k)
      wgmma<mn_major>(sums, p[k], mn_major_operand(x + k * 2048, x_panel), 1);
    wgmma_commit();
  }

  /// This slab's rows of a half of X.
  template <class Type>
  __device__ __forceinline__ void store(const float (&sums)[64], int half) const {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const float* s = sums + 8 * k;
      hopper::stmatrix4(slab_at(2 * half + k / 4) + (straight_ ^ (k % 4 * 32)),
                        Type::pack(s[0], s[1]), Type::pack(s[2], s[3]), Type::pack(s[4], s[5]),
                        Type::pack(s[6], s[7]));
    }
  }

  /// What this warpgroup has stored of a half, to the other block.
  __device__ __forceinline__ void send(int half) const {
    hopper::fence_async_shared();
    hopper::named_barrier(1 + group_, 128);
    if (threadIdx.x % 128 == 0)
      for (int panel = 2 * half; panel < 2 * half + 2; ++panel)
        hopper::copy_to_block(slab_at(panel), block_64, arrival(half),
                              static_cast<std::uint32_t>(rank_ ^ 1));
  }

  /// Bytes that the other block's two warpgroups send of a half.
  static constexpr std::uint32_t half_bytes = 2 * 2 * block_64;

  /// Counts what has arrived of a half.
  __device__ __forceinline__ std::uint32_t arrival(int half) const {
    return memory_ + static_cast<std::uint32_t>(sizeof(Slots)) + 8 * half;
  }

  static __device__ __forceinline__ void keep(Fragments& f) {
#pragma unroll
    for (int k = 0; k < depth; ++k)
#pragma unroll
      for (int q = 0; q < 4; ++q) asm volatile("" : "+r"(f[k][q])::"memory");
  }

  /// Of I - G, from a slab of its lower triangle; what lies above the diagonal counts by its mirror
  /// image. I has m rows.
  template <int slab>
  __device__ __forceinline__ float squares_from_one(const float (&sums)[32 * (slab + 1)],
                                                    int m) const {
    float below = 0;
    float on = 0;
#pragma unroll
    for (int i = 0; i < 32 * (slab + 1); ++i) {
      const int row = slab * 64 + warp_ * 16 + i / 2 % 2 * 8 + lane_ / 4;
      const int col = i / 4 * 8 + lane_ % 4 * 2 + i % 2;
      const float v = (row == col && row < m ? 1.0f : 0.0f) - sums[i];
      if (i < 32 * slab)
        below = fmaf(v, v, below);
      else
        on = fmaf(v, v, on);
    }
    return 2 * below + on;
  }

 private:
  template <int first, int second, class Arrived, class Visit>
  __device__ __forceinline__ void gram_slabs(Arrived arrived, Visit visit) const {
    float a[32 * (first + 1)];
    float b[32 * (second + 1)];
    arrived(0);
    hopper::wgmma_fence();
    gram_panels<first, 0>(a);
    gram_panels<second, 0>(b);
    arrived(1);
    gram_panels<first, 2>(a);
    hopper::wgmma_commit();
    gram_panels<second, 2>(b);
    hopper::wgmma_commit();
    hopper::wgmma_wait<1>();
    hopper::wgmma_touch(a);
    visit(a, std::integral_constant<int, first>());
    hopper::wgmma_wait<0>();
    hopper::wgmma_touch(b);
    visit(b, std::integral_constant<int, second>());
  }

  /// Two panels' part of a slab's columns 0 .. 64 slab + 63.
  template <int slab, int panel>
  __device__ __forceinline__ void gram_panels(float (&sums)[32 * (slab + 1)]) const {
    using namespace hopper;
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const std::uint32_t b = memory_ + x_at + (panel + k / 4) * x_panel + k % 4 * 32;
      const std::uint32_t a = b + slab * block_64;
      if (panel == 0 && k == 0)
        wgmma_first<k_major, k_major>(sums, k_major_operand(a), k_major_operand(b));
      else
        wgmma<k_major, k_major>(sums, k_major_operand(a), k_major_operand(b), 1);
    }
  }

  /// Where the 64 x 64 block (i, j) of G lies; i >= j, or both in one of G11, G22.
  __device__ __forceinline__ std::uint32_t g_at_block(int i, int j) const {
    return memory_ + g_at + (i / 2 + j / 2) * g_block + j % 2 * g_panel + i % 2 * block_64;
  }

  __device__ __forceinline__ std::uint32_t slab_at(int panel) const {
    return memory_ + x_at + panel * x_panel + slab() * block_64;
  }

  std::uint32_t memory_;
  int rank_;
  int group_;
  int warp_;
  int lane_;
  std::uint32_t straight_;  // what this thread tells stmatrix of 16 columns of a slab
  std::uint32_t turned_;    // and of their mirror image
};

}  // namespace cluster

template <class Type>
__global__ void __launch_bounds__(cluster::threads, 1)
    cluster_kernel([[maybe_unused]] const __grid_constant__ Call call) {
#ifdef GRAMIAN_HOPPER
  using namespace cluster;
  extern __shared__ __align__(1024) unsigned char shared[];
  Slots& slots = *reinterpret_cast<Slots*>(shared);
  const std::uint32_t memory = hopper::shared_address(shared);
  const Share share(memory);
  const bool leader = threadIdx.x == 0;
  const int rank = static_cast<int>(hopper::cluster_rank());
  const unsigned matrix = blockIdx.x / 2;

  const Passage<Type, side, threads> passage(call, memory + x_at, matrix, 128 * rank,
                                             128 * rank + 128);
  passage.load();
  const Scale scale = passage.scale(slots);
  if (scale.content != Content::numbers) {  // alike in both blocks
    const bool zero = scale.content == Content::zero;
    passage.fill(zero ? 0 : Type::nan);
    if (leader && rank == 0)
      put_figures(call, matrix, zero ? 0.0f : __int_as_float(0x7fc00000),
                  zero ? 1.0f : __int_as_float(0x7fc00000));
    return;
  }
  if (leader) {
    hopper::barrier_init(share.arrival(0), 1);
    hopper::barrier_init(share.arrival(1), 1);
    hopper::barrier_init_fence();
  }
  __syncwarp();
  hopper::fence_async_shared();
  __syncthreads();
  hopper::cluster_arrive();  // both blocks run, and their barriers are there
  hopper::cluster_wait();

  float s = call.normalization == Normalization::frobenius
                ? scale.norm
                : static_cast<float>(ldexp(call.bound, -scale.exponent));
#pragma unroll 1
  for (int step = 0; step < call.steps; ++step) {
    const auto arrived = [&](int half) {
      if (step > 0) hopper::barrier_wait(share.arrival(half), (step - 1) % 2);
    };
    share.gram(arrived, [&](auto& sums, auto slab) { share.template store_gram<slab>(sums); });
    hopper::fence_async_shared();
    __syncthreads();

    Fragments p;
    {
      float low[64];
      float high[64];
      share.load_gram(p);
      share.square(p, low, high);
      Coefficients row(call, step);
      if (step == 0) {
        if (call.normalization == Normalization::schatten) {
          float part = 0;
#pragma unroll
          for (int i = 0; i < 64; ++i) part = fmaf(high[i], high[i], fmaf(low[i], low[i], part));
          const double mine = block_sum<threads>(part, slots.first);
          if (leader) {
            slots.of_block[rank] = mine;
            hopper::store_in_block(hopper::shared_address(&slots.of_block[rank]), mine, rank ^ 1);
          }
          __syncwarp();
          hopper::cluster_arrive();
          hopper::cluster_wait();
          const double squares = slots.of_block[0] + slots.of_block[1];
          s = __fsqrt_rn(__fsqrt_rn(__fsqrt_rn(static_cast<float>(squares))));
        }
        row.divide(s);
      }
      share.polynomial(low, high, row, p);
    }

    // A half is overwritten once both blocks have read it: the cluster's barrier says so.
    const bool last = step + 1 == call.steps;
    float product[2][64];
    share.apply(p, 0, product[0]);
    hopper::wgmma_wait<0>();
    hopper::wgmma_touch(product[0]);
    hopper::cluster_arrive();
    share.apply(p, 1, product[1]);
    hopper::cluster_wait();
    if (last) {
      share.template store<Type>(product[0], 0);
    } else {
      if (leader) {
        hopper::barrier_expect(share.arrival(0), Share::half_bytes);
        hopper::barrier_expect(share.arrival(1), Share::half_bytes);
      }
      __syncwarp();
      share.template store<Float16>(product[0], 0);
      share.send(0);
    }
    hopper::wgmma_wait<0>();
    hopper::wgmma_touch(product[1]);
    Share::keep(p);
    hopper::cluster_arrive();
    hopper::cluster_wait();
    if (last) {
      share.template store<Type>(product[1], 1);
    } else {
      share.template store<Float16>(product[1], 1);
      share.send(1);
    }
    __syncthreads();
  }

  passage.store();
  float residual = 0;
  if (call.residual) {
    if (leader) {
      hopper::barrier_expect(share.arrival(0), Share::half_bytes);
      hopper::barrier_expect(share.arrival(1), Share::half_bytes);
    }
    passage.to_half();
    hopper::fence_async_shared();
    __syncthreads();
    share.send(0);
    share.send(1);
    const int parity = (call.steps - 1) % 2;
    float part = 0;
    share.gram([&](int half) { hopper::barrier_wait(share.arrival(half), parity); },
               [&](auto& sums, auto slab) {
                 part += share.template squares_from_one<slab>(sums, call.m);
               });
    residual = static_cast<float>(sqrt(block_sum<threads>(part, slots.last) / call.m));
  }
  if (leader && rank == 0) put_figures(call, matrix, norm_bound(call, s, scale.exponent), residual);
  __syncwarp();
  // A block's shared memory must outlive what it sends.
  hopper::cluster_arrive();
  hopper::cluster_wait();
#else
  __trap();  // not compiled for the device: better no result than a wrong one
#endif
}

}  // namespace gramian::cuda::small_half_detail
