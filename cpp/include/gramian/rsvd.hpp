// Randomized SVD in as few reads of A as there are powers of A^H A: docs/rsvd.md.
//
// Each read gives Y = A Z and W = A^H Y at once. With Y = Q R the projection Q^H A = R^-H W^H needs
// no read of its own: q + 1 reads do what 2 q + 2 products do elsewhere (Halko, Martinsson, Tropp,
// SIAM Rev. 53, 2011; block Krylov: Musco and Musco, NeurIPS 2015).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gramian/array_ref.hpp"
#include "gramian/status.hpp"

namespace gramian {

enum class RsvdMethod {
  automatic,
  subspace,     // Z <- orth(W), ordered by Ritz values
  krylov,       // Z <- [Z, orth(W - Z Z^H W)]
  gram,         // eigenvectors of A^H A in double, then Y = A V: two reads
  single_pass,  // one read
};

struct RsvdOptions {
  index_t rank = 0;
  index_t least_rank = 0;  // of what a tolerance finds
  index_t oversample = 10;
  int passes = 0;        // reads of A; 0: until the Ritz values stagnate
  double tolerance = 0;  // positive: the least rank certified to this relative error, at most rank
  RsvdMethod method = RsvdMethod::automatic;
  bool center = false;  // take the mean of each column off
  std::uint64_t seed = 0;
  bool check_finite = true;
  ArrayRef start;  // (..., n, j) vectors that take the place of the first columns of the sketch
};

struct RsvdFigures {
  index_t rank = 0;
  int passes = 0;          // complete reads of the matrix
  double error = 0;        // ||A - U S V^H||_F / ||A||_F, A centered where that is asked for
  bool certified = false;  // whether `error` is an upper bound, rounding included
  bool reached = true;     // false: the tolerance was not
  double floor = 0;        // the least error that could have been certified
  RsvdMethod method = RsvdMethod::subspace;
  int shifted = 0;      // Gram matrices that had to be shifted before their Cholesky factor
  int householder = 0;  // bases that Householder QR had to make
};

/// The factors of a batch, in memory of their own until they are written out.
class Rsvd {
 public:
  Rsvd();
  ~Rsvd();
  Rsvd(const Rsvd&) = delete;
  Rsvd& operator=(const Rsvd&) = delete;

  /// a: (..., m, n), m and n at least 1.
  Status compute(const ArrayRef& a, const RsvdOptions& options);

  /// Columns of U: the rank asked for, or the largest that a matrix of the batch needed.
  index_t rank() const { return rank_; }
  const std::vector<RsvdFigures>& figures() const { return figures_; }

  /// u (..., m, k), s (..., k) in the real type of the input, vh (..., k, n); k = rank(). A null
  /// array is left out.
  void write(const ArrayRef& u, const ArrayRef& s, const ArrayRef& vh) const;

 private:
  struct Factors;
  std::vector<std::unique_ptr<Factors>> factors_;
  std::vector<RsvdFigures> figures_;
  index_t rank_ = 0;
};

/// Whether no entry is NaN or infinite.
bool all_finite(const ArrayRef& a);

/// q (..., m, size): an orthonormal basis of the approximate range of each matrix.
Status range_finder(const ArrayRef& a, const RsvdOptions& options, const ArrayRef& q,
                    std::vector<RsvdFigures>& figures);

/// w (..., rank) descending, v (..., n, rank): a ~ v diag(w) v^H for Hermitian positive
/// semidefinite a, by the Nystrom approximation (Tropp, Yurtsever, Udell, Cevher, NeurIPS 2017) in
/// two reads.
Status nystrom_eigh(const ArrayRef& a, const RsvdOptions& options, const ArrayRef& w,
                    const ArrayRef& v);

}  // namespace gramian
