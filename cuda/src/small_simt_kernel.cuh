// The whole iteration on one small matrix in one block. Both forms are those of
// cpp/src/newton_schulz_iteration.hpp, with the division by s folded into the first polynomial.
#pragma once

#include "gramian/coefficients.hpp"
#include "gramian/newton_schulz.hpp"
#include "small_simt_entrance.cuh"

namespace gramian::cuda::simt {

inline constexpr int max_rows = 128;       // of the table: parameters must stay under 4 KB
inline constexpr int max_batch_dims = 16;  // after merging; the host loops over more

struct Parameters {
  const void* x;
  void* out;
  Walk x_walk;
  Walk out_walk;
  DType dtype;
  Shape shape;
  int square;  // leading dimension of the m x m matrices
  int slices;  // of Gram products
  bool gram_form;
  Normalization normalization;
  double bound;
  int steps;
  std::uint32_t restarts[max_rows / 32];  // bit t: X <- Q X before step t
  Figures residual;
  Figures norm_bound;
  index_t first;  // matrix of block 0
  int batch_dims;
  index_t batch_shape[max_batch_dims];
  index_t x_batch[max_batch_dims];
  index_t out_batch[max_batch_dims];
  Row table[max_rows];

  __device__ __forceinline__ bool restarts_before(int step) const {
    return step > 0 && (restarts[step / 32] >> (step % 32) & 1u) != 0;
  }
};
static_assert(sizeof(Parameters) <= 4096);

/// The iteration over the products; squares are named by their place in shared memory.
template <class T, int TM, int TN>
struct Iteration {
  const Parameters& p;
  Share share;
  int g;
  int first_square;

  __device__ __forceinline__ Iteration(const Parameters& parameters)
      : p(parameters), share(share_of_warp<TM, TN>(p.shape.m)), g(p.shape.m * p.shape.ld) {}

  __device__ __forceinline__ int square(int index) const {
    return g + index * p.shape.m * p.square;
  }

  __device__ __forceinline__ void gram_into_g() const {
    gram<T, TM, TN>(share, p.shape.m, p.shape.n, 0, p.shape.ld, g, p.square, p.slices);
  }
  __device__ __forceinline__ double product_into(int s, int z, int c, const Update& update) const {
    return product<T, TM, TN>(share, p.shape.m, p.square, s, z, c, update);
  }
  __device__ __forceinline__ void apply_to_x(int s) const {
    apply<T, TM, TN>(p.shape.m, p.shape.n, s, p.square, 0, p.shape.ld);
  }

  /// c <- polynomial of step t in G; sets s where t is 0.
  __device__ __forceinline__ void polynomial(int t, int c, int exponent, double& s) const {
    const Row row = p.table[t];
    Update update{row.c, row.b, row.a, g, false};
    if (t == 0) {
      if (p.normalization == Normalization::schatten) {
        update.by_schatten = true;
      } else {
        s = p.normalization == Normalization::frobenius ? frobenius_norm<T>(p.shape)
                                                        : ldexp(p.bound, -exponent);
        const double square = s * s;
        update.gamma /= s;
        update.beta = update.beta / s / square;
        update.alpha = update.alpha / s / square / square;
      }
    }
    const double found = product_into(g, g, c, update);
    if (update.by_schatten) s = found;
  }

  /// X <- the iterate after all steps; returns s on the scale of X. The polynomial replaces G.
  __device__ __forceinline__ double standard(int exponent) const {
    double s = 1;
    for (int t = 0; t < p.steps; ++t) {
      gram_into_g();
      polynomial(t, g, exponent, s);
      apply_to_x(g);
    }
    return s;
  }

  /// As standard. Between two touches of X:  P = a I + b G + c G^2,  Q <- Q P,  G <- P G P.
  __device__ __forceinline__ double gram_form(int exponent) const {
    int last = square(1);  // P
    int all = square(2);   // Q
    bool all_is_one = true;
    double s = 1;
    gram_into_g();
    for (int t = 0; t < p.steps; ++t) {
      if (p.restarts_before(t)) {
        apply_to_x(all);
        gram_into_g();
        all_is_one = true;
      }
      polynomial(t, last, exponent, s);
      if (t + 1 < p.steps && !p.restarts_before(t + 1)) {  // else nobody reads the new G
        product_into(g, last, g, {});
        product_into(g, last, g, {});
      }
      if (all_is_one) {
        const int swapped = all;
        all = last;
        last = swapped;
        all_is_one = false;
      } else {
        product_into(all, last, all, {});
      }
    }
    apply_to_x(all);
    return s;
  }
};

template <class T, int TM, int TN>
__global__ void __launch_bounds__(max_warps* warp_size)
    small_simt_kernel(const __grid_constant__ Parameters p) {
  const index_t matrix = p.first + static_cast<index_t>(blockIdx.x);
  index_t x_offset = 0;
  index_t out_offset = 0;
  index_t rest = matrix;
  for (int d = p.batch_dims; d-- > 0;) {
    const index_t at = rest % p.batch_shape[d];
    rest /= p.batch_shape[d];
    x_offset += at * p.x_batch[d];
    out_offset += at * p.out_batch[d];
  }

  Entered entered{};
  with_storage<T>(p.dtype, [&](auto of) {
    using S = decltype(of);
    entered = enter<T>(static_cast<const S*>(p.x) + x_offset, p.x_walk, p.shape);
  });
  const auto leave_all = [&](T value, double residual, double norm_bound) {
    with_storage<T>(p.dtype, [&](auto of) {
      using S = decltype(of);
      fill(static_cast<S*>(p.out) + out_offset, p.out_walk, p.shape, value);
    });
    p.residual.put(matrix, residual);
    p.norm_bound.put(matrix, norm_bound);
  };
  if (entered.largest == 0) return leave_all(zero<T>(), 1, 0);
  if (isinf(entered.largest)) {
    const double nan = __longlong_as_double(0x7ff8000000000000ll);
    using R = real_part_t<T>;
    return leave_all(make<T>(static_cast<R>(nan), static_cast<R>(nan)), nan, nan);
  }

  const Iteration<T, TM, TN> iteration(p);
  const double s =
      p.gram_form ? iteration.gram_form(entered.exponent) : iteration.standard(entered.exponent);
  p.norm_bound.put(matrix, ldexp(s, entered.exponent));

  const bool wants_residual = p.residual.data != nullptr;
  with_storage<T>(p.dtype, [&](auto of) {
    using S = decltype(of);
    leave<T>(static_cast<S*>(p.out) + out_offset, p.out_walk, p.shape, wants_residual);
  });
  if (wants_residual) {
    iteration.gram_into_g();
    p.residual.put(matrix, distance_from_identity<T>(iteration.square(0), p.shape.m, p.square));
  }
}

}  // namespace gramian::cuda::simt
