// Element types, and the two 16-bit formats that are stored but never computed in.
#pragma once

#include <bit>
#include <complex>
#include <cstdint>
#include <limits>

namespace gramian {

enum class DType { float16, bfloat16, float32, float64, complex64, complex128 };

/// Bytes of an element.
constexpr int element_size(DType dtype) {
  switch (dtype) {
    case DType::float16:
    case DType::bfloat16:
      return 2;
    case DType::float32:
      return 4;
    case DType::float64:
    case DType::complex64:
      return 8;
    case DType::complex128:
      return 16;
  }
  return 0;
}

constexpr bool is_complex(DType dtype) {
  return dtype == DType::complex64 || dtype == DType::complex128;
}

/// Whether its real numbers are float64.
constexpr bool is_double(DType dtype) {
  return dtype == DType::float64 || dtype == DType::complex128;
}

/// IEEE binary16.
struct Half {
  std::uint16_t bits;
};

/// The upper half of a binary32.
struct BFloat16 {
  std::uint16_t bits;
};

inline float to_float(BFloat16 v) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(v.bits) << 16);
}

inline float to_float(Half v) {
  const std::uint32_t sign = static_cast<std::uint32_t>(v.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = v.bits & 0x7fffu;
  // Exponents 1..30 move from bias 15 to bias 127; 31 (inf, NaN) becomes 255; the subnormals of
  // binary16 are multiples of 2^-24, exact in binary32.
  if (magnitude >= 0x7c00u)
    return std::bit_cast<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  if (magnitude >= 0x0400u) return std::bit_cast<float>(sign | ((magnitude << 13) + (112u << 23)));
  const float small = static_cast<float>(magnitude) * 0x1p-24f;
  return sign ? -small : small;
}

/// Rounds to nearest, ties to even; NaN stays NaN.
inline BFloat16 to_bfloat16(float v) {
  const auto bits = std::bit_cast<std::uint32_t>(v);
  if ((bits & 0x7fffffffu) > 0x7f800000u)
    return {static_cast<std::uint16_t>((bits >> 16) | 0x0040u)};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

/// Rounds to nearest, ties to even; beyond 65520 to infinity; NaN stays NaN.
inline Half to_half(float v) {
  const auto bits = std::bit_cast<std::uint32_t>(v);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  std::uint32_t out;
  if (magnitude > 0x7f800000u) {
    out = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {
    out = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {
    out = (magnitude - (112u << 23) + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
  } else {
    // Added to 0.5, whose last place is 2^-24, the value is rounded to a subnormal's multiple.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    out = std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(0.5f);
  }
  return {static_cast<std::uint16_t>(sign | out)};
}

/// u: half the distance from 1 to the next number.
template <class R>
inline constexpr double unit_roundoff = std::numeric_limits<R>::epsilon() / 2;

}  // namespace gramian
