// The random test matrix of every randomized method: signs whose value at (i, j) depends on the
// seed, i and j alone. So any tile of it can be made anywhere, in any order, by any device.
//
// Definition. Philox4x32 with 10 rounds (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as
// easy as 1, 2, 3", SC 2011), key = (seed mod 2^32, seed / 2^32) and counter
// (i mod 2^32, i / 2^32, floor(j / 128), 0x67726d6e), gives four words of 32 bits. Entry (i, j) is
// -1 if bit (j mod 32) of word floor((j mod 128) / 32) is set, else +1.
#pragma once

#include <array>
#include <cstdint>

namespace gramian {

using PhiloxBlock = std::array<std::uint32_t, 4>;

constexpr PhiloxBlock philox4x32_10(PhiloxBlock counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * counter[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * counter[2];
    counter = {
        static_cast<std::uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(p1),
        static_cast<std::uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(p0)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return counter;
}

/// The 128 signs of row i, columns [128 group, 128 (group + 1)), one bit each.
constexpr PhiloxBlock sketch_bits(std::uint64_t seed, std::uint64_t i, std::uint32_t group) {
  return philox4x32_10(
      {static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32), group, 0x67726d6eu},
      {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
}

constexpr bool sketch_is_negative(const PhiloxBlock& bits, std::uint32_t j) {
  return (bits[(j % 128) / 32] >> (j % 32)) & 1u;
}

/// Entry (i, j).
constexpr int sketch_entry(std::uint64_t seed, std::uint64_t i, std::uint64_t j) {
  const auto group = static_cast<std::uint32_t>(j / 128);
  return sketch_is_negative(sketch_bits(seed, i, group), static_cast<std::uint32_t>(j % 128)) ? -1
                                                                                              : 1;
}

}  // namespace gramian
