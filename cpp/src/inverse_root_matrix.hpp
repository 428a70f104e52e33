// Roots of one Hermitian matrix already scaled and converted; private to inverse_root*.cpp.
#pragma once

#include <cstddef>

#include "gramian/inverse_root.hpp"
#include "gramian/symmetric_product.hpp"

namespace gramian::detail {

struct RootTask {
  index_t p;
  double ridge;
  double tol;              // 0: to rounding
  bool square_root;        // A^(1/2) besides A^(-1/2)
  bool wants_figures;      // residual and condition
  double stored_roundoff;  // u of the input's type
};

struct RootFigures {
  double residual = 0;
  double condition = 0;
  double largest = 0;     // lambda_1(A), on the scale of the matrix given
  double eigenvalue = 0;  // smallest over largest in magnitude, where an answer is missing
  int steps = 0;
  RootFailure failure = RootFailure::none;
};

struct IterationResult {
  bool converged = false;
  int steps = 0;
  double top = 0;  // what the eigenvalues of A were taken to be at most
  // All of them are at least `floor` if it converged: T(m) <= a for small m, and the last m is at
  // least 1 - e.
  double floor = 0;
};

/// By the coupled iteration. Every call is given the same workspace.
template <class T>
class IteratedRoot {
 public:
  IteratedRoot(index_t n, int threads);

  std::size_t workspace() const;
  /// Where to put A, both triangles, its largest entry in [1/2, 1).
  MatrixView<T> input(Workspace workspace) const;
  /// False: not by this road, or not with this arithmetic.
  bool run(Context& ctx, const RootTask& task, Workspace workspace, RootFigures& figures);
  MatrixView<const T> inverse() const { return inverse_; }
  MatrixView<const T> root() const { return root_; }

 private:
  struct Buffers;
  template <class Products>
  bool iterate(Context& ctx, const Products& products, const RootTask& task, Buffers& buffers,
               RootFigures& figures);
  /// p = 1: by Cholesky's factors.
  IterationResult inverse_itself(Buffers& buffers, double top) const;

  index_t n_;
  int threads_;
  bool small_;  // stays in cache, padded to whole tiles
  index_t ld_;
  index_t entries_;
  MatrixView<const T> inverse_{};
  MatrixView<const T> root_{};
};

/// By eigenvectors, for double and complex<double>. Where there is no answer: f(A) on the space of
/// positive eigenvalues, zero on the rest.
template <class D>
class EigenRoot {
 public:
  explicit EigenRoot(index_t n) : n_(n) {}

  std::size_t workspace() const;
  MatrixView<D> input(Workspace workspace) const;
  void run(Context& ctx, const RootTask& task, Workspace workspace, RootFigures& figures);
  MatrixView<const D> inverse() const { return inverse_; }
  MatrixView<const D> root() const { return root_; }

 private:
  struct Buffers;
  index_t n_;
  MatrixView<const D> inverse_{};
  MatrixView<const D> root_{};
};

}  // namespace gramian::detail
