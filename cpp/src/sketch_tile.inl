// Included by tile_kernel.inl, under its rules: tiles of the sketch that gramian/sketch.hpp
// defines, a vector of rows at a time. <immintrin.h> may be included: its functions are always
// inlined.
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "tile_kernel.hpp"

namespace gramian::detail::GRAMIAN_ISA_NAMESPACE {

// One row a lane, its words of 32 bits in the lower halves.
typedef std::uint64_t PhiloxLanes __attribute__((vector_size(GRAMIAN_VECTOR_BYTES)));
inline constexpr int philox_rows = GRAMIAN_VECTOR_BYTES / 8;

/// Products of the lower halves.
inline PhiloxLanes widening_product(PhiloxLanes a, std::uint32_t b) {
#if defined(__AVX2__) && GRAMIAN_VECTOR_BYTES == 32
  return reinterpret_cast<PhiloxLanes>(
      _mm256_mul_epu32(reinterpret_cast<__m256i>(a), _mm256_set1_epi64x(b)));
#elif defined(__x86_64__) && GRAMIAN_VECTOR_BYTES == 16
  return reinterpret_cast<PhiloxLanes>(
      _mm_mul_epu32(reinterpret_cast<__m128i>(a), _mm_set1_epi64x(b)));
#else  // AVX-512 has a product of 64 bits
  return a * std::uint64_t{b};
#endif
}

/// The four words of rows first, first + 1, ... in columns [128 group, 128 (group + 1)).
inline void philox(std::uint64_t seed, std::uint64_t first, std::uint32_t group,
                   PhiloxLanes words[4]) {
  PhiloxLanes row{};
  for (int l = 0; l < philox_rows; ++l) row[l] = first + static_cast<std::uint64_t>(l);
  const PhiloxLanes low = PhiloxLanes{} + 0xFFFFFFFFu;
  PhiloxLanes c0 = row & low;
  PhiloxLanes c1 = row >> 32;
  PhiloxLanes c2 = PhiloxLanes{} + group;
  PhiloxLanes c3 = PhiloxLanes{} + 0x67726d6eu;
  auto k0 = static_cast<std::uint32_t>(seed);
  auto k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const PhiloxLanes p0 = widening_product(c0, 0xD2511F53u);
    const PhiloxLanes p1 = widening_product(c2, 0xCD9E8D57u);
    c0 = (p1 >> 32) ^ c1 ^ std::uint64_t{k0};
    c2 = (p0 >> 32) ^ c3 ^ std::uint64_t{k1};
    c1 = p1 & low;
    c3 = p0 & low;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
}

template <class R>
struct SignLanes;
template <>
struct SignLanes<float> {
  typedef std::uint32_t Lane;
  typedef Lane type __attribute__((vector_size(GRAMIAN_VECTOR_BYTES), aligned(4), may_alias));
  static constexpr Lane one = 0x3F800000u;
};
template <>
struct SignLanes<double> {
  typedef std::uint64_t Lane;
  typedef Lane type __attribute__((vector_size(GRAMIAN_VECTOR_BYTES), aligned(8), may_alias));
  static constexpr Lane one = 0x3FF0000000000000u;
};

/// to (rows x cols, rows ld apart) <- rows first, first + 1, ... of the sketch, from column 0. Rows
/// are written in whole vectors, with zeros beyond cols: ld is long enough for that.
template <class R>
void sketch_tile(std::uint64_t seed, std::uint64_t first, std::int64_t rows, std::int64_t cols,
                 R* to, std::int64_t ld) {
  using V = typename SignLanes<R>::type;
  using Lane = typename SignLanes<R>::Lane;
  constexpr int W = GRAMIAN_VECTOR_BYTES / static_cast<int>(sizeof(R));
  constexpr Lane sign = Lane{1} << (8 * sizeof(R) - 1);
  V lane{};
  for (int l = 0; l < W; ++l) lane[l] = static_cast<Lane>(l);
  const V bit = (V{} + Lane{1}) << lane;
  for (std::int64_t group = 0; 128 * group < cols; ++group) {
    for (std::int64_t i = 0; i < rows; i += philox_rows) {
      PhiloxLanes words[4];
      philox(seed, first + static_cast<std::uint64_t>(i), static_cast<std::uint32_t>(group), words);
      const std::int64_t count = rows - i < philox_rows ? rows - i : philox_rows;
      for (int w = 0; w < 4 && 128 * group + 32 * w < cols; ++w) {
        const std::int64_t j = 128 * group + 32 * w;
        for (std::int64_t r = 0; r < count; ++r) {
          const std::uint64_t word = words[w][r];
          R* out = to + (i + r) * ld + j;
          for (int b = 0; b < 32 && j + b < cols; b += W) {
            const V shifted = V{} + static_cast<Lane>(word >> b);
            const V set = reinterpret_cast<V>((shifted & bit) != V{});
            V entries = (set & sign) | SignLanes<R>::one;
            if (cols - j - b < W)
              entries &= reinterpret_cast<V>(lane < V{} + static_cast<Lane>(cols - j - b));
            *reinterpret_cast<V*>(out + b) = entries;
          }
        }
      }
    }
  }
}

}  // namespace gramian::detail::GRAMIAN_ISA_NAMESPACE
