// Every 16-bit pattern, and rounding at every boundary between neighbours.
#include "gramian/dtype.hpp"

#include <cmath>
#include <limits>

#include "check.hpp"

using namespace gramian;

namespace {

/// The value of a binary16 pattern, from the format's definition.
double half_value(unsigned bits) {
  const double sign = bits & 0x8000u ? -1.0 : 1.0;
  const int exponent = static_cast<int>((bits >> 10) & 31u);
  const double fraction = bits & 0x3ffu;
  if (exponent == 31)
    return fraction != 0 ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024.0 + fraction, exponent - 25);
}

bool same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

}  // namespace

int main() {
  int wrong_half = 0;
  int wrong_bfloat = 0;
  for (unsigned bits = 0; bits < 0x10000u; ++bits) {
    const Half h{static_cast<std::uint16_t>(bits)};
    wrong_half += !same(to_float(h), half_value(bits));
    if (!std::isnan(half_value(bits))) wrong_half += to_half(to_float(h)).bits != bits;
    const BFloat16 b{static_cast<std::uint16_t>(bits)};
    const float value = std::bit_cast<float>(bits << 16);
    wrong_bfloat += !same(to_float(b), value);
    if (!std::isnan(value)) wrong_bfloat += to_bfloat16(value).bits != bits;
  }
  CHECK(wrong_half == 0);
  CHECK(wrong_bfloat == 0);

  // Halfway between neighbours goes to the even one, a hair off it to the nearer.
  int wrong_rounding = 0;
  for (unsigned bits = 0; bits < 0x7bffu; ++bits) {
    const float middle = static_cast<float>((half_value(bits) + half_value(bits + 1)) / 2);
    const float inf = std::numeric_limits<float>::infinity();
    wrong_rounding += to_half(middle).bits != (bits % 2 == 0 ? bits : bits + 1);
    wrong_rounding += to_half(std::nextafter(middle, -inf)).bits != bits;
    wrong_rounding += to_half(std::nextafter(middle, inf)).bits != bits + 1;
    wrong_rounding += to_half(-middle).bits != (0x8000u | (bits % 2 == 0 ? bits : bits + 1));
  }
  CHECK(wrong_rounding == 0);
  CHECK(to_half(65519.0f).bits == 0x7bff);
  CHECK(to_half(65520.0f).bits == 0x7c00);
  CHECK(to_half(1e-10f).bits == 0);
  CHECK(std::isnan(to_float(to_half(std::nanf("")))));
  CHECK(std::isnan(to_float(to_bfloat16(std::nanf("")))));
  for (unsigned bits = 0; bits < 0x7f7fu; ++bits) {
    const float middle = std::bit_cast<float>((bits << 16) | 0x8000u);
    wrong_rounding += to_bfloat16(middle).bits != (bits % 2 == 0 ? bits : bits + 1);
    wrong_rounding += to_bfloat16(std::bit_cast<float>((bits << 16) | 0x7fffu)).bits != bits;
    wrong_rounding += to_bfloat16(std::bit_cast<float>((bits << 16) | 0x8001u)).bits != bits + 1;
  }
  CHECK(wrong_rounding == 0);
  return test::finish();
}
