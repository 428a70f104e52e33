// Included by oja_kernel_<isa>.cpp, which sets GRAMIAN_ISA_NAMESPACE, GRAMIAN_VECTOR_BYTES and
// GRAMIAN_OJA_TILE and is compiled with that instruction set's flags. No header of the standard
// library beyond <cstddef>/<cstdint> may be included: see tile_kernel.inl.
#include "oja_kernel.hpp"

namespace gramian::detail::GRAMIAN_ISA_NAMESPACE {

using Index = std::int64_t;

constexpr int rows = OjaShape::rows;
constexpr int rates = OjaShape::rates;
constexpr int sketch = OjaShape::sketch;
constexpr int stride = OjaShape::stride;

// Entries of S in a vector of accumulators in A.
template <class A>
constexpr int lanes = GRAMIAN_VECTOR_BYTES / static_cast<int>(sizeof(A));

template <class S, int N>
struct Lanes {
  typedef S type __attribute__((vector_size(N * sizeof(S)), aligned(alignof(S)), may_alias));
};

template <class A>
using Full = typename Lanes<A, lanes<A>>::type;

// Eight doubles: a number for each rate, or part of a row of a small matrix.
using Eight = typename Lanes<double, 8>::type;

/// A vector in A of entries stored as S.
template <class A, class S>
inline Full<A> load_as(const S* p) {
  return __builtin_convertvector(*reinterpret_cast<const typename Lanes<S, lanes<A>>::type*>(p),
                                 Full<A>);
}

inline Eight& eight(double* p) { return *reinterpret_cast<Eight*>(p); }
inline const Eight& eight(const double* p) { return *reinterpret_cast<const Eight*>(p); }

template <int... I>
struct Indices {};
template <int N, int... I>
struct FirstIndices : FirstIndices<N - 1, N - 1, I...> {};
template <int... I>
struct FirstIndices<0, I...> {
  typedef Indices<I...> type;
};

/// Of two vectors of w entries, in groups of 2 g: where the entry i of a sum of neighbouring groups
/// of g comes from.
constexpr int neighbour(int i, int g, int w, bool second) {
  const int group = i / (2 * g) * 2 * g;
  const int within = i % (2 * g);
  return (within < g ? group + within : w + group + within - g) + (second ? g : 0);
}

template <int G, class V, int... I>
inline V neighbours(const V& a, const V& b, Indices<I...>) {
  constexpr int w = sizeof...(I);
  return __builtin_shufflevector(a, b, neighbour(I, G, w, false)...) +
         __builtin_shufflevector(a, b, neighbour(I, G, w, true)...);
}

/// The sums of w vectors of w entries, in their order: each by a tree.
template <int G, int w, class V>
inline V sums(const V* v) {
  if constexpr (G == w) {
    return v[0];
  } else {
    V next[w / (2 * G)];
#pragma GCC unroll 8
    for (int i = 0; i < w / (2 * G); ++i)
      next[i] = neighbours<G>(v[2 * i], v[2 * i + 1], typename FirstIndices<w>::type{});
    return sums<2 * G, w>(next);
  }
}

template <int N>
inline double sum(const typename Lanes<double, N>::type& v) {
  if constexpr (N == 1) {
    return v[0];
  } else if constexpr (N == 2) {
    return v[0] + v[1];
  } else if constexpr (N == 4) {
    return sum<2>(__builtin_shufflevector(v, v, 0, 1) + __builtin_shufflevector(v, v, 2, 3));
  } else {
    return sum<4>(__builtin_shufflevector(v, v, 0, 1, 2, 3) +
                  __builtin_shufflevector(v, v, 4, 5, 6, 7));
  }
}

inline double total(Full<double> v) { return sum<lanes<double>>(v); }

/// out(i, j) += x_i^T y_j for R rows x and C rows y; products and sums of a chunk in A. Fetches two
/// rows of as many entries, ldx apart, in the meantime.
template <class A, int R, int C, class X, class Y>
inline void products(const X* x, Index ldx, const Y* y, Index ldy, Index d, double* out, int ldo,
                     const X* fetch = nullptr) {
  constexpr int w = lanes<A>;
  constexpr int sets = (R * C + w - 1) / w;
  for (Index first = 0; first < d; first += oja_chunk * w) {
    const Index last = first + oja_chunk * w < d ? first + oja_chunk * w : d;
    Full<A> acc[sets * w];
#pragma GCC unroll 32
    for (int i = 0; i < sets * w; ++i) acc[i] = Full<A>{};
    Index k = first;
    for (; k + w <= last; k += w) {
      if (fetch) {
        __builtin_prefetch(fetch + k, 0, 2);
        __builtin_prefetch(fetch + ldx + k, 0, 2);
      }
      Full<A> xv[R];
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i) xv[i] = load_as<A>(x + i * ldx + k);
#pragma GCC unroll 8
      for (int j = 0; j < C; ++j) {
        const Full<A> yv = load_as<A>(y + j * ldy + k);
#pragma GCC unroll 8
        for (int i = 0; i < R; ++i) acc[i * C + j] += xv[i] * yv;
      }
    }
    alignas(64) A found[sets * w];
#pragma GCC unroll 8
    for (int s = 0; s < sets; ++s)
      *reinterpret_cast<Full<A>*>(found + s * w) = sums<1, w>(acc + s * w);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 8
      for (int j = 0; j < C; ++j) out[i * ldo + j] += static_cast<double>(found[i * C + j]);
    }
    for (; k < last; ++k) {
      for (int i = 0; i < R; ++i) {
        const double xi = static_cast<double>(x[i * ldx + k]);
        for (int j = 0; j < C; ++j) out[i * ldo + j] += xi * static_cast<double>(y[j * ldy + k]);
      }
    }
  }
}

