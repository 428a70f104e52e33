// The passes around the products: magnitudes, exact scaling, conversions, norms.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "gramian/context.hpp"
#include "gramian/dtype.hpp"
#include "gramian/matrix_view.hpp"

namespace gramian::detail {

/// Storage formats by their bits: magnitudes compare like the unsigned integers they are stored in.
template <class S>
struct Bits {
  using type = std::conditional_t<sizeof(S) == 8, std::uint64_t, std::uint32_t>;
  static constexpr type magnitude =
      sizeof(S) == 8 ? type(~std::uint64_t{0} >> 1) : type(0x7fffffff);
  static constexpr type infinity = sizeof(S) == 8 ? type(0x7ff0000000000000ull) : type(0x7f800000);
  static double value(type b) { return static_cast<double>(std::bit_cast<S>(b)); }
};
template <>
struct Bits<Half> {
  using type = std::uint16_t;
  static constexpr type magnitude = 0x7fff;
  static constexpr type infinity = 0x7c00;
  static double value(type b) { return static_cast<double>(to_float(Half{b})); }
};
template <>
struct Bits<BFloat16> {
  using type = std::uint16_t;
  static constexpr type magnitude = 0x7fff;
  static constexpr type infinity = 0x7f80;
  static double value(type b) { return static_cast<double>(to_float(BFloat16{b})); }
};

/// The entries as runs along the dimension of the smaller step: body(first, count, stride).
template <class T, class F>
void for_each_run(MatrixView<T> x, F&& body) {
  if (std::abs(x.row_stride) < std::abs(x.col_stride)) x = x.transposed();
  for (index_t i = 0; i < x.rows; ++i) body(x.data + i * x.row_stride, x.cols, x.col_stride);
}

template <class B>
B max_bits(const B* p, index_t count, index_t stride, B mask) {
  B top = 0;
  if (stride == 1) {
    for (index_t j = 0; j < count; ++j) top = std::max(top, static_cast<B>(p[j] & mask));
  } else {
    for (index_t j = 0; j < count; ++j) top = std::max(top, static_cast<B>(p[j * stride] & mask));
  }
  return top;
}

/// Largest magnitude of an entry (of its real or imaginary part); infinity if any is not finite.
template <class S>
double largest_entry(MatrixView<const S> x) {
  using R = real_t<S>;
  using B = Bits<R>;
  typename B::type top = 0;
  for_each_run(x, [&](const S* p, index_t count, index_t stride) {
    const auto* bits = reinterpret_cast<const typename B::type*>(p);
    if constexpr (is_complex_v<S>) {
      if (stride == 1) {
        top = std::max(top, max_bits<typename B::type>(bits, 2 * count, 1, B::magnitude));
      } else {
        top = std::max(top, max_bits<typename B::type>(bits, count, 2 * stride, B::magnitude));
        top = std::max(top, max_bits<typename B::type>(bits + 1, count, 2 * stride, B::magnitude));
      }
    } else {
      top = std::max(top, max_bits<typename B::type>(bits, count, stride, B::magnitude));
    }
  });
  return top >= B::infinity ? std::numeric_limits<double>::infinity() : B::value(top);
}

/// Multiplies by 2^exponent, exactly but for underflow, and converts S to T.
template <class S, class T>
class PowerOfTwo {
  using R = real_t<T>;

 public:
  explicit PowerOfTwo(int exponent)
      : direct_(std::is_same_v<S, T> &&
                std::abs(exponent) < std::numeric_limits<R>::max_exponent - 1),
        once_(direct_ ? static_cast<R>(std::ldexp(1.0, exponent)) : R(1)),
        first_(std::ldexp(1.0, exponent / 2)),
        second_(std::ldexp(1.0, exponent - exponent / 2)) {}

  /// Whether one factor of the type itself will do: then use times(), which vectorizes.
  bool direct() const { return direct_; }
  T times(const S& v) const {
    if constexpr (std::is_same_v<S, T>)
      return v * once_;
    else
      return (*this)(v);
  }

  /// Any exponent that a double can have: 2^1074 is no double, so in two factors.
  T operator()(const S& v) const {
    if constexpr (is_complex_v<S>)
      return T(in_two(v.real()), in_two(v.imag()));
    else if constexpr (std::is_same_v<S, Half> || std::is_same_v<S, BFloat16>)
      return in_two(to_float(v));
    else
      return in_two(v);
  }

 private:
  template <class V>
  R in_two(V v) const {
    return static_cast<R>(static_cast<double>(v) * first_ * second_);
  }

  bool direct_;
  R once_;
  double first_;
  double second_;
};

template <class S, class T>
inline S round_to(T v) {
  if constexpr (std::is_same_v<S, Half>)
    return to_half(static_cast<float>(v));
  else if constexpr (std::is_same_v<S, BFloat16>)
    return to_bfloat16(static_cast<float>(v));
  else
    return S(v);
}

/// Applies map(x(i, j)) -> out(i, j) over blocks that suit both layouts.
template <class In, class Out, class F>
void map_entries(Context& ctx, MatrixView<const In> x, MatrixView<Out> out, F&& map) {
  constexpr index_t band = 32;
  const index_t bands = (x.rows + band - 1) / band;
  ctx.run(bands, [&](index_t b, int) {
    const index_t i1 = std::min(x.rows, (b + 1) * band);
    if (x.col_stride == 1 && out.col_stride == 1) {
      for (index_t i = b * band; i < i1; ++i) {
        const In* src = x.data + i * x.row_stride;
        Out* dst = out.data + i * out.row_stride;
        for (index_t j = 0; j < x.cols; ++j) dst[j] = map(src[j]);
      }
      return;
    }
    for (index_t j0 = 0; j0 < x.cols; j0 += band)
      for (index_t i = b * band; i < i1; ++i)
        for (index_t j = j0; j < std::min(x.cols, j0 + band); ++j) out(i, j) = map(x(i, j));
  });
}

/// out <- 2^exponent x.
template <class S, class T>
void scale_into(Context& ctx, MatrixView<const S> x, int exponent, MatrixView<T> out) {
  const PowerOfTwo<S, T> power(exponent);
  if (power.direct())
    map_entries<S, T>(ctx, x, out, [power](const S& v) { return power.times(v); });
  else
    map_entries<S, T>(ctx, x, out, [power](const S& v) { return power(v); });
}

/// ||X||_F in double, summed in an order that only the shape decides. `partial` holds
/// one double per row.
template <class T>
double frobenius_norm(Context& ctx, MatrixView<const T> x, double* partial) {
  constexpr index_t band = 16;
  ctx.run((x.rows + band - 1) / band, [&](index_t b, int) {
    for (index_t i = b * band; i < std::min(x.rows, (b + 1) * band); ++i) {
      const T* row = x.data + i * x.row_stride;
      const auto* real = reinterpret_cast<const real_t<T>*>(row);
      const index_t count = x.cols * (is_complex_v<T> ? 2 : 1);
      double lane[8] = {};  // independent sums, so that the loop vectorizes
      index_t j = 0;
      for (; j + 8 <= count; j += 8)
        for (int l = 0; l < 8; ++l) {
          const double v = static_cast<double>(real[j + l]);
          lane[l] += v * v;
        }
      double sum =
          ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
      for (; j < count; ++j) sum += static_cast<double>(real[j]) * static_cast<double>(real[j]);
      partial[i] = sum;
    }
  });
  double total = 0.0;
  for (index_t i = 0; i < x.rows; ++i) total += partial[i];
  return std::sqrt(total);
}

}  // namespace gramian::detail
