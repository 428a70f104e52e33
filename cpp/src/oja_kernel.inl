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

/// Of floats: the sum is in double.
inline double total(Full<float> v) {
  constexpr int half = lanes<double>;
  typedef typename Lanes<float, half>::type Half;
  const float* p = reinterpret_cast<const float*>(&v);
  return total(__builtin_convertvector(*reinterpret_cast<const Half*>(p), Full<double>) +
               __builtin_convertvector(*reinterpret_cast<const Half*>(p + half), Full<double>));
}

/// out(i, j) += x_i^T y_j for R rows x and C rows y, products and sums of a chunk in A; squares(i)
/// += |x_i|^2 too.
template <class A, int R, int C, bool Squares, class X, class Y>
inline void products(const X* x, Index ldx, const Y* y, Index ldy, Index d, double* out, int ldo,
                     double* squares) {
  constexpr int w = lanes<A>;
  for (Index first = 0; first < d; first += oja_chunk * w) {
    const Index last = first + oja_chunk * w < d ? first + oja_chunk * w : d;
    Full<A> acc[R][C > 0 ? C : 1];
    Full<A> own[R];
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      own[i] = Full<A>{};
#pragma GCC unroll 8
      for (int j = 0; j < C; ++j) acc[i][j] = Full<A>{};
    }
    Index k = first;
    for (; k + w <= last; k += w) {
      Full<A> xv[R];
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i) {
        xv[i] = load_as<A>(x + i * ldx + k);
        if constexpr (Squares) own[i] += xv[i] * xv[i];
      }
#pragma GCC unroll 8
      for (int j = 0; j < C; ++j) {
        const Full<A> yv = load_as<A>(y + j * ldy + k);
#pragma GCC unroll 8
        for (int i = 0; i < R; ++i) acc[i][j] += xv[i] * yv;
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      if constexpr (Squares) squares[i] += total(own[i]);
#pragma GCC unroll 8
      for (int j = 0; j < C; ++j) out[i * ldo + j] += total(acc[i][j]);
    }
    for (; k < last; ++k) {
      for (int i = 0; i < R; ++i) {
        const double xi = static_cast<double>(x[i * ldx + k]);
        if constexpr (Squares) squares[i] += xi * xi;
        for (int j = 0; j < C; ++j) out[i * ldo + j] += xi * static_cast<double>(y[j * ldy + k]);
      }
    }
  }
}

// Rows of X in a tile.
constexpr int tile = GRAMIAN_OJA_TILE;

template <class S>
void sketch_products(const OjaRows<S>& x, const double* b, double* xb, double* squares) {
  for (int i = 0; i < rows * sketch; ++i) xb[i] = 0;
  for (int i = 0; i < rows; ++i) squares[i] = 0;
  for (int i = 0; i < rows; i += tile)
    products<double, tile, sketch, true>(x.x + i * x.ld, x.ld, b, x.d, x.d, xb + i * sketch, sketch,
                                         squares + i);
}

// Not inlined: threads that compute the same must get the same bits.
template <class S>
[[gnu::noinline]] void squares_of(const OjaRows<S>& x, double* squares) {
  for (int i = 0; i < rows; ++i) squares[i] = 0;
  for (int i = 0; i < rows; i += tile)
    products<double, tile, 0, true>(x.x + i * x.ld, x.ld, x.x, x.ld, x.d,
                                    static_cast<double*>(nullptr), 0, squares + i);
}

template <class S>
[[gnu::noinline]] void gram_of(const OjaRows<S>& x, double* gram) {
  for (int i = 0; i < rows * rows; ++i) gram[i] = 0;
  for (int i = 0; i < rows; i += tile)
    for (int j = 0; j < i + tile; j += 4)
      products<S, tile, 4, false>(x.x + i * x.ld, x.ld, x.x + j * x.ld, x.ld, x.d,
                                  gram + i * rows + j, rows, static_cast<double*>(nullptr));
}

