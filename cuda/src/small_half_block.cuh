// The whole iteration of one matrix with m <= 128 in one block.
//
// Each warpgroup owns a slab of 64 rows of X, G = X X^T and P. A step:
//   G_I = X_I X^T         both operands from shared memory; kept in registers as float16, which is
//                         the very layout of the next product's left operand, and stored
//   P_I = a I + b G_I + c G_I G       float32 sums, rounded to float16, never stored
//   X_I <- P_I X          a chunk of columns at a time: once all slabs have read the chunk, it is
//                         overwritten in place
#pragma once

#include "small_half_kernel.cuh"

namespace gramian::cuda::small_half_detail {

/// Shared memory of a block: Slots, G, X.
template <int padded>
constexpr std::size_t block_bytes(int panels) {
  return 1024 + static_cast<std::size_t>(padded) * padded * 2 +
         static_cast<std::size_t>(panels) * padded * 128;
}

/// The slab of 64 rows of one warpgroup: accumulators of 64 x columns, and where they lie.
template <int slabs>
class Slab {
 public:
  static constexpr int padded = 64 * slabs;
  static constexpr std::uint32_t panel_bytes = padded * 128;
  static constexpr int depth = padded / 16;  // steps of a product that sums over m
  using Sums = float[padded / 2];
  using Fragments = std::uint32_t[depth][4];

