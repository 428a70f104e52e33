// Rows of any stored type, one after the other, in double.
#pragma once

#include <vector>

#include "batch.hpp"

namespace gramian::detail {

/// fn(row in double, which it may change, its largest magnitude, index) for every row of a float or
/// double matrix.
template <class F>
void for_each_row(const ArrayRef& rows, F&& fn) {
  const auto walk = [&]<class S>() {
    const MatrixView<const S> a = rows.matrices<const S>()[0];
    std::vector<double> row(static_cast<std::size_t>(a.cols));
    for (index_t i = 0; i < a.rows; ++i) {
      const S* from = a.data + i * a.row_stride;
      for (index_t j = 0; j < a.cols; ++j)
        row[static_cast<std::size_t>(j)] = static_cast<double>(from[j * a.col_stride]);
      fn(row.data(), largest_entry<double>({row.data(), 1, a.cols, a.cols, 1}), i);
    }
  };
  if (rows.dtype == DType::float32)
    walk.template operator()<float>();
  else
    walk.template operator()<double>();
}

/// x^T y in eight parts, so that the loop vectorizes; no term meets more than n/8 + 4 roundings.
inline double dot(const double* x, const double* y, index_t n) {
  double part[8] = {};
  index_t j = 0;
  for (; j + 8 <= n; j += 8)
    for (int l = 0; l < 8; ++l) part[l] += x[j + l] * y[j + l];
  double sum =
      ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
  for (; j < n; ++j) sum += x[j] * y[j];
  return sum;
}

}  // namespace gramian::detail
