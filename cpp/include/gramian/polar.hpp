// The polar decomposition X = U P to working precision, and the functions made of it.
//
// Three roads to the polar factor U, by what is known of the singular values once X X^H is formed:
//   * Newton-Schulz with the minimax rows of "The Polar Express" (Amsel, Persson, Musco, Gower
//   2025)
//     for the interval that holds them, where it is not too wide;
//   * before that, for square X, scaled Newton steps X <- (mu X + X^-H / mu) / 2 (Higham 1986;
//   their
//     scaling from bounds alone, Byers and Xu 2008), each of which takes the square root of the
//     condition number; other shapes are brought to a square by a QR factorization first;
//   * an SVD, where a singular value lies under the cutoff or too near to tell.
// docs/functions_of_singular_values.md has the bounds and what was measured.
#pragma once

#include <span>
#include <vector>

#include "gramian/array_ref.hpp"
#include "gramian/coefficients.hpp"
#include "gramian/status.hpp"
#include "gramian/symmetric_product.hpp"

namespace gramian {

// ---- The plan: constants and tables that every device shares

namespace polar_plan {

/// Singular values of at most this many max(m, n) u sigma_1 count as zero.
inline constexpr double cutoff_units = 1.0;

/// A lower bound on the smallest singular value must clear the cutoff by this factor for an
/// iteration to be trusted with it, in the precision computed in; else an SVD decides. The bound is
/// sure but for the rounding of an inverse, and loose by at most sqrt(n).
inline constexpr double cutoff_margin = 2.0;

/// Above this condition number a Newton step is cheaper than polynomial steps: it costs two of them
/// (2 n^3 + 2/3 n^3 operations, most of it in LAPACK) and saves one for each factor of 4.
inline constexpr double newton_above = 26.0;

/// Halley's step, dynamically weighted (Nakatsukasa, Bai and Gygi 2010): the rational function
///   sigma (a + b sigma^2) / (1 + c sigma^2) = sigma (b/c + (a - b/c) / (1 + c sigma^2))
/// that is closest to 1 on [lower, 1] and maps it to [mapped, 1].
struct Halley {
  double a, b, c, mapped;
};
Halley halley(double lower);

/// After Newton steps that leave a condition number above this, and from this order on, a Halley
/// step by way of I + c G: it costs about as much as a polynomial step and takes 16 to 1.26, where
/// that takes 16 to 4. Its inverse is Cholesky's; with c < 250 it mixes directions by at most some
/// a c^(1/2) u (Nakatsukasa and Higham 2013 ask for c < 100, for a bound that holds always).
inline constexpr double halley_above = 2.0;
inline constexpr index_t halley_from = 96;

/// Where a Halley step follows, Newton steps end here; c is 244 then.
inline constexpr double newton_above_halley = 40.0;

/// The Gram form's part of X - U P grows with the square of the condition number: from 7 on it was
/// seen above the tolerance, at 17 seven times that. The estimates of both ends are together up to
/// 1.6 times too far apart.
inline constexpr double gram_form_below = 7.0;

/// spectral_clip works on G + c^2 I or on eigenvectors of G, with an error of u (sigma_1 / c)^2
/// where an SVD has u sigma_1 / c, up to this sigma_1 / c.
inline constexpr double clip_ratio_below = 4.0;

/// No call takes more steps than this.
inline constexpr int most_steps = 40;

/// One step of a table, and a bound on max |1 - sigma^2| after it, for spectra within the table's.
struct Step {
  Row row;
  double defect;
};

/// Minimax steps for singular values in [lower, 1], until rounding is all that is left; after them
/// the Taylor rows take over. Tables exist for a grid of lower ends, whose next smaller one is
/// taken.
std::span<const Step> steps(double lower);

/// (1 - r t)^(-1/2) for |t| <= 1 by a polynomial of degree 8, Chebyshev's expansion cut off, in
/// three products (Sastre 2018):
///   y1 = t^2,  y2 = y1 (y1 + a t),
///   scale (y2 + b1 y1 + b2 t) (y2 + b3 y1) + d2 y2 + d1 y1 + d0 t + c.
struct InverseSquareRoot {
  double a, b1, b2, b3, scale, d2, d1, d0, c;
  double defect;  // bounds |1 - (1 - r t) times the square of that|
};

/// For r from octic_from to 0.6; below that, too, but not more accurate.
inline constexpr double octic_from = 0.05;
InverseSquareRoot inverse_square_root(double r);

}  // namespace polar_plan

// ---- The functions

enum class PolarMethod { zero, gram, polynomial, newton, qr, svd };

/// What was done for a matrix, and how well.
struct PolarReport {
  PolarMethod method = PolarMethod::zero;
  int steps = 0;        // products with a polynomial, and Newton steps
  index_t rank = 0;     // singular values above the cutoff
  double residual = 0;  // ||I - G||_F / sqrt(r), or ||G - G^2||_F / sqrt(rank) for lesser rank
  bool converged = true;
};

struct PolarOptions {
  /// On the residual; 0: polar_tolerance().
  double tolerance = 0;
  bool always_svd = false;
  bool check_finite = true;
};

/// The default: (8 sqrt(r) + 2 sqrt(k)) u, r the shorter side and k the roundings that a sum along
/// the longer one passes through (product_roundings). Rounding leaves a tenth to a fourth of that.
double polar_tolerance(DType dtype, index_t rows, index_t cols);

/// X = U P (right) or P U (left). U has x's shape; P, which may be absent (null data), is Hermitian
/// of the order of that side. One report for each matrix. Outputs may overlap x. Uses up to
/// num_threads() threads; scratch memory: 2 (m n) + 4 min(m, n)^2 elements of the precision
/// computed in for each matrix at work, and more where an SVD decides.
Status polar(const ArrayRef& x, const ArrayRef& u, const ArrayRef& p, Side side,
             const PolarOptions& options, std::vector<PolarReport>& reports);

/// The sign of Hermitian matrices: its zero eigenvalues go to 0. Takes (A + A^H) / 2.
Status matrix_sign(const ArrayRef& a, const ArrayRef& out, const PolarOptions& options,
                   std::vector<PolarReport>& reports);

enum class ClipKind { hard, soft };
enum class ClipMethod { unchanged, gram, eigenvectors, svd };

struct ClipReport {
  ClipMethod method = ClipMethod::unchanged;
  /// ||(G - K)(c^2 I - K)||_F (hard) or ||(c^2 I + G) K - c^2 G||_F (soft) over
  /// sqrt(r) c^2 max(c, sigma_1)^2, G and K the Gram matrices of input and result: what the result
  /// must satisfy, relative.
  double residual = 0;
  bool converged = true;
};

/// Singular values sigma to min(sigma, c) (hard) or sigma / sqrt(1 + sigma^2 / c^2) (soft), c > 0.
/// Hard: a matrix whose largest one is at most c up to rounding is returned bit for bit.
Status spectral_clip(const ArrayRef& x, const ArrayRef& out, double c, ClipKind kind,
                     const PolarOptions& options, std::vector<ClipReport>& reports);

}  // namespace gramian
