// The iteration on one matrix already scaled and converted; private to newton_schulz_*.cpp.
#pragma once

#include <cstddef>

#include "gramian/newton_schulz.hpp"
#include "gramian/symmetric_product.hpp"

namespace gramian::detail {

// ---- any size and type: in place, on the symmetric core (newton_schulz_general.cpp)

template <class T>
std::size_t matrix_workspace(index_t rows, index_t cols, const NewtonSchulzOptions& options,
                             int threads);

/// Runs all steps on X (2^-exponent times the input, columns adjacent) in place; returns s for
/// this X.
template <class T>
double iterate(Context& ctx, MatrixView<T> x, int exponent, const NewtonSchulzOptions& options,
               Workspace workspace);

/// ||I - G||_F / sqrt(r).
template <class T>
double orthogonality_residual(Context& ctx, MatrixView<const T> x, Workspace workspace);

// ---- small and real: padded, in cache, on one core (newton_schulz_small.cpp)

template <class R>
bool is_small(index_t rows, index_t cols);

/// Every call is given the same workspace.
template <class R>
class SmallMatrix {
 public:
  SmallMatrix(index_t rows, index_t cols, const NewtonSchulzOptions& options);

  std::size_t workspace() const;
  /// Where to put the matrix, 2^-exponent times the input, transposed if it is wide.
  MatrixView<R> input(Workspace workspace) const;
  /// Runs all steps; returns where the result is, tall, and s.
  MatrixView<R> iterate(int exponent, Workspace workspace, double& s) const;
  /// ||I - G||_F / sqrt(r) of what iterate returned.
  double residual(MatrixView<R> result, Workspace workspace) const;

 private:
  struct Buffers;
  const NewtonSchulzOptions& options_;
  index_t m_, n_;    // short and long side
  index_t mp_, np_;  // padded to whole tiles
};

}  // namespace gramian::detail
