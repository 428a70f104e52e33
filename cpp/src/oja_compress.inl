// Included by oja_kernel.inl: matrices of order 20, in rows of three Eights.

namespace gramian::detail::GRAMIAN_ISA_NAMESPACE {

constexpr int parts = stride / 8;
constexpr int order = OjaShape::stacked;

struct Row {
  Eight part[parts];
};

inline Row row_of(const double* k, int i) {
  Row r;
  for (int p = 0; p < parts; ++p) r.part[p] = eight(k + i * stride + 8 * p);
  return r;
}

inline void add(Row& to, double factor, const Row& r) {
  for (int p = 0; p < parts; ++p) to.part[p] += factor * r.part[p];
}

inline double dot(const Row& a, const Row& b) {
  Eight s{};
  for (int p = 0; p < parts; ++p) s += a.part[p] * b.part[p];
  return sum<8>(s);
}

/// x^T K, K symmetric.
inline Row times(const double* x, const double* k) {
  Row r{};
  for (int i = 0; i < order; ++i) add(r, x[i], row_of(k, i));
  return r;
}

/// At least the largest eigenvalue of a symmetric matrix with this trace and this sum of squared
/// eigenvalues (Wolkowicz, Styan, Linear Algebra Appl. 29, 1980).
inline double largest(double trace, double squares) {
  constexpr double n = order;
  double spread = squares - trace * trace / n;
  spread = (spread > 0 ? spread : 0) + 1e-12 * squares;
  return trace / n + __builtin_sqrt(spread * (n - 1) / n);
}

/// Two steps of subspace iteration from the sketch's own coordinates; then what is left.
inline void compress(const double* k, OjaCompression& to) {
  alignas(64) double q[sketch * stride];
  alignas(64) double turned[sketch * stride];
  alignas(64) double left[order * stride];
  for (int j = 0; j < sketch; ++j) {
    // K (e_j + every fourth new row's): the sketch may know nothing yet.
    alignas(64) double start[stride];
    Row first = row_of(k, j);
    for (int i = sketch + j; i < order; i += sketch) add(first, 1, row_of(k, i));
    for (int p = 0; p < parts; ++p) eight(start + 8 * p) = first.part[p];
    Row z = times(start, k);
    const double before = dot(z, z);
    for (int twice = 0; twice < 2; ++twice) {
      for (int i = 0; i < j; ++i) {
        const Row qi = row_of(q, i);
        add(z, -dot(qi, z), qi);
      }
      const double norm2 = dot(z, z);
      // Nothing but rounding is left where there are fewer directions: then none is taken.
      const double inverse = norm2 > 1e-24 * (twice ? 1 : before) ? 1 / __builtin_sqrt(norm2) : 0;
      for (int p = 0; p < parts; ++p) z.part[p] *= inverse;
    }
    for (int p = 0; p < parts; ++p) eight(q + j * stride + 8 * p) = z.part[p];
  }
  double skew = 0;
  for (int i = 0; i < sketch; ++i)
    for (int j = 0; j <= i; ++j) {
      const double inner = dot(row_of(q, i), row_of(q, j));
      const double off = inner - (i == j && inner > 0 ? 1 : 0);
      skew += (i == j ? 1 : 2) * off * off;
    }
  to.skew = __builtin_sqrt(skew);
  // (I - Q Q^T) K (I - Q Q^T) = K - Q T^T - T Q^T, T = K Q - Q (Q^T K Q) / 2.
  double inner[sketch][sketch];
  for (int j = 0; j < sketch; ++j) {
    const Row kq = times(q + j * stride, k);
    for (int i = 0; i < sketch; ++i) inner[i][j] = dot(row_of(q, i), kq);
    for (int p = 0; p < parts; ++p) eight(turned + j * stride + 8 * p) = kq.part[p];
  }
  for (int j = 0; j < sketch; ++j) {
    Row t = row_of(turned, j);
    for (int i = 0; i < sketch; ++i) add(t, -inner[i][j] / 2, row_of(q, i));
    for (int p = 0; p < parts; ++p) eight(turned + j * stride + 8 * p) = t.part[p];
  }
  double trace = 0;
  for (int i = 0; i < order; ++i) {
    Row r = row_of(k, i);
    for (int j = 0; j < sketch; ++j) {
      add(r, -q[j * stride + i], row_of(turned, j));
      add(r, -turned[j * stride + i], row_of(q, j));
    }
    for (int p = 0; p < parts; ++p) eight(left + i * stride + 8 * p) = r.part[p];
    trace += left[i * stride + i];
  }
  // Its eigenvalues along Q, which are 0, are raised to the mean of the others: the bounds below
  // are sharp where all are equal.
  const double mean = (trace > 0 ? trace : 0) / (order - sketch);
  for (int i = 0; i < order; ++i) {
    for (int j = 0; j < i; ++j) left[j * stride + i] = left[i * stride + j];
  }
  for (int i = 0; i < order; ++i) {
    Row r = row_of(left, i);
    for (int j = 0; j < sketch; ++j) add(r, mean * q[j * stride + i], row_of(q, j));
    for (int p = 0; p < parts; ++p) eight(left + i * stride + 8 * p) = r.part[p];
  }
  double raised = 0;
  double squares = 0;
  double fourths = 0;
  for (int i = 0; i < order; ++i) {
    const Row own = row_of(left, i);
    const Row r = times(left + i * stride, left);
    raised += left[i * stride + i];
    squares += dot(own, own);
    fourths += dot(r, r);
  }
  const double by_squares = largest(raised, squares);
  const double by_fourths = __builtin_sqrt(largest(squares, fourths));
  to.left = (by_squares < by_fourths ? by_squares : by_fourths) * (1 + 1e-12);
  to.trace = trace;
  for (int i = 0; i < sketch * stride; ++i) to.coefficients[i] = q[i];
}

}  // namespace gramian::detail::GRAMIAN_ISA_NAMESPACE