  __device__ __forceinline__ Slab()
      : slab_(__shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0)),
        warp_(__shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32 % 4, 0)),
        lane_(static_cast<int>(threadIdx.x) % 32) {
    const int row = slab_ * 64 + warp_ * 16 + lane_ % 16;
    store_row_ = static_cast<std::uint32_t>(row * 128);
    store_piece_ = static_cast<std::uint32_t>(((lane_ / 16) ^ (row % 8)) << 4);
  }

  /// sums <- X_I X^T.
  __device__ __forceinline__ void gram(std::uint32_t x, int panels, Sums& sums) const {
    const std::uint32_t mine = x + slab_ * 8192;
    hopper::wgmma_fence();
    hopper::wgmma_first<hopper::k_major, hopper::k_major>(sums, hopper::k_major_operand(mine),
                                                          hopper::k_major_operand(x));
#pragma unroll
    for (int k = 1; k < 4; ++k) gram_step(mine + k * 32, x + k * 32, sums);
#pragma unroll 1
    for (int panel = 1; panel < panels; ++panel) {
      const std::uint32_t offset = panel * panel_bytes;
#pragma unroll
      for (int k = 0; k < 4; ++k) gram_step(mine + offset + k * 32, x + offset + k * 32, sums);
    }
    finish(sums);
  }

  /// sums <- G_I G.
  __device__ __forceinline__ void square(Fragments& g, std::uint32_t all, Sums& sums) const {
    hopper::wgmma_fence();
    hopper::wgmma_first<hopper::k_major>(sums, g[0], hopper::k_major_operand(all));
#pragma unroll
    for (int k = 1; k < depth; ++k)
      hopper::wgmma<hopper::k_major>(
          sums, g[k], hopper::k_major_operand(all + k / 4 * panel_bytes + k % 4 * 32), 1);
    finish(sums);
    keep(g);
  }

  /// sums <- P_I times the columns from `columns` on, a place in the first panel of the chunk.
  template <int chunk>
  __device__ __forceinline__ void apply(Fragments& p, std::uint32_t columns,
                                        float (&sums)[chunk / 2]) const {
    hopper::wgmma_fence();
    hopper::wgmma_first<hopper::mn_major>(sums, p[0],
                                          hopper::mn_major_operand(columns, panel_bytes));
#pragma unroll
    for (int k = 1; k < depth; ++k)
      hopper::wgmma<hopper::mn_major>(sums, p[k],
                                      hopper::mn_major_operand(columns + k * 2048, panel_bytes), 1);
    finish(sums);
    keep(p);
  }

  /// Rounded to float16, as the left operand of the next product.
  static __device__ __forceinline__ void round(const Sums& sums, Fragments& out) {
#pragma unroll
    for (int k = 0; k < depth; ++k)
#pragma unroll
      for (int q = 0; q < 4; ++q)
        out[k][q] = hopper::pack_half(sums[8 * k + 2 * q], sums[8 * k + 2 * q + 1]);
  }

  /// g <- a I + b g + c sums.
  __device__ __forceinline__ void polynomial(const Sums& sums, const Coefficients& row,
                                             Fragments& g) const {
    // The diagonal meets the 16 columns 4 slab + warp in blocks 0 and 3 of four 8 x 8 blocks.
    const int met = 4 * slab_ + warp_;
    const float low = 2 * (lane_ % 4) == lane_ / 4 ? row.a : 0.0f;
    const float high = 2 * (lane_ % 4) + 1 == lane_ / 4 ? row.a : 0.0f;
#pragma unroll
    for (int k = 0; k < depth; ++k)
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        const float2 f = Float16::unpack(g[k][q]);
        float v0 = fmaf(row.b, f.x, row.c * sums[8 * k + 2 * q]);
        float v1 = fmaf(row.b, f.y, row.c * sums[8 * k + 2 * q + 1]);
        if ((q == 0 || q == 3) && k == met) {
          v0 += low;
          v1 += high;
        }
        g[k][q] = hopper::pack_half(v0, v1);
      }
  }

  /// The slab's rows of 64-column panels, from the first on.
  __device__ __forceinline__ void store(const Fragments& from, std::uint32_t panels) const {
#pragma unroll
    for (int k = 0; k < depth; ++k)
      hopper::stmatrix4(place(panels, k), from[k][0], from[k][1], from[k][2], from[k][3]);
  }
  template <class Type, int chunk>
  __device__ __forceinline__ void store(const float (&sums)[chunk / 2],
                                        std::uint32_t panels) const {
#pragma unroll
    for (int k = 0; k < chunk / 16; ++k) {
      const float* s = sums + 8 * k;
      hopper::stmatrix4(place(panels, k), Type::pack(s[0], s[1]), Type::pack(s[2], s[3]),
                        Type::pack(s[4], s[5]), Type::pack(s[6], s[7]));
    }
  }

  static __device__ __forceinline__ float squares(const Sums& sums) {
    float part = 0;
#pragma unroll
    for (int i = 0; i < padded / 2; ++i) part = fmaf(sums[i], sums[i], part);
    return part;
  }

  /// Of I - sums, where I has m rows.
  __device__ __forceinline__ float squares_from_one(const Sums& sums, int m) const {
    float part = 0;
#pragma unroll
    for (int i = 0; i < padded / 2; ++i) {
      const int row = slab_ * 64 + warp_ * 16 + i / 2 % 2 * 8 + lane_ / 4;
      const int col = i / 4 * 8 + lane_ % 4 * 2 + i % 2;
      const float v = (row == col && row < m ? 1.0f : 0.0f) - sums[i];
      part = fmaf(v, v, part);
    }
    return part;
  }

 private:
  static __device__ __forceinline__ void gram_step(std::uint32_t a, std::uint32_t b, Sums& sums) {
    hopper::wgmma<hopper::k_major, hopper::k_major>(sums, hopper::k_major_operand(a),
                                                    hopper::k_major_operand(b), 1);
  }

  template <int n>
  static __device__ __forceinline__ void finish(float (&sums)[n]) {
    hopper::wgmma_commit();
    hopper::wgmma_wait<0>();
    hopper::wgmma_touch(sums);
  }

  /// The products read these registers until they have been waited for.
  static __device__ __forceinline__ void keep(Fragments& f) {
#pragma unroll
    for (int k = 0; k < depth; ++k)
#pragma unroll
      for (int q = 0; q < 4; ++q) asm volatile("" : "+r"(f[k][q])::"memory");
  }

  /// Of columns 16 k .. 16 k + 15: what this thread tells stmatrix.
  __device__ __forceinline__ std::uint32_t place(std::uint32_t panels, int k) const {
    return panels + k / 4 * panel_bytes + store_row_ + (store_piece_ ^ (k % 4 * 32));
  }

  int slab_;
  int warp_;
  int lane_;
  std::uint32_t store_row_;
  std::uint32_t store_piece_;
};

