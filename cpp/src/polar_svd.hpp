// The last resort: singular vectors or eigenvectors, in double. For the polar factor they decide
// which singular values lie above the cutoff, and give the partial isometry of those.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "small_lapack.hpp"

extern "C" {
void GRAMIAN_LAPACK(dgesvd)(const char*, const char*, const int*, const int*, double*, const int*,
                            double*, double*, const int*, double*, const int*, double*, const int*,
                            int*, std::size_t, std::size_t);
void GRAMIAN_LAPACK(zgesvd)(const char*, const char*, const int*, const int*, std::complex<double>*,
                            const int*, double*, std::complex<double>*, const int*,
                            std::complex<double>*, const int*, std::complex<double>*, const int*,
                            double*, int*, std::size_t, std::size_t);
}

namespace gramian::detail {

/// As small_svd, by QR iteration: slower, and its small singular values are off by a few units.
/// Divide and conquer was seen to give 7e-15 for 3e-16 next to a repeated 1, above a cutoff of
/// 4e-15.
template <class D>
SmallSvd<D> careful_svd(Small<D> a) {
  const int n = static_cast<int>(a.rows);
  SmallSvd<D> out{Small<D>(n, n), std::vector<double>(static_cast<std::size_t>(n)), Small<D>(n, n)};
  const int lwork = 64 * std::max(n, 1) + 8 * n;
  std::vector<D> work(static_cast<std::size_t>(lwork));
  int info = 0;
  // Transposed in and out: see small_svd.
  if constexpr (is_complex_v<D>) {
    std::vector<double> reals(static_cast<std::size_t>(5 * n));
    GRAMIAN_LAPACK(zgesvd)("A", "A", &n, &n, a.data(), &n, out.s.data(), out.vh.data(), &n,
                           out.u.data(), &n, work.data(), &lwork, reals.data(), &info, 1, 1);
  } else {
    GRAMIAN_LAPACK(dgesvd)("A", "A", &n, &n, a.data(), &n, out.s.data(), out.vh.data(), &n,
                           out.u.data(), &n, work.data(), &lwork, &info, 1, 1);
  }
  return out;
}

// Below these orders rounding of LAPACK's is above what the tolerance has room for in double: at
// all, and where a value is near the cutoff. Above the second it takes too long.
inline constexpr index_t rotated_below = 17;
inline constexpr index_t rotated_near_cutoff = 65;

/// As small_svd, by Jacobi's rotations of columns in long double, which next to LAPACK's double is
/// exact where it is longer. Columns of u with s = 0 are zero. It begins with the columns of A V
/// for the V of `found`, made orthonormal: few sweeps are left of ten. What is under the
/// cutoff, a part of the largest value, is made orthogonal to the rest and not among itself.
template <class D>
SmallSvd<D> rotated_svd(const Small<D>& a, const SmallSvd<D>& found, double cutoff) {
  using L = std::conditional_t<is_complex_v<D>, std::complex<long double>, long double>;
  const auto n = static_cast<std::size_t>(a.rows);
  const auto conj = [](const L& v) {
    if constexpr (is_complex_v<D>)
      return std::conj(v);
    else
      return v;
  };
  std::vector<L> x(n * n);  // columns one after the other
  std::vector<L> v(n * n, L(0));
  const bool known = std::all_of(found.vh.data(), found.vh.data() + n * n,
                                 [](const D& entry) { return std::isfinite(std::abs(entry)); });
  for (std::size_t j = 0; j < n; ++j) {
    v[j * n + j] = L(1);
    for (std::size_t i = 0; i < n; ++i) {
      x[j * n + i] = static_cast<L>(a.data()[i * n + j]);
      if (known) v[j * n + i] = conj(static_cast<L>(found.vh.data()[j * n + i]));
    }
  }
  // left <- left right, both by columns.
  const auto multiply = [n](std::vector<L>& left, const std::vector<L>& right) {
    std::vector<L> product(n * n, L(0));
    for (std::size_t j = 0; j < n; ++j)
      for (std::size_t k = 0; k < n; ++k) {
        const L factor = right[j * n + k];
        for (std::size_t i = 0; i < n; ++i) {
          const L& entry = left[k * n + i];
          if constexpr (is_complex_v<D>)
            product[j * n + i] += L(entry.real() * factor.real() - entry.imag() * factor.imag(),
                                    entry.real() * factor.imag() + entry.imag() * factor.real());
          else
            product[j * n + i] += entry * factor;
        }
      }
    left.swap(product);
  };
  // Sums of conj(left) right, by hand: operator* of complex numbers looks for NaN.
  const auto dot = [n](const std::vector<L>& columns, std::size_t p, std::size_t q) {
    const L* left = &columns[p * n];
    const L* right = &columns[q * n];
    long double re = 0;
    long double im = 0;
    for (std::size_t i = 0; i < n; ++i) {
      re += std::real(left[i]) * std::real(right[i]) + std::imag(left[i]) * std::imag(right[i]);
      if constexpr (is_complex_v<D>)
        im += std::real(left[i]) * right[i].imag() - left[i].imag() * right[i].real();
    }
    if constexpr (is_complex_v<D>)
      return L(re, im);
    else
      return re;
  };
  if (known) {
    // V (3 - V^H V) / 2: what LAPACK leaves is squared, which is below long double's roundoff.
    std::vector<L> correction(n * n);
    for (std::size_t j = 0; j < n; ++j)
      for (std::size_t i = 0; i < n; ++i)
        correction[j * n + i] = (L(i == j ? 3 : 0) - dot(v, i, j)) / 2.0L;
    multiply(v, correction);
    multiply(x, v);
  }
  const auto rotate = [n](L* one, L* two, long double c, long double s, const L& phase) {
    for (std::size_t i = 0; i < n; ++i) {
      const L left = one[i];
      L right;
      if constexpr (is_complex_v<D>)
        right = L(phase.real() * two[i].real() + phase.imag() * two[i].imag(),
                  phase.real() * two[i].imag() - phase.imag() * two[i].real());
      else
        right = phase * two[i];
      one[i] = c * left - s * right;
      two[i] = s * left + c * right;
    }
  };
  constexpr long double enough = 8 * std::numeric_limits<long double>::epsilon();
  constexpr int most_sweeps = 40;
  std::vector<long double> norms(n);  // squared
  bool turned = true;
  for (int sweep = 0; sweep < most_sweeps && turned; ++sweep) {
    turned = false;
    for (std::size_t j = 0; j < n; ++j) norms[j] = std::real(dot(x, j, j));
    const long double largest = *std::max_element(norms.begin(), norms.end());
    // Columns that are dependent on the others shrink by a roundoff a sweep, and never end being
    // at an angle to them: below this they are far under any cutoff, and are let be.
    const long double nothing = largest * 0x1p-160L;
    // All such columns together are at most half the cutoff, and so are their singular values.
    const long double low = largest * cutoff * cutoff / (4 * static_cast<long double>(n));
    for (std::size_t p = 0; p < n; ++p)
      for (std::size_t q = p + 1; q < n; ++q) {
        const long double alpha = norms[p];
        const long double beta = norms[q];
        if (!(std::min(alpha, beta) > nothing) || std::max(alpha, beta) < low) continue;
        const L gamma = dot(x, p, q);
        const long double size = std::abs(gamma);
        if (!(size > enough * std::sqrt(alpha) * std::sqrt(beta)) || size == 0) continue;
        turned = true;
        const long double zeta = (beta - alpha) / (2 * size);
        const long double t =
            (zeta >= 0 ? 1.0L : -1.0L) / (std::abs(zeta) + std::hypot(1.0L, zeta));
        const long double c = 1 / std::sqrt(1 + t * t);
        const L phase = gamma / size;
        rotate(&x[p * n], &x[q * n], c, c * t, phase);
        rotate(&v[p * n], &v[q * n], c, c * t, phase);
        const auto after = [&](std::size_t j, long double before, long double change) {
          norms[j] = before + change;
          if (!(norms[j] > before / 1024)) norms[j] = std::real(dot(x, j, j));  // cancelled
        };
        after(p, alpha, -t * size);
        after(q, beta, t * size);
      }
  }
  std::vector<std::pair<long double, std::size_t>> order(n);
  for (std::size_t j = 0; j < n; ++j) order[j] = {-std::sqrt(std::real(dot(x, j, j))), j};
  std::sort(order.begin(), order.end());
  SmallSvd<D> out{Small<D>(a.rows, a.rows), std::vector<double>(n), Small<D>(a.rows, a.rows)};
  for (std::size_t k = 0; k < n; ++k) {
    const long double s = -order[k].first;
    const std::size_t j = order[k].second;
    out.s[k] = static_cast<double>(s);
    for (std::size_t i = 0; i < n; ++i) {
      out.u.data()[i * n + k] = s > 0 ? static_cast<D>(x[j * n + i] / s) : D(0);
      out.vh.data()[k * n + i] = static_cast<D>(conj(v[j * n + i]));
    }
  }
  return out;
}

/// The matrix to be decomposed, as Q times a square one, in double.
template <class T>
struct SquareInDouble {
  using D = wide_t<T>;
  Thin<D> q;  // Y itself where it is square
  Small<D> square;

