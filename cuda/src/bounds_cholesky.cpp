#include "bounds_cholesky.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <vector>

#include "cusolver.hpp"
#include "gramian/tridiagonal.hpp"
#include "lanczos.hpp"

namespace gramian::cuda {

namespace {

/// Steps before the first look at the coefficients: each look waits for the device.
constexpr index_t first_look = 24;

template <class T>
class Factorization {
 public:
  Factorization(const Queue& queue, const GramSquares& squares, index_t b, const detail::Goal& goal,
                std::uint64_t seed, SquaredBounds<T>& bounds)
      : queue_(queue),
        squares_(squares),
        room_(squares.lanczos()),
        m_(squares.m()),
        goal_(goal),
        bounds_(bounds),
        g_(squares.gram_of(b)),
        memory_{g_, room_.basis, room_.coefficients, room_.parts} {
    lanczos_start(queue_, storage, m_, seed, memory_);
  }

  std::optional<int> run() {
    for (const double stricter : {1.0, 0x1p-10}) {
      if (!advance(tolerance() * stricter)) return {};
      use_ritz_vector();
      // Above the trace nothing is left to prove.
      const double s = std::min(wanted(), 2 * bounds_.trace());
      if (proves(std::max(s, bounds_.estimate() * (1 + least_distance()))))
        return static_cast<int>(steps_);
      if (exhausted_) return {};
    }
    return {};
  }

 private:
  static constexpr Storage storage = is_complex_v<T> ? Storage::complex128 : Storage::float64;

  bool advance(double tolerance) {
    while (steps_ < room_.most_steps) {
      const index_t until = std::min(
          room_.most_steps, steps_ + std::max<index_t>(steps_ == 0 ? first_look : 8, steps_ / 8));
      for (; steps_ < until; ++steps_) lanczos_step(queue_, storage, m_, steps_, memory_);
      if (settled(tolerance)) return true;
    }
    return false;
  }

  bool settled(double tolerance) {
    const auto pairs = fetch(queue_, room_.coefficients, 2 * steps_);
    std::vector<double> a;
    std::vector<double> b;
    double size = 0;
    bool invariant = false;
    for (index_t j = 0; j < steps_ && !invariant; ++j) {
      a.push_back(pairs[static_cast<std::size_t>(2 * j)]);
      b.push_back(pairs[static_cast<std::size_t>(2 * j + 1)]);
      size = std::max(size, std::abs(a.back()) + b.back());
      // What comes after means nothing. Negated, so that NaN ends it too.
      invariant = !(b.back() > 0x1p-48 * size);
    }
    y_.resize(a.size());
    std::vector<double> pivots(a.size());
    const bool close = detail::ritz_settled({a.data(), b.data(), static_cast<index_t>(a.size())},
                                            b.back(), tolerance, y_.data(), pivots.data(), theta_);
    exhausted_ = invariant || steps_ == room_.most_steps;
    return close || exhausted_;
  }

  void use_ritz_vector() {
    const auto count = static_cast<index_t>(y_.size());
    check(cudaMemcpyAsync(room_.y, y_.data(), y_.size() * sizeof(double), cudaMemcpyHostToDevice,
                          queue_.stream),
          "copying a Ritz vector's coefficients");
    Matrices v = room_.basis;
    v.data = static_cast<T*>(v.data) + (room_.most_steps + 1) * v.ld;
    ritz_vector(queue_, storage, m_, room_.basis, room_.y, count, v.data);
    quotient_parts(queue_, storage, 1, m_, g_, v, nullptr, room_.quotient);
    const index_t blocks = quotient_blocks(m_);
    const auto found = fetch(queue_, room_.quotient, 2 * blocks);
    bounds_.use_quotient(quotient_of(found.data(), blocks));
  }

  /// L L^H = s I - G + error: lambda_1(G) <= s + ||error||.
  bool proves(double s) {
    const Matrices l = squares_.room();
    shifted_triangle(queue_, storage, m_, g_, s, l);
    Cusolver solver(queue_);
    const auto type = is_complex_v<T> ? CUDA_C_64F : CUDA_R_64F;
    if (!solver.cholesky(type, m_, l.data, l.ld, room_.solver, room_.solver_bytes, room_.info))
      return false;
    const NormParts norm = squares_.norm_parts();
    // s I - G - L L^H, of which only the norm is kept.
    const Scalars difference{-1, -1, s};
    float64_product(queue_, storage, 1, m_, m_, l, l, g_, {}, difference, norm,
                    float64_tile(queue_, storage, 1, m_), true);
    const auto squares = fetch(queue_, norm.data, norm.count);
    double sum = 0;
    for (const double part : squares) sum += part;
    const double upper = upper_by_factor<T>(s, sum, m_);
    if (!std::isfinite(upper)) return false;
    bounds_.use_upper(upper);
    return upper <= s * (1 + factor_error<T>(m_) + 64 * rounding::u);
  }

  /// The s whose success would meet the goal: what proves() and the bounds do to s, undone, with
  /// some ulps more than their roundings outwards.
  double wanted() const {
    const double lower = std::max(bounds_.lower(), 0.0);
    const double upper = goal_.upper(rounding::reduce(std::sqrt(lower)));
    return (upper * upper * (1 - 64 * rounding::u) - bounds_.error()) / (1 + factor_error<T>(m_));
  }

  /// How far s must be above lambda_1(G) for the factorization to run to its end, in practice.
  double least_distance() const { return 8 * static_cast<double>(m_ + 8) * rounding::u; }

  /// Accuracy that lambda_1's estimate needs, so that s lies above lambda_1.
  double tolerance() const {
    const double slack =
        2 * (goal_.rtol - (goal_.single ? 0x1p-21 : 0.0)) - 4 * factor_error<T>(m_);
    return std::clamp(slack / 4, least_distance(), 0.25);
  }

  const Queue& queue_;
  const GramSquares& squares_;
  const LanczosRoom& room_;
  index_t m_;
  const detail::Goal& goal_;
  SquaredBounds<T>& bounds_;
  Matrices g_;
  LanczosMemory memory_;
  index_t steps_ = 0;
  std::vector<double> y_;
  double theta_ = 0;
  bool exhausted_ = false;  // more steps would tell nothing new
};

}  // namespace

template <class T>
std::optional<int> prove_by_factorization(const Queue& queue, const GramSquares& squares, index_t b,
                                          const detail::Goal& goal, std::uint64_t seed,
                                          SquaredBounds<T>& bounds) {
  return Factorization<T>(queue, squares, b, goal, seed, bounds).run();
}

#define GRAMIAN_DEFINE_PROOF(T)                                                                    \
  template std::optional<int> prove_by_factorization<T>(const Queue&, const GramSquares&, index_t, \
                                                        const detail::Goal&, std::uint64_t,        \
                                                        SquaredBounds<T>&);

GRAMIAN_DEFINE_PROOF(double)
GRAMIAN_DEFINE_PROOF(std::complex<double>)

}  // namespace gramian::cuda
