// Newton-Schulz iteration for the polar factor U V^H of X = U S V^H.
//
//   X <- X / s;   for each row (a, b, c):   A = X X^H,   X <- a X + (b A + c A^2) X
//
// A step maps every singular value x to a x + b x^3 + c x^5 and leaves U and V alone. The Gram
// form (Zhang, Amsel, Chen, Dao 2026) iterates on R = X X^H and on the product Q of the steps'
// polynomials, both m x m, and touches X once at the end and once at every restart.
//
// Scaling. X is first multiplied by a power of two that brings its largest entry into [1/2, 1):
// exact, so that scaling the input by a power of two changes no bit of the result, and no norm
// can overflow. The division by s is folded into the first row: (a/s, b/s^3, c/s^5).
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "gramian/array_ref.hpp"
#include "gramian/coefficients.hpp"
#include "gramian/status.hpp"

namespace gramian {

enum class Normalization {
  frobenius,  // s = ||X||_F
  schatten,   // s = ||(X X^H)^2||_F^(1/4), the Schatten-8 norm: sigma_1 <= s <= rank^(1/8) sigma_1
  bound,      // s given
};

enum class NewtonSchulzMethod { standard, gram };

/// What is decided before the numbers are seen: it depends on shape, rows and precision only.
struct NewtonSchulzPlan {
  NewtonSchulzMethod method = NewtonSchulzMethod::standard;
  std::vector<int> restarts;  // of the Gram form: step indices before which X <- Q X
};

/// What the choice of a method rests on, besides shape and rows.
struct NewtonSchulzModel {
  double delta;           // eigenvalue error of a fresh Gram matrix, relative to its norm
  double accepted_error;  // the Gram form is taken while its modelled worst error stays under this
  double hermitian_cost;  // of a product with a Hermitian result, relative to a full one
};
NewtonSchulzPlan plan_newton_schulz(index_t rows, index_t cols, std::span<const Row> table,
                                    const NewtonSchulzModel& model,
                                    std::optional<NewtonSchulzMethod> wanted = std::nullopt);

/// The cheaper method whose modelled rounding error is acceptable; with `wanted`, that method (the
/// Gram form then gets as many restarts as accuracy asks for). `unit_roundoff` is that of the
/// precision computed in.
NewtonSchulzPlan plan_newton_schulz(index_t rows, index_t cols, std::span<const Row> table,
                                    double unit_roundoff,
                                    std::optional<NewtonSchulzMethod> wanted = std::nullopt);

struct NewtonSchulzOptions {
  std::vector<Row> table;  // one row per step
  Normalization normalization = Normalization::schatten;
  double bound = 1.0;  // s, for Normalization::bound
  NewtonSchulzPlan plan;
  bool double_precision = false;  // compute in float64/complex128, whatever the input
  bool check_finite = true;
};

/// Per-matrix figures, each an array of the batch's size or absent (null data): float64 for
/// float64 and complex128 input, else float32.
struct NewtonSchulzInfo {
  ArrayRef residual;    // ||I - G||_F / sqrt(r), G the Gram matrix of the result's shorter side r
  ArrayRef norm_bound;  // s, on the scale of the input
};

/// out <- the iterate after all steps, for each matrix of the batch on its own. out has x's shape
/// and dtype; it may overlap x in any way. A zero matrix gives zero; without check_finite a matrix
/// with NaN or infinity gives NaN, and the others are not touched by it.
/// Uses up to num_threads() threads. Scratch memory, in elements of the precision computed in and
/// with sides m <= n: 3 m^2 in the standard form, 4 m^2 in the Gram form, m n more where out cannot
/// hold the iterate (another type, or neither rows nor columns adjacent), and packing buffers of
/// about 512 m and 192 m per thread. An out that overlaps x in another layout costs a copy of x.
Status newton_schulz(const ArrayRef& x, const ArrayRef& out, const NewtonSchulzOptions& options,
                     const NewtonSchulzInfo& info = {});

/// out <- the derivative of that map at x in the direction given; or, `adjoint`, the gradient by x
/// of a function whose gradient by the result is `direction`. All of one shape and dtype; out
/// overlaps neither. It is computed in the input's precision at least. Nothing is checked: NaN or
/// infinity in a matrix or its direction gives NaN, and a zero matrix, where the normalized map
/// jumps, gives 0. Multiply-adds, for sides m <= n, T steps in K segments (T in the standard form):
/// ((4.5 K - 1) n/m + 6 T - 4.5 K) m^3, and (n/m + 1/2) m^3 for the Schatten norm. Scratch
/// memory: 3 m n and 5 m^2, 9 m^2 in the Gram form.
Status newton_schulz_derivative(const ArrayRef& x, const ArrayRef& direction, const ArrayRef& out,
                                const NewtonSchulzOptions& options, bool adjoint);

}  // namespace gramian