  explicit SquareInDouble(MatrixView<const T> y) : q(y.rows, y.cols), square(y.cols, y.cols) {
    for (index_t i = 0; i < y.rows; ++i)
      for (index_t j = 0; j < y.cols; ++j) q(i, j) = static_cast<D>(y(i, j));
    if (y.rows > y.cols) {
      square = householder_qr(q);
    } else {
      for (index_t i = 0; i < y.rows; ++i)
        for (index_t j = 0; j < y.cols; ++j) square(i, j) = q(i, j);
    }
  }

  /// W <- Q left[:, :rank] right[:rank, :].
  void put(const Small<D>& left, const Small<D>& right, index_t rank, MatrixView<T> w) const {
    const index_t n = w.rows;
    const index_t m = w.cols;
    Small<D> factor(m, m);
    if (rank > 0)
      gemm<D>(false, false, m, m, rank, D(1), left.data(), m, right.data(), m, D(0), factor.data(),
              m);
    Thin<D> product;
    if (n > m) {
      product = Thin<D>(n, m);
      gemm<D>(false, false, n, m, m, D(1), q.row(0), q.ld, factor.data(), m, D(0), product.row(0),
              product.ld);
    }
    for (index_t i = 0; i < n; ++i)
      for (index_t j = 0; j < m; ++j)
        w(i, j) = static_cast<T>(n > m ? product(i, j) : factor(i, j));
  }
};

/// W <- the decomposed matrix with f(sigma_i, sigma_1) for its singular values, as below.
template <class T, class F>
index_t put_function(const SquareInDouble<T>& decomposed, SmallSvd<wide_t<T>> svd, const F& f,
                     MatrixView<T> w) {
  const index_t m = w.cols;
  index_t rank = 0;
  for (; rank < m; ++rank) {
    const double value = f(svd.s[static_cast<std::size_t>(rank)], svd.s[0]);
    if (!(value > 0)) break;
    for (index_t i = 0; i < m; ++i) svd.u(i, rank) *= value;
  }
  decomposed.put(svd.u, svd.vh, rank, w);
  return rank;
}

/// W <- sum of f(sigma_i, sigma_1) u_i v_i^H for a tall Y, up to the first i where f is 0; returns
/// the number of terms. With a cutoff, singular values near to it are found with care.
template <class T, class F>
index_t function_by_svd(MatrixView<const T> y, double cutoff, const F& f, MatrixView<T> w) {
  SquareInDouble<T> decomposed(y);
  // Of float32 that is looked at in double, the cutoff and the tolerance are those of float32:
  // there LAPACK's rounding has room enough.
  const bool in_double = std::is_same_v<real_t<T>, double> &&
                         cutoff < 0x1p10 * unit_roundoff<double> * static_cast<double>(y.rows) *
                                      polar_plan::cutoff_units;
  auto svd = small_svd(decomposed.square);
  if (in_double && cutoff > 0 && y.cols < rotated_below)
    return put_function(decomposed, rotated_svd(decomposed.square, svd, cutoff), f, w);
  const bool near = std::any_of(svd.s.begin(), svd.s.end(), [&](double s) {
    return s > cutoff / 4 * svd.s[0] && s < (cutoff + 0x1p-43) * svd.s[0];
  });
  // Divide and conquer was seen to return NaN for finite input with values next to rounding.
  double sum = 0;
  for (index_t i = 0; i < y.cols * y.cols; ++i)
    sum += std::abs(svd.u.data()[i]) + std::abs(svd.vh.data()[i]);
  if ((cutoff > 0 && near) || !std::isfinite(sum))
    svd = in_double && y.cols < rotated_near_cutoff ? rotated_svd(decomposed.square, svd, cutoff)
                                                    : careful_svd(decomposed.square);
  return put_function(decomposed, std::move(svd), f, w);
}

/// The polar factor for singular values above `cutoff` sigma_1; returns their number.
template <class T>
index_t polar_by_svd(MatrixView<const T> y, double cutoff, MatrixView<T> w) {
  return function_by_svd<T>(
      y, cutoff, [=](double s, double top) { return s > cutoff * top ? 1.0 : 0.0; }, w);
}

/// The sign of a Hermitian Y, eigenvalues up to `cutoff` of the largest magnitude going to 0.
template <class T>
index_t sign_by_eigenvectors(MatrixView<const T> y, double cutoff, MatrixView<T> w) {
  using D = wide_t<T>;
  SquareInDouble<T> decomposed(y);
  const Eigen<D> eigen = hermitian_eigen(std::move(decomposed.square));
  const index_t m = y.cols;
  double top = 0;
  for (double v : eigen.values) top = std::max(top, std::abs(v));
  Small<D> left(m, m);
  Small<D> right(m, m);
  index_t rank = 0;
  for (index_t k = 0; k < m; ++k) {
    const double value = eigen.values[static_cast<std::size_t>(k)];
    if (!(std::abs(value) > cutoff * top)) continue;
    for (index_t i = 0; i < m; ++i) {
      left(i, rank) = (value > 0 ? 1.0 : -1.0) * eigen.vectors(i, k);
      right(rank, i) = conjugate(eigen.vectors(i, k));
    }
    ++rank;
  }
  decomposed.put(left, right, rank, w);
  return rank;
}

}  // namespace gramian::detail
