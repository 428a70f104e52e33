// Included by oja_kernel.inl: rows combined to fewer, and those to a sketch.

namespace gramian::detail::GRAMIAN_ISA_NAMESPACE {

/// y <- p x, over `Vectors` vectors of columns from k on.
template <int Vectors, class S>
inline void combine_columns(const OjaRows<S>& x, const S* p, S* y, Index ldy, Index k) {
  constexpr int v = lanes<S>;
  Full<S> acc[sketch][Vectors];
#pragma GCC unroll 4
  for (int j = 0; j < sketch; ++j) {
#pragma GCC unroll 4
    for (int c = 0; c < Vectors; ++c) acc[j][c] = Full<S>{};
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
    Full<S> xv[Vectors];
#pragma GCC unroll 4
    for (int c = 0; c < Vectors; ++c) xv[c] = load_as<S>(x.x + i * x.ld + k + c * v);
#pragma GCC unroll 4
    for (int j = 0; j < sketch; ++j) {
#pragma GCC unroll 4
      for (int c = 0; c < Vectors; ++c) acc[j][c] += xv[c] * p[j * rows + i];
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < sketch; ++j) {
#pragma GCC unroll 4
    for (int c = 0; c < Vectors; ++c)
      *reinterpret_cast<Full<S>*>(y + j * ldy + k + c * v) = acc[j][c];
  }
}

template <class S>
void combine(const OjaRows<S>& x, const S* p, S* y, Index ldy) {
  constexpr int v = lanes<S>;
  Index k = 0;
  for (; k + 4 * v <= x.d; k += 4 * v) combine_columns<4>(x, p, y, ldy, k);
  for (; k + v <= x.d; k += v) combine_columns<1>(x, p, y, ldy, k);
  for (; k < x.d; ++k) {
    for (int j = 0; j < sketch; ++j) {
      double next = 0;
      for (int i = 0; i < rows; ++i)
        next += static_cast<double>(p[j * rows + i]) * static_cast<double>(x.x[i * x.ld + k]);
      y[j * ldy + k] = static_cast<S>(next);
    }
  }
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
    products<double, tile, sketch>(b + i * d, d, b, d, d, bb + i * sketch, sketch);
}

}  // namespace gramian::detail::GRAMIAN_ISA_NAMESPACE
