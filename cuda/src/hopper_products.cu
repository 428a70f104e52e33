#include "hopper_products.hpp"

#include <algorithm>
#include <array>
#include <mutex>

#include "dependent_launch.cuh"
#include "tensor_map.hpp"

namespace gramian::cuda {

namespace {

struct Combine {
  const __half* g;
  __half* p;
  long long stride;
  int m, ld;
  unsigned blocks;  // per matrix
  const double* device_scalars;
  float alpha, beta, gamma;
};

constexpr int combine_threads = 256;

// P <- alpha P + beta G + gamma I, eight entries a thread.
__global__ void __launch_bounds__(combine_threads) combine_kernel(Combine c) {
  await_earlier_kernels();
  const long long matrix = blockIdx.x / c.blocks;
  const int at = static_cast<int>(blockIdx.x % c.blocks * combine_threads + threadIdx.x);
  const int groups = (c.m + 7) / 8;
  const int row = at / groups;
  const int col = at % groups * 8;
  if (row >= c.m) return;
  if (c.device_scalars) {
    const double* s = c.device_scalars + 3 * matrix;
    c.alpha = static_cast<float>(s[0]);
    c.beta = static_cast<float>(s[1]);
    c.gamma = static_cast<float>(s[2]);
  }
  // Rows are padded to a multiple of eight entries, so whole groups may be read and written.
  const long long offset = matrix * c.stride + static_cast<long long>(row) * c.ld + col;
  const uint4 from_g = *reinterpret_cast<const uint4*>(c.g + offset);
  uint4 both = *reinterpret_cast<const uint4*>(c.p + offset);
  const auto* pair_g = reinterpret_cast<const __half2*>(&from_g);
  auto* pair_p = reinterpret_cast<__half2*>(&both);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float2 v = __half22float2(pair_p[i]);
    const float2 w = __half22float2(pair_g[i]);
    v.x = c.alpha * v.x + c.beta * w.x + (col + 2 * i == row ? c.gamma : 0.f);
    v.y = c.alpha * v.y + c.beta * w.y + (col + 2 * i + 1 == row ? c.gamma : 0.f);
    pair_p[i] = __floats2half2_rn(v.x, v.y);
  }
  *reinterpret_cast<uint4*>(c.p + offset) = both;
}

void write_to(hopper::ProductArguments& p, const Matrices& c) {
  p.c = static_cast<std::uint16_t*>(c.data);
  p.c_ld = c.ld;
  p.c_stride = c.stride;
}

/// out as what the product kernel can store to: its result, or the transpose of it.
struct Target {
  Matrices to;
  bool plain;
};

bool find_target(const ArrayRef& out, index_t batch, index_t m, index_t n, Target& target) {
  Layout layout;
  if ((out.dtype != DType::float16 && out.dtype != DType::bfloat16) || !wide_layout(out, layout))
    return false;
  target.plain = layout.across == 1 || n == 1;
  if (!target.plain && layout.down != 1 && m != 1) return false;
  target.to = {layout.data, target.plain ? layout.down : layout.across, layout.stride};
  return tensor_map_fits(target.to, batch, target.plain ? m : n, target.plain ? n : m);
}

}  // namespace

HopperProducts::HopperProducts(const Queue& queue, index_t batch, index_t m, index_t n)
    : queue_(queue), batch_(batch), m_(m), n_(n) {
  const auto of = [](index_t v) { return static_cast<int>(v); };
  square_ = hopper::choose_shape(queue, of(m), of(m), of(m), of(batch), true);
  gram_ = hopper::choose_shape(queue, of(m), of(m), of(n), of(batch), true);
  long_ = hopper::choose_shape(queue, of(m), of(n), of(m), of(batch), false);
}

index_t HopperProducts::norm_count() const {
  const int m = static_cast<int>(m_);
  return hopper::norm_parts(hopper::Tiling(m, m, square_.tile, square_.cluster, true),
                            square_.cluster);
}

const CUtensorMap& HopperProducts::map(const Matrices& x, index_t rows, index_t cols,
                                       int box_rows) {
  for (const Known& k : maps_)
    if (k.data == x.data && k.rows == rows && k.cols == cols && k.box_rows == box_rows)
      return k.map;
  maps_.push_back(
      {x.data, rows, cols, box_rows, tensor_map(x, batch_, rows, cols, hopper::chunk, box_rows)});
  return maps_.back().map;
}