// Rows of X in a tile.
constexpr int tile = GRAMIAN_OJA_TILE;

template <class S>
void sketch_products(const OjaRows<S>& x, const double* b, double* xb) {
  for (int i = 0; i < rows * sketch; ++i) xb[i] = 0;
  for (int i = 0; i < rows; i += tile)
    products<double, tile, sketch>(x.x + i * x.ld, x.ld, b, x.d, x.d, xb + i * sketch, sketch);
}

// Not inlined: threads that compute the same must get the same bits.
template <class S>
[[gnu::noinline]] void gram_of(const OjaRows<S>& x, double* gram) {
  for (int i = 0; i < rows * rows; ++i) gram[i] = 0;
  int fetched = x.next ? 0 : rows;
  for (int i = 0; i < rows; i += tile)
    for (int j = 0; j < i + tile; j += 4) {
      const S* fetch = fetched < rows ? x.next + fetched * x.ld : nullptr;
      fetched += 2;
      products<S, tile, 4>(x.x + i * x.ld, x.ld, x.x + j * x.ld, x.ld, x.d, gram + i * rows + j,
                           rows, fetch);
    }
}

template <int C, class S>
inline void along_some(const OjaRows<S>& x, const S* w, double* xw) {
  for (int i = 0; i < rows; i += tile)
    products<S, tile, C>(x.x + i * x.ld, x.ld, w, x.d, x.d, xw + i * rates, rates);
}

template <class S>
void along(const OjaRows<S>& x, const S* w, int count, double* xw) {
  for (int i = 0; i < rows * rates; ++i) xw[i] = 0;
  for (; count >= 4; count -= 4, w += 4 * x.d, xw += 4) along_some<4>(x, w, xw);
  switch (count) {
    case 3:
      return along_some<3>(x, w, xw);
    case 2:
      return along_some<2>(x, w, xw);
    case 1:
      return along_some<1>(x, w, xw);
    default:
      return;
  }
}

template <class S>
void solve(const double* gram, const double* xw, const double* squares, OjaSteps& s, S* moves) {
  const Eight eta = eight(s.rate);
  Eight norm2 = eight(s.norm) * eight(s.norm);
  Eight energy{};
  Eight moved{};
  Eight drawn{};
  Eight step[rows];
  for (int i = 0; i < rows; ++i) {
    Eight even = eight(xw + i * rates);
    Eight odd{};
    int j = 0;
    for (; j + 1 < i; j += 2) {
      even += gram[i * rows + j] * step[j];
      odd += gram[i * rows + j + 1] * step[j + 1];
    }
    if (j < i) even += gram[i * rows + j] * step[j];
    const Eight c = even + odd;
    const Eight c2 = c * c;
    energy += c2 / norm2;
    norm2 += (2 + eta * squares[i]) * eta * c2;
    const Eight size = c < 0 ? -c : c;
    drawn += size;
    moved += eta * size * __builtin_sqrt(squares[i]);
    // Later rows meet the step that is taken, as it is rounded.
    for (int l = 0; l < rates; ++l) {
      moves[i * rates + l] = static_cast<S>(eta[l] * c[l]);
      step[i][l] = static_cast<double>(moves[i * rates + l]);
    }
  }
  eight(s.energy) = energy;
  eight(s.moved) = moved;
  eight(s.drawn) = drawn;
}

