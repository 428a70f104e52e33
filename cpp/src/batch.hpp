// What functions over a batch share: how threads are dealt out, magnitudes, per-matrix figures.
#pragma once

#include <algorithm>
#include <complex>
#include <limits>
#include <type_traits>
#include <vector>

#include "elementwise.hpp"
#include "gramian/array_ref.hpp"
#include "gramian/context.hpp"
#include "gramian/threads.hpp"

namespace gramian::detail {

/// What entries stored as S are computed in.
template <class S>
using compute_t =
    std::conditional_t<std::is_same_v<S, Half> || std::is_same_v<S, BFloat16>, float, S>;

template <class S>
S quiet_nan() {
  using R = real_t<S>;
  if constexpr (std::is_same_v<S, Half>)
    return Half{0x7e00};
  else if constexpr (std::is_same_v<S, BFloat16>)
    return BFloat16{0x7fc0};
  else if constexpr (is_complex_v<S>)
    return S(std::numeric_limits<R>::quiet_NaN(), std::numeric_limits<R>::quiet_NaN());
  else
    return std::numeric_limits<R>::quiet_NaN();
}

// Up to this short side a matrix stays on one core and a batch is dealt out to the cores: there is
// too little in one product to share (at 256 x 256 a third of the time went into waiting).
inline constexpr index_t shared_side = 256;

// Unless there are fewer matrices than cores, and each holds this many multiply-adds a product.
inline constexpr double shared_work = 1e8;

// Multiply-adds below which a call takes no turn among the threads: it is over before it matters.
inline constexpr double ungated_work = 5e6;

/// How a batch of matrices uses threads.
struct BatchPlan {
  bool shared;  // all threads work on one matrix after the other; else each on its own
  bool gated;
  int want;  // threads

  /// `products` products of each matrix with its adjoint, or as much work.
  BatchPlan(index_t count, index_t rows, index_t cols, double products) {
    const index_t m = std::min(rows, cols);
    const double product =
        static_cast<double>(m) * static_cast<double>(rows) * static_cast<double>(cols);
    shared = m > shared_side || (count < num_threads() && product > shared_work);
    gated = static_cast<double>(count) * products * product >= ungated_work;
    want = !gated   ? 1
           : shared ? num_threads()
                    : static_cast<int>(std::min<index_t>(num_threads(), count));
  }
};

/// Largest entry of each matrix; infinity for one that is not finite.
template <class S>
void largest_entries(Context& ctx, const BatchView<const S>& x, bool shared,
                     std::vector<double>& largest) {
  if (!shared) {
    ctx.run(x.size(),
            [&](index_t b, int) { largest[static_cast<std::size_t>(b)] = largest_entry<S>(x[b]); });
    return;
  }
  constexpr index_t bands = 64;
  for (index_t b = 0; b < x.size(); ++b) {
    MatrixView<const S> one = x[b];
    if (std::abs(one.row_stride) < std::abs(one.col_stride)) one = one.transposed();
    double top[bands] = {};
    ctx.run(bands, [&](index_t band, int) {
      MatrixView<const S> part = one;
      const index_t first = one.rows * band / bands;
      part.data += first * one.row_stride;
      part.rows = one.rows * (band + 1) / bands - first;
      top[band] = largest_entry<S>(part);
    });
    largest[static_cast<std::size_t>(b)] = *std::max_element(top, top + bands);
  }
}

/// Entry b of an array of figures, which may be absent.
inline void put(const ArrayRef& figures, index_t b, double value) {
  if (!figures.data) return;
  index_t at = 0;
  for (std::size_t d = figures.shape.size(); d-- > 0; b /= figures.shape[d])
    at += b % figures.shape[d] * figures.strides[d];
  if (figures.dtype == DType::float64)
    figures.vector<double>()[at] = value;
  else
    figures.vector<float>()[at] = static_cast<float>(value);
}

inline bool has_no_entries(const ArrayRef& a) {
  return a.shape.back() == 0 || a.shape[a.shape.size() - 2] == 0;
}

/// fn.operator()<S>(), S the type that an array of this dtype stores.
template <class F>
auto with_stored_type(DType dtype, F&& fn) {
  switch (dtype) {
    case DType::float16:
      return fn.template operator()<Half>();
    case DType::bfloat16:
      return fn.template operator()<BFloat16>();
    case DType::float32:
      return fn.template operator()<float>();
    case DType::float64:
      return fn.template operator()<double>();
    case DType::complex64:
      return fn.template operator()<std::complex<float>>();
    case DType::complex128:
      break;
  }
  return fn.template operator()<std::complex<double>>();
}

}  // namespace gramian::detail
