// Slow, obvious products in double: the oracle of the kernels.
#pragma once

#include <algorithm>
#include <complex>
#include <random>
#include <vector>

#include "gramian/matrix_view.hpp"

namespace gramian::test {

using wide = std::complex<double>;

template <class T>
wide widen(T v) {
  if constexpr (is_complex_v<T>)
    return {static_cast<double>(v.real()), static_cast<double>(v.imag())};
  else
    return {static_cast<double>(v), 0.0};
}

template <class T>
T narrow(wide v) {
  if constexpr (is_complex_v<T>)
    return T(static_cast<real_t<T>>(v.real()), static_cast<real_t<T>>(v.imag()));
  else
    return static_cast<T>(v.real());
}

template <class T>
std::vector<T> random_entries(index_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<T> out(static_cast<std::size_t>(count));
  for (T& v : out) v = narrow<T>({normal(engine), normal(engine)});
  return out;
}

/// X X^H, or X^H X.
template <class T>
std::vector<wide> gram_reference(MatrixView<const T> x, bool left) {
  if (!left) x = x.transposed();
  std::vector<wide> out(static_cast<std::size_t>(x.rows * x.rows));
  for (index_t i = 0; i < x.rows; ++i)
    for (index_t j = 0; j < x.rows; ++j) {
      wide sum = 0;
      for (index_t k = 0; k < x.cols; ++k)
        sum += left ? widen(x(i, k)) * std::conj(widen(x(j, k)))
                    : std::conj(widen(x(i, k))) * widen(x(j, k));
      out[static_cast<std::size_t>(i * x.rows + j)] = sum;
    }
  return out;
}

template <class A, class B>
std::vector<wide> product_reference(MatrixView<const A> a, MatrixView<const B> b) {
  std::vector<wide> out(static_cast<std::size_t>(a.rows * b.cols));
  for (index_t i = 0; i < a.rows; ++i)
    for (index_t k = 0; k < a.cols; ++k)
      for (index_t j = 0; j < b.cols; ++j)
        out[static_cast<std::size_t>(i * b.cols + j)] += widen(a(i, k)) * widen(b(k, j));
  return out;
}

/// max |got - want| / max(1, max |want|).
template <class T>
double relative_error(MatrixView<const T> got, const std::vector<wide>& want) {
  double error = 0;
  double size = 1;
  for (index_t i = 0; i < got.rows; ++i)
    for (index_t j = 0; j < got.cols; ++j) {
      const wide w = want[static_cast<std::size_t>(i * got.cols + j)];
      const double e = std::abs(widen(got(i, j)) - w);
      if (!(e <= 1e300)) return e;
      error = std::max(error, e);
      size = std::max(size, std::abs(w));
    }
  return error / size;
}

}  // namespace gramian::test