/// A part of a vector, in double.
template <class S, int... I>
inline Full<double> part_of(const Full<S>& v, int part, Indices<I...>) {
  if constexpr (sizeof(S) == sizeof(double)) {
    return v;
  } else {
    constexpr int h = lanes<double>;
    return __builtin_convertvector(
        part ? __builtin_shufflevector(v, v, h + I...) : __builtin_shufflevector(v, v, I...),
        Full<double>);
  }
}

/// w += X^T moves over `Vectors` vectors of columns from k on; norm sums the squares.
template <int Count, int Vectors, class S>
inline void move_columns(const OjaRows<S>& x, const S* moves, double* w, S* copy, Index k,
                         Full<double>* norm) {
  constexpr int v = lanes<S>;
  constexpr int h = lanes<double>;
  typedef typename Lanes<S, h>::type Stored;
  Full<S> acc[Count][Vectors];
#pragma GCC unroll 8
  for (int l = 0; l < Count; ++l) {
#pragma GCC unroll 4
    for (int c = 0; c < Vectors; ++c) acc[l][c] = Full<S>{};
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
    Full<S> xv[Vectors];
#pragma GCC unroll 4
    for (int c = 0; c < Vectors; ++c) xv[c] = load_as<S>(x.x + i * x.ld + k + c * v);
#pragma GCC unroll 8
    for (int l = 0; l < Count; ++l) {
      const S step = moves[i * rates + l];
#pragma GCC unroll 4
      for (int c = 0; c < Vectors; ++c) acc[l][c] += xv[c] * step;
    }
  }
#pragma GCC unroll 8
  for (int l = 0; l < Count; ++l) {
#pragma GCC unroll 4
    for (int c = 0; c < Vectors; ++c) {
      const Index at = l * x.d + k + c * v;
#pragma GCC unroll 2
      for (int p = 0; p < v / h; ++p) {
        const Full<double> next = load_as<double>(w + at + p * h) +
                                  part_of<S>(acc[l][c], p, typename FirstIndices<h>::type{});
        *reinterpret_cast<Full<double>*>(w + at + p * h) = next;
        *reinterpret_cast<Stored*>(copy + at + p * h) = __builtin_convertvector(next, Stored);
        norm[l] += next * next;
      }
    }
  }
}

template <int Count, class S>
[[gnu::noinline]] void move_some(const OjaRows<S>& x, const S* moves, double* w, S* copy,
                                 double* norms) {
  constexpr int v = lanes<S>;
  constexpr int vectors = Count > 4 ? 2 : 4;
  Full<double> norm[Count];
  for (int l = 0; l < Count; ++l) norm[l] = Full<double>{};
  Index k = 0;
  for (; k + vectors * v <= x.d; k += vectors * v)
    move_columns<Count, vectors>(x, moves, w, copy, k, norm);
  for (; k + v <= x.d; k += v) move_columns<Count, 1>(x, moves, w, copy, k, norm);
  for (int l = 0; l < Count; ++l) {
    double n = total(norm[l]);
    for (Index j = k; j < x.d; ++j) {
      double next = 0;
      for (int i = 0; i < rows; ++i)
        next += static_cast<double>(moves[i * rates + l]) * static_cast<double>(x.x[i * x.ld + j]);
      next += w[l * x.d + j];
      w[l * x.d + j] = next;
      copy[l * x.d + j] = static_cast<S>(next);
      n += next * next;
    }
    norms[l] = n;
  }
}

template <class S>
void move_rates(const OjaRows<S>& x, const S* moves, int count, double* w, S* copy, double* norms) {
  static_assert(rates == 8);
  using Move = void (*)(const OjaRows<S>&, const S*, double*, S*, double*);
  static constexpr Move some[rates] = {move_some<1, S>, move_some<2, S>, move_some<3, S>,
                                       move_some<4, S>, move_some<5, S>, move_some<6, S>,
                                       move_some<7, S>, move_some<8, S>};
  if (count > 0) some[count - 1](x, moves, w, copy, norms);
}

}  // namespace gramian::detail::GRAMIAN_ISA_NAMESPACE

#include "oja_combine.inl"
#include "oja_compress.inl"

namespace gramian::detail::GRAMIAN_ISA_NAMESPACE {

template <class S>
OjaKernels<S> kernels() {
  return {gram_of<S>,
          along<S>,
          solve<S>,
          move_rates<S>,
          combine<S>,
          sketch_products<S>,
          move_sketch<S>,
          sketch_gram,
          compress<OjaShape::rows>,
          compress<OjaShape::stacked>};
}

}  // namespace gramian::detail::GRAMIAN_ISA_NAMESPACE