void HopperProducts::hermitian(Matrices a, Matrices b, index_t depth, Matrices d, Matrices c,
                               const Scalars& scalars, NormParts norm) {
  // The number of parts of the norm is that of the one shape.
  const hopper::Shape shape = norm.data || depth == m_ ? square_ : gram_;
  hopper::ProductArguments p{};
  p.a = map(a, m_, depth, hopper::tile_rows);
  p.b = map(b, m_, depth, hopper::box_rows_of_b(shape, true));
  write_to(p, c);
  if (d) p.d = map(d, m_, m_, hopper::tile_rows);
  p.add_d = static_cast<bool>(d);
  p.rows = p.cols = static_cast<int>(m_);
  p.depth = static_cast<int>(depth);
  p.batch = static_cast<int>(batch_);
  p.device_scalars = scalars.device;
  p.alpha = static_cast<float>(scalars.alpha);
  p.beta = static_cast<float>(scalars.beta);
  p.gamma = static_cast<float>(scalars.gamma);
  p.norm = norm.data;
  p.norm_count = static_cast<int>(norm.count);
  p.store = p.store_mirror = static_cast<bool>(c);
  hopper::launch_hermitian(queue_, shape, p);
}

void HopperProducts::gram(Matrices x, Matrices g, const Scalars& scalars, NormParts norm) {
  hermitian(x, x, n_, {}, g, scalars, norm);
}

void HopperProducts::product(Matrices s, Matrices z, Matrices d, Matrices c, const Scalars& scalars,
                             NormParts norm) {
  hermitian(s, z, m_, d, c, scalars, norm);
}

void HopperProducts::combine(Matrices g, Matrices p, const Scalars& scalars) {
  const index_t blocks = (m_ * ((m_ + 7) / 8) + combine_threads - 1) / combine_threads;
  const index_t most = std::max<index_t>(1, ((index_t{1} << 31) - 1) / blocks);  // in one launch
  for (index_t first = 0; first < batch_; first += most) {
    const index_t matrices = std::min(most, batch_ - first);
    launch_after(
        queue_, combine_kernel, static_cast<unsigned>(matrices * blocks), combine_threads,
        "launching combine",
        Combine{static_cast<const __half*>(g.data) + first * g.stride,
                static_cast<__half*>(p.data) + first * p.stride, g.stride, static_cast<int>(m_),
                static_cast<int>(g.ld), static_cast<unsigned>(blocks),
                scalars.device ? scalars.device + 3 * first : nullptr,
                static_cast<float>(scalars.alpha), static_cast<float>(scalars.beta),
                static_cast<float>(scalars.gamma)});
  }
}

hopper::ProductArguments HopperProducts::general(Matrices s, Matrices x) {
  hopper::ProductArguments p{};
  p.a = map(s, m_, m_, hopper::tile_rows);
  p.b = map(x, m_, n_, hopper::box_rows_of_b(long_, false));
  p.rows = static_cast<int>(m_);
  p.cols = static_cast<int>(n_);
  p.depth = static_cast<int>(m_);
  p.batch = static_cast<int>(batch_);
  p.alpha = 1;
  return p;
}

void HopperProducts::apply(Matrices s, Matrices x, Matrices y) {
  hopper::ProductArguments p = general(s, x);
  write_to(p, y);
  p.store = true;
  hopper::launch_general(queue_, long_, p);
}

bool HopperProducts::can_apply_to(const ArrayRef& out) const {
  Target target;
  return find_target(out, batch_, m_, n_, target);
}

void HopperProducts::apply_to(Matrices s, Matrices x, const ArrayRef& out) {
  Target target;
  if (!find_target(out, batch_, m_, n_, target)) throw Error("apply_to: unsupported layout");
  hopper::ProductArguments p = general(s, x);
  write_to(p, target.to);
  p.store = target.plain;
  p.store_mirror = !target.plain;
  p.bfloat16 = out.dtype == DType::bfloat16;
  hopper::launch_general(queue_, long_, p);
}

}  // namespace gramian::cuda