template <class Type, int slabs, int chunk, int blocks_per_sm>
__global__ void __launch_bounds__(128 * slabs, blocks_per_sm)
    block_kernel([[maybe_unused]] const __grid_constant__ Call call) {
#ifdef GRAMIAN_HOPPER
  using Rows = Slab<slabs>;
  constexpr int threads = 128 * slabs;
  extern __shared__ __align__(1024) unsigned char memory[];
  Slots& slots = *reinterpret_cast<Slots*>(memory);
  const std::uint32_t g_panels = hopper::shared_address(memory) + 1024;
  const std::uint32_t x_panels = g_panels + slabs * Rows::panel_bytes;

  const Passage<Type, Rows::padded, threads> passage(call, x_panels, blockIdx.x, 0, call.m);
  passage.load();
  const Scale scale = passage.scale(slots);
  if (scale.content != Content::numbers) {
    const bool zero = scale.content == Content::zero;
    passage.fill(zero ? 0 : Type::nan);
    if (threadIdx.x == 0)
      put_figures(call, blockIdx.x, zero ? 0.0f : __int_as_float(0x7fc00000),
                  zero ? 1.0f : __int_as_float(0x7fc00000));
    return;
  }
  hopper::fence_async_shared();
  __syncthreads();

  const Rows rows;
  float s = call.normalization == Normalization::frobenius
                ? scale.norm
                : static_cast<float>(ldexp(call.bound, -scale.exponent));
#pragma unroll 1
  for (int step = 0; step < call.steps; ++step) {
    typename Rows::Sums sums;
    typename Rows::Fragments p;
    rows.gram(x_panels, call.panels, sums);
    Rows::round(sums, p);
    rows.store(p, g_panels);
    hopper::fence_async_shared();
    __syncthreads();

    rows.square(p, g_panels, sums);
    Coefficients row(call, step);
    if (step == 0) {
      if (call.normalization == Normalization::schatten) {
        const double squares = block_sum<threads>(Rows::squares(sums), slots.first);
        s = __fsqrt_rn(__fsqrt_rn(__fsqrt_rn(static_cast<float>(squares))));
      }
      row.divide(s);
    }
    rows.polynomial(sums, row, p);

    const bool last = step + 1 == call.steps;
#pragma unroll 1
    for (int panel = 0; panel < call.panels; panel += chunk / 64) {
      const std::uint32_t columns = x_panels + panel * Rows::panel_bytes;
      float product[chunk / 2];
      rows.template apply<chunk>(p, columns, product);
      __syncthreads();
      if (last)
        rows.template store<Type, chunk>(product, columns);
      else
        rows.template store<Float16, chunk>(product, columns);
    }
    hopper::fence_async_shared();
    __syncthreads();
  }

  passage.store();
  float residual = 0;
  if (call.residual) {
    typename Rows::Sums sums;
    passage.to_half();
    hopper::fence_async_shared();
    __syncthreads();
    rows.gram(x_panels, call.panels, sums);
    const double squares = block_sum<threads>(rows.squares_from_one(sums, call.m), slots.last);
    residual = static_cast<float>(sqrt(squares / call.m));
  }
  if (threadIdx.x == 0)
    put_figures(call, blockIdx.x, norm_bound(call, s, scale.exponent), residual);
#else
  __trap();  // not compiled for the device: better no result than a wrong one
#endif
}

}  // namespace gramian::cuda::small_half_detail
