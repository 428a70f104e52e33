// Random numbers from a counter, the same on every machine, for vectors that iterations start with.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define GRAMIAN_HOST_DEVICE __host__ __device__
#else
#define GRAMIAN_HOST_DEVICE
#endif

namespace gramian::detail {

/// Uniform in (-1, 1) (SplitMix64).
GRAMIAN_HOST_DEVICE inline double random_entry(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t z = seed * 0xd1342543de82ef95ull + (index + 1) * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1p-52 - 1.0 + 0x1p-53;
}

}  // namespace gramian::detail
