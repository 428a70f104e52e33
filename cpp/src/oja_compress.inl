// Included by oja_kernel.inl: small symmetric matrices, their rows in Eights.

namespace gramian::detail::GRAMIAN_ISA_NAMESPACE {

template <int order>
struct SmallMatrix {
  static constexpr int parts = (order + 7) / 8;
  static constexpr int width = 8 * parts;

  struct Row {
    Eight part[parts];
  };

  static Row row_of(const double* k, int i) {
    Row r;
    for (int p = 0; p < parts; ++p) r.part[p] = eight(k + i * width + 8 * p);
    return r;
  }

  static void write(const Row& r, double* k, int i) {
    for (int p = 0; p < parts; ++p) eight(k + i * width + 8 * p) = r.part[p];
  }

  static void add(Row& to, double factor, const Row& r) {
    for (int p = 0; p < parts; ++p) to.part[p] += factor * r.part[p];
  }

  static double dot(const Row& a, const Row& b) {
    Eight s{};
    for (int p = 0; p < parts; ++p) s += a.part[p] * b.part[p];
    return sum<8>(s);
  }

  /// x^T K, K symmetric.
  static Row times(const double* x, const double* k) {
    Row even{};
    Row odd{};
    for (int i = 0; i < order; i += 2) {
      add(even, x[i], row_of(k, i));
      add(odd, x[i + 1], row_of(k, i + 1));
    }
    add(even, 1, odd);
    return even;
  }

