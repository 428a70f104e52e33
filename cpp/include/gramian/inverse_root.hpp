// Inverse p-th roots of Hermitian positive semidefinite matrices, and square roots.
//
//   inverse_root  (A + ridge lambda_1 I)^(-1/p)
//   sqrt_psd      A^(1/2) and A^(-1/2)
//
// Coupled iteration (Guo and Higham 2006) on commuting matrices, M_0 = A, X_0 = I:
//
//   T = a I + b M + c M^2,   X <- X T,   M <- M T^p,   so that M = A X^p throughout and M -> I.
//
// Guo and Higham's T = ((p + 1) I - M)/p lets an eigenvalue m of M near 0 grow by ((p + 1)/p)^p < e
// a step. Here (a, b, c) is the row for which m^(1/p) T(m) is uniformly closest to 1 on the
// interval that holds the eigenvalues, composed step by step as in the Polar Express (Amsel et al.
// 2025), of which p = 2 is the case: a factor near 16 a step for p = 2. The last steps take the
// Taylor polynomial of m^(-1/p) about 1, which leaves |1 - m|^3 times a constant.
#pragma once

#include <vector>

#include "gramian/array_ref.hpp"
#include "gramian/coefficients.hpp"
#include "gramian/status.hpp"

namespace gramian {

/// The largest p that the iteration is made for: rows for larger ones let M grow like 2^p.
inline constexpr int largest_iterated_root = 8;

/// Rows for eigenvalues in [lower, 1], 0 < lower < 1, 1 <= p <= largest_iterated_root: they take
/// all of them to within 1e-3 of 1. Made for the power of 4 at or below lower, at least 4^-26; kept
/// from call to call.
const std::vector<Row>& inverse_root_rows(int p, double lower);

/// The row that acts on M as if divided by top, and on X as it must then.
Row scaled_row(const Row& row, int p, double top);

/// Rows of the rational step T = (a I + b M) (I + c M)^-1 for the same interval, p >= 2: minimax
/// again, and far stronger. For p = 2 it is Halley's step with the weights of QDWH (Nakatsukasa,
/// Bai and Gygi 2010); condition 10^4 takes two rows, where the polynomials take five.
const std::vector<Row>& inverse_root_rational_rows(int p, double lower);
Row scaled_rational_row(const Row& row, int p, double top);

/// Taylor polynomial of m^(-1/p) about 1, and the constant c of |1 - m T(m)^p| <= c |1 - m|^3 for
/// |1 - m| <= 1/2.
Row taylor_row(int p);
double taylor_constant(int p);

/// The same of |1 - m T(m)^p| <= c |1 - m|^2 for T = 1 + (1 - m) / p and |1 - m| <= 1/10.
double taylor_square(int p);

struct InverseRootOptions {
  index_t p = 2;
  double ridge = 0;
  double tol = 0;  // 0: to rounding; else what the residual must not exceed
  bool check_finite = true;
};

/// Per-matrix figures, absent where there is no data; float64 for double precision, else float32.
struct InverseRootInfo {
  ArrayRef residual;   // ||I - X^p B||_F / sqrt(n), B = A + ridge lambda_1 I; X as computed
  ArrayRef condition;  // lambda_1(B) / lambda_n(B), to within a third
  ArrayRef largest;    // lambda_1(A)
};

enum class RootFailure {
  none,
  singular,     // B has an eigenvalue that is zero but for rounding
  negative,     // A has an eigenvalue below zero, beyond rounding
  tolerance,    // the residual is above tol
  eigenvalues,  // LAPACK found none
};

/// What happened in a batch.
struct InverseRootOutcome {
  int steps = 0;         // most steps of the iteration
  index_t iterated = 0;  // matrices whose result the iteration gave, as opposed to eigenvectors
  index_t widened = 0;   // of all: computed in float64 for narrower input
  index_t failures = 0;  // matrices without an answer; their place in out has the best there is
  index_t first = 0;     // the first of them,
  RootFailure failure = RootFailure::none;  // why,
  double eigenvalue = 0;  // its smallest eigenvalue over the largest in magnitude,
  double residual = 0;    // and the largest residual of all that failed
};

/// out <- (A + ridge lambda_1 I)^(-1/p) for each matrix. Of A only the lower triangle is read (but
/// by check_finite) and the diagonal taken as real. out has a's shape and type and may overlap it.
/// Without check_finite a matrix with NaN or infinity gives NaN.
/// Scratch memory: 6 n^2 elements a matrix and thread, as much again in float64 where that is used.
Status inverse_root(const ArrayRef& a, const ArrayRef& out, const InverseRootOptions& options,
                    const InverseRootInfo& info, InverseRootOutcome& outcome);

/// root <- A^(1/2), inverse <- A^(-1/2); neither may overlap the other. Where A is singular root is
/// good all the same.
Status sqrt_psd(const ArrayRef& a, const ArrayRef& root, const ArrayRef& inverse,
                const InverseRootOptions& options, InverseRootOutcome& outcome);

}  // namespace gramian