template <class S>
void along(const OjaRows<S>& x, const S* w, int first, double* xw) {
  for (int i = 0; i < rows * rates; ++i) xw[i] = 0;
  for (int i = 0; i < rows; i += tile)
    for (int j = first; j < rates; j += 4)
      products<S, tile, 4, false>(x.x + i * x.ld, x.ld, w + j * x.d, x.d, x.d, xw + i * rates + j,
                                  rates, static_cast<double*>(nullptr));
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

/// w += X^T moves over `Vectors` vectors of columns from k on; norm sums the squares.
template <int First, int Vectors, class S>
inline void move_columns(const OjaRows<S>& x, const S* moves, double* w, S* copy, Index k,
                         Full<double>* norm) {
  constexpr int v = lanes<S>;
  constexpr int h = lanes<double>;
  typedef typename Lanes<S, h>::type Stored;
  Full<S> acc[rates][Vectors];
#pragma GCC unroll 8
  for (int l = First; l < rates; ++l) {
#pragma GCC unroll 2
    for (int c = 0; c < Vectors; ++c) acc[l][c] = Full<S>{};
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
    Full<S> xv[Vectors];
#pragma GCC unroll 2
    for (int c = 0; c < Vectors; ++c) xv[c] = load_as<S>(x.x + i * x.ld + k + c * v);
#pragma GCC unroll 8
    for (int l = First; l < rates; ++l) {
      const S step = moves[i * rates + l];
#pragma GCC unroll 2
      for (int c = 0; c < Vectors; ++c) acc[l][c] += xv[c] * step;
    }
  }
#pragma GCC unroll 8
  for (int l = First; l < rates; ++l) {
#pragma GCC unroll 2
    for (int c = 0; c < Vectors; ++c) {
      const S* part = reinterpret_cast<const S*>(&acc[l][c]);
      const Index at = l * x.d + k + c * v;
#pragma GCC unroll 2
      for (int p = 0; p < v; p += h) {
        const Full<double> next = load_as<double>(w + at + p) + load_as<double>(part + p);
        *reinterpret_cast<Full<double>*>(w + at + p) = next;
        *reinterpret_cast<Stored*>(copy + at + p) = __builtin_convertvector(next, Stored);
        norm[l] += next * next;
      }
    }
  }
}

template <int First, class S>
inline void move_from(const OjaRows<S>& x, const S* moves, double* w, S* copy, double* norms) {
  constexpr int v = lanes<S>;
  Full<double> norm[rates];
  for (int l = First; l < rates; ++l) norm[l] = Full<double>{};
  Index k = 0;
  for (; k + 2 * v <= x.d; k += 2 * v) move_columns<First, 2>(x, moves, w, copy, k, norm);
  for (; k + v <= x.d; k += v) move_columns<First, 1>(x, moves, w, copy, k, norm);
  for (int l = First; l < rates; ++l) {
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
void move_rates(const OjaRows<S>& x, const S* moves, int first, double* w, S* copy, double* norms) {
  static_assert(rates == 8);
  if (first == 0)
    move_from<0>(x, moves, w, copy, norms);
  else
    move_from<4>(x, moves, w, copy, norms);
}

/// b <- p (b; x) over `Vectors` vectors of columns from k on.
template <int Vectors, class S>
inline void sketch_columns(const OjaRows<S>& x, const double* p, double* b, Index k) {
  constexpr int v = lanes<double>;
  Full<double> acc[sketch][Vectors];
#pragma GCC unroll 4
  for (int j = 0; j < sketch; ++j) {
#pragma GCC unroll 4
    for (int c = 0; c < Vectors; ++c) acc[j][c] = Full<double>{};
  }
  const auto add = [&](const auto* from, int i) {
    Full<double> xv[Vectors];
#pragma GCC unroll 4
    for (int c = 0; c < Vectors; ++c) xv[c] = load_as<double>(from + k + c * v);
#pragma GCC unroll 4
    for (int j = 0; j < sketch; ++j) {
#pragma GCC unroll 4
      for (int c = 0; c < Vectors; ++c) acc[j][c] += xv[c] * p[j * stride + i];
    }
  };
#pragma GCC unroll 4
  for (int i = 0; i < sketch; ++i) add(b + i * x.d, i);
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) add(x.x + i * x.ld, sketch + i);
#pragma GCC unroll 4
  for (int j = 0; j < sketch; ++j) {
#pragma GCC unroll 4
    for (int c = 0; c < Vectors; ++c)
      *reinterpret_cast<Full<double>*>(b + j * x.d + k + c * v) = acc[j][c];
  }
}

template <class S>
void move_sketch(const OjaRows<S>& x, const double* p, double* b) {
  constexpr int v = lanes<double>;
  Index k = 0;
  for (; k + 4 * v <= x.d; k += 4 * v) sketch_columns<4>(x, p, b, k);
  for (; k + v <= x.d; k += v) sketch_columns<1>(x, p, b, k);
  for (; k < x.d; ++k) {
    double next[sketch];
    for (int j = 0; j < sketch; ++j) {
      next[j] = 0;
      for (int i = 0; i < sketch; ++i) next[j] += b[i * x.d + k] * p[j * stride + i];
      for (int i = 0; i < rows; ++i)
        next[j] += static_cast<double>(x.x[i * x.ld + k]) * p[j * stride + sketch + i];
    }
    for (int j = 0; j < sketch; ++j) b[j * x.d + k] = next[j];
  }
}

inline void sketch_gram(const double* b, Index d, double* bb) {
  for (int i = 0; i < sketch * sketch; ++i) bb[i] = 0;
  for (int i = 0; i < sketch; i += tile)
    products<double, tile, sketch, false>(b + i * d, d, b, d, d, bb + i * sketch, sketch,
                                          static_cast<double*>(nullptr));
}

}  // namespace gramian::detail::GRAMIAN_ISA_NAMESPACE

#include "oja_compress.inl"

namespace gramian::detail::GRAMIAN_ISA_NAMESPACE {

template <class S>
OjaKernels<S> kernels() {
  return {sketch_products<S>, squares_of<S>,  gram_of<S>,  along<S>, solve<S>,
          move_rates<S>,      move_sketch<S>, sketch_gram, compress};
}

}  // namespace gramian::detail::GRAMIAN_ISA_NAMESPACE