  /// At least the largest eigenvalue of a symmetric matrix with this trace and this sum of squared
  /// eigenvalues (Wolkowicz, Styan, Linear Algebra Appl. 29, 1980).
  static double largest(double trace, double squares) {
    constexpr double n = order;
    double spread = squares - trace * trace / n;
    spread = (spread > 0 ? spread : 0) + 1e-12 * squares;
    return trace / n + __builtin_sqrt(spread * (n - 1) / n);
  }
};

/// Lower Cholesky factor of a matrix of order 4; false where it is not positive.
inline bool factor(const double a[sketch][sketch], double l[sketch][sketch]) {
  for (int i = 0; i < sketch; ++i) {
    for (int j = 0; j <= i; ++j) {
      double s = a[i][j];
      for (int k = 0; k < j; ++k) s -= l[i][k] * l[j][k];
      if (i == j && !(s > 0)) return false;
      l[i][j] = i == j ? __builtin_sqrt(s) : s / l[j][j];
    }
    for (int j = i + 1; j < sketch; ++j) l[i][j] = 0;
  }
  return true;
}

/// Coefficients C Q^T with C^T C = I - cut T^-1 for Q's T = Q^T K Q and R = K Q - Q T: what is left
/// out is (I - Q Q^T) K (I - Q Q^T), at most `rest` in norm and `trace` in all, and `cut` along Q,
/// but for what R does between the two. False where T has no such C. docs/streaming.md#the-sketch.
template <int order>
inline bool shrink(const double* q, const double* residual, const double t[sketch][sketch],
                   double cut, double rest, double trace, OjaCompression& to) {
  using M = SmallMatrix<order>;
  double l[sketch][sketch];
  if (!factor(t, l)) return false;
  double inverse[sketch][sketch] = {};
  for (int j = 0; j < sketch; ++j) {
    for (int i = j; i < sketch; ++i) {
      double s = i == j ? 1 : 0;
      for (int k = j; k < i; ++k) s -= l[i][k] * inverse[k][j];
      inverse[i][j] = s / l[i][i];
    }
  }
  double kept[sketch][sketch];
  for (int i = 0; i < sketch; ++i)
    for (int j = 0; j < sketch; ++j) {
      double s = 0;
      for (int k = 0; k < sketch; ++k) s += inverse[k][i] * inverse[k][j];
      kept[i][j] = (i == j ? 1 : 0) - cut * s;
    }
  double c[sketch][sketch];
  if (!factor(kept, c)) return false;
  // L^T (I - C^T C) L, which is cut I.
  double off = 0;
  double along = 0;
  double lost[sketch][sketch];
  for (int i = 0; i < sketch; ++i)
    for (int j = 0; j < sketch; ++j) {
      lost[i][j] = i == j ? 1 : 0;
      for (int k = 0; k < sketch; ++k) lost[i][j] -= c[i][k] * c[j][k];
    }
  for (int i = 0; i < sketch; ++i)
    for (int j = 0; j < sketch; ++j) {
      double s = 0;
      for (int k = 0; k < sketch; ++k)
        for (int m = 0; m < sketch; ++m) s += l[k][i] * lost[k][m] * l[m][j];
      if (i == j) along += s;
      s -= i == j ? cut : 0;
      off += s * s;
    }
  off = __builtin_sqrt(off);
  // R L^-T, by columns.
  double across = 0;
  for (int j = 0; j < sketch; ++j) {
    typename M::Row y{};
    for (int i = 0; i <= j; ++i) M::add(y, inverse[j][i], M::row_of(residual, i));
    across += M::dot(y, y);
  }
  to.above = (cut + off > rest ? cut + off : rest) + 1.1 * __builtin_sqrt((cut + off) * across);
  to.taken = trace + along;
  for (int j = 0; j < sketch; ++j) {
    typename M::Row r{};
    for (int i = j; i < sketch; ++i) M::add(r, c[i][j], M::row_of(q, i));
    for (int p = 0; p < M::parts; ++p) eight(to.coefficients + j * stride + 8 * p) = r.part[p];
  }
  return true;
}

/// q <- an orthonormal basis of its rows' span, each projection done twice. Returns how far off.
template <int order>
inline double orthonormalize(double* q) {
  using M = SmallMatrix<order>;
  using Row = typename M::Row;
  for (int j = 0; j < sketch; ++j) {
    Row z = M::row_of(q, j);
    const double before = M::dot(z, z);
    for (int twice = 0; twice < 2; ++twice) {
      double along[sketch];
      for (int i = 0; i < j; ++i) along[i] = M::dot(M::row_of(q, i), z);
      for (int i = 0; i < j; ++i) M::add(z, -along[i], M::row_of(q, i));
      const double norm2 = M::dot(z, z);
      // Nothing but rounding is left where there are fewer directions: then none is taken.
      const double inverse = norm2 > 1e-24 * (twice ? 1 : before) ? 1 / __builtin_sqrt(norm2) : 0;
      for (int p = 0; p < M::parts; ++p) z.part[p] *= inverse;
    }
    M::write(z, q, j);
  }
  double skew = 0;
  for (int i = 0; i < sketch; ++i)
    for (int j = 0; j <= i; ++j) {
      const double inner = M::dot(M::row_of(q, i), M::row_of(q, j));
      const double off = inner - (i == j && inner > 0 ? 1 : 0);
      skew += (i == j ? 1 : 2) * off * off;
    }
  return __builtin_sqrt(skew);
}

/// At least the norm of a positive semidefinite matrix with this trace, by its powers: the fourth,
/// or the eighth.
template <int order>
inline double norm_bound(const double* a, double trace, bool eighth) {
  using M = SmallMatrix<order>;
  alignas(64) double square[order * M::width];
  Eight second{};
  Eight fourth{};
  for (int i = 0; i < order; ++i) {
    const typename M::Row own = M::row_of(a, i);
    const typename M::Row r = M::times(a + i * M::width, a);
    M::write(r, square, i);
    for (int p = 0; p < M::parts; ++p) {
      second += own.part[p] * own.part[p];
      fourth += r.part[p] * r.part[p];
    }
  }
  const double squares = sum<8>(second);
  const double fourths = sum<8>(fourth);
  double best = M::largest(trace, squares);
  double other = __builtin_sqrt(M::largest(squares, fourths));
  best = other < best ? other : best;
  if (eighth) {
    Eight sums{};
    for (int i = 0; i < order; ++i) {
      const typename M::Row r = M::times(square + i * M::width, square);
      for (int p = 0; p < M::parts; ++p) sums += r.part[p] * r.part[p];
    }
    other = __builtin_sqrt(__builtin_sqrt(M::largest(fourths, sum<8>(sums))));
    best = other < best ? other : best;
  }
  return best * (1 + 1e-12);
}

/// What Q^T, orthonormal rows, leaves out; whether that will do.
template <int order>
inline bool leave(const double* k, const double* q, double room, bool again, OjaCompression& to) {
  using M = SmallMatrix<order>;
  using Row = typename M::Row;
  constexpr int width = M::width;
  alignas(64) double turned[sketch * width];
  alignas(64) double residual[sketch * width];
  alignas(64) double left[order * width];
  // (I - Q Q^T) K (I - Q Q^T) = K - Q Z^T - Z Q^T, Z = K Q - Q (Q^T K Q) / 2.
  double inner[sketch][sketch];
  for (int j = 0; j < sketch; ++j) {
    const Row kq = M::times(q + j * width, k);
    for (int i = 0; i < sketch; ++i) inner[i][j] = M::dot(M::row_of(q, i), kq);
    M::write(kq, turned, j);
  }
  for (int j = 0; j < sketch; ++j) {
    Row t = M::row_of(turned, j);
    Row r = t;
    for (int i = 0; i < sketch; ++i) {
      M::add(t, -inner[i][j] / 2, M::row_of(q, i));
      M::add(r, -inner[i][j], M::row_of(q, i));
    }
    M::write(t, turned, j);
    M::write(r, residual, j);
  }
  double whole = 0;
  double trace = 0;
  for (int i = 0; i < order; ++i) {
    Row r = M::row_of(k, i);
    for (int j = 0; j < sketch; ++j) {
      M::add(r, -q[j * width + i], M::row_of(turned, j));
      M::add(r, -turned[j * width + i], M::row_of(q, j));
    }
    M::write(r, left, i);
    whole += k[i * width + i];
    trace += left[i * width + i];
  }
  // Its eigenvalues along Q, which are 0, are raised to the mean of the others: the bounds below
  // are sharp where all are equal.
  const double mean = (trace > 0 ? trace : 0) / (order - sketch);
  for (int i = 0; i < order; ++i) {
    for (int j = 0; j < i; ++j) left[j * width + i] = left[i * width + j];
  }
  double raised = 0;
  for (int i = 0; i < order; ++i) {
    Row r = M::row_of(left, i);
    for (int j = 0; j < sketch; ++j) M::add(r, mean * q[j * width + i], M::row_of(q, j));
    M::write(r, left, i);
    raised += left[i * width + i];
  }
  const double rest = norm_bound<order>(left, raised, again);
  to.above = rest;
  to.taken = trace;
  room += 10 * to.skew * whole;
  const auto enough = [&] { return to.taken >= (sketch + 1) * (to.above + room); };
  // Where the rest is flat or nothing; otherwise Q is shrunk as well.
  const bool plain = to.above <= 1e-13 * whole || enough();
  if (!plain) {
    for (int i = 0; i < 2; ++i) {
      const double part = i ? 0.7 : 1;
      if (shrink<order>(q, residual, inner, part * rest, rest, trace, to) && enough()) return true;
    }
    return false;
  }
  for (int j = 0; j < sketch; ++j) {
    const Row r = M::row_of(q, j);
    for (int p = 0; p < M::parts; ++p) eight(to.coefficients + j * stride + 8 * p) = r.part[p];
  }
  return true;
}

/// Four steps of subspace iteration from the first four coordinates, and as many more at a time
/// where that will not do. False where it never does.
template <int order>
inline bool compress(const double* k, double room, OjaCompression& to) {
  using M = SmallMatrix<order>;
  using Row = typename M::Row;
  alignas(64) double q[sketch * M::width];
  alignas(64) double start[M::width];
  for (int tries = 0; tries < 4; ++tries) {
    for (int j = 0; j < sketch; ++j) {
      // K (e_j + every fourth of the later ones): a sketch may know nothing yet.
      Row first = tries ? M::times(q + j * M::width, k) : M::row_of(k, j);
      for (int i = sketch + j; i < order && !tries; i += sketch) M::add(first, 1, M::row_of(k, i));
      for (int power = 0; power < 2; ++power) {
        M::write(first, start, 0);
        first = M::times(start, k);
      }
      M::write(first, start, 0);
      M::write(M::times(start, k), q, j);
    }
    to.skew = orthonormalize<order>(q);
    if (leave<order>(k, q, room, tries > 0, to)) return true;
  }
  return false;
}

}  // namespace gramian::detail::GRAMIAN_ISA_NAMESPACE
