// Bounds on the spectral norm: by squaring, or by a verified Cholesky factorization where that is
// less work. The proof, from a few numbers, on the host.
#include "gramian/cuda/bounds.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "bounds_cholesky.hpp"
#include "bounds_proof.hpp"
#include "cusolver.hpp"
#include "device_properties.hpp"
#include "gram_squares.hpp"

namespace gramian::cuda {

namespace {

/// Squares before the first look at the figures, and from one look to the next: each look waits.
/// A Gaussian matrix takes two more than the first, or four.
int first_look(double rtol) { return std::clamp(static_cast<int>(-std::log2(rtol) / 2) - 2, 2, 8); }
constexpr int look_every = 2;

/// From this side on a factorization is less work than squaring
/// (docs/notes/float64_product_gpu.md).
constexpr index_t factorize_from = 2560;

template <class R>
using Results = std::vector<detail::BracketFigures<R>>;

/// Writes the arrays that there are, and waits until that is done.
template <class R>
void deliver(const Queue& queue, const Results<R>& results, const Bracket& out) {
  std::vector<R> column(results.size());
  const auto send = [&](R detail::BracketFigures<R>::* figure, const ArrayRef& to) {
    if (!to.data || column.empty()) return;
    std::transform(results.begin(), results.end(), column.begin(),
                   [&](const auto& result) { return result.*figure; });
    check(cudaMemcpyAsync(to.data, column.data(), column.size() * sizeof(R), cudaMemcpyHostToDevice,
                          queue.stream),
          "writing the bounds");
    check(cudaStreamSynchronize(queue.stream), "writing the bounds");
  };
  send(&detail::BracketFigures<R>::lower, out.lower);
  send(&detail::BracketFigures<R>::upper, out.upper);
  send(&detail::BracketFigures<R>::converged, out.converged);
  send(&detail::BracketFigures<R>::estimate, out.estimate);
  send(&detail::BracketFigures<R>::stable_rank, out.stable_rank);
}

template <class R>
Status bracket_of_nothing(const Queue& queue, index_t batch, double rtol, const Bracket& out) {
  deliver<R>(queue, Results<R>(static_cast<std::size_t>(batch), detail::returned<R>({}, 0, rtol)),
             out);
  return Status::ok;
}

/// The brackets of a batch.
template <class T, class R>
class Brackets {
 public:
  Brackets(const Queue& queue, GramSquares& squares, const BoundsOptions& options)
      : queue_(queue), squares_(squares), options_(options), m_(squares.m()), n_(squares.n()) {}

  Status run(Bracket& out) {
    squares_.enter();
    norm_ = fetch(queue_, squares_.entrance().norm, squares_.batch());
    for (index_t b = 0; options_.check_finite && b < squares_.batch(); ++b)
      if (!std::isfinite(norm_[at(b)])) return Status::not_finite;
    exponent_ = fetch(queue_, squares_.entrance().exponent, squares_.batch());
    squares_.gram();
    std::vector<detail::Proved> proved;
    if (out.method == BoundsMethod::cholesky) proved = by_factorization();
    if (proved.empty()) {
      out.method = BoundsMethod::gram;
      proved = by_squaring();
    }
    Results<R> results;
    for (index_t b = 0; b < squares_.batch(); ++b) {
      const detail::Proved& found = proved[at(b)];
      results.push_back(detail::returned<R>(found, exponent_[at(b)], options_.rtol));
      out.iterations = std::max(out.iterations, found.iterations);
    }
    deliver<R>(queue_, results, out);
    return Status::ok;
  }

 private:
  static std::size_t at(index_t b) { return static_cast<std::size_t>(b); }

  /// Zero, or not finite.
  bool trivial(index_t b) const { return !std::isfinite(norm_[at(b)]) || norm_[at(b)] == 0; }
  detail::Proved itself(index_t b) const {
    const double n = norm_[at(b)];
    return {n, n, n, n, 0};
  }

  /// Nothing if any matrix resists: all are squared then.
  std::vector<detail::Proved> by_factorization() {
    std::vector<detail::Proved> all;
    const auto figures = fetch(queue_, squares_.figures(), squares_.batch());
    for (index_t b = 0; b < squares_.batch(); ++b) {
      if (trivial(b)) {
        all.push_back(itself(b));
        continue;
      }
      const detail::Goal goal{options_.rtol, exponent_[at(b)], std::is_same_v<R, float>};
      SquaredBounds<T> bounds(figures[at(b)], m_, n_);
      std::optional<int> steps;
      try {
        steps = prove_by_factorization<T>(queue_, squares_, b, goal, options_.seed, bounds);
      } catch (const SolverError&) {
        if (options_.method != BoundsMethod::automatic) throw;
      }
      if (!steps) return {};
      all.push_back(bounds.proved(*steps));
    }
    return all;
  }

  std::vector<detail::Proved> by_squaring() {
    const index_t batch = squares_.batch();
    // Of the gap between the squares of the bounds, 2 rtol, half may be left open by the squares,
    // and half is for rounding.
    const double slack =
        std::max(options_.rtol - (std::is_same_v<R, float> ? 0x1p-21 : 0.0), 0x1p-48);
    std::vector<int> squarings;
    const bool small = squares_.are_small();
    if (small) {
      squares_.square_small(slack);
      squarings = fetch(queue_, squares_.squarings(), batch);
    } else {
      squarings.assign(at(batch), square_together(slack));
      squares_.quotient();
    }
    const int most = *std::max_element(squarings.begin(), squarings.end());
    const auto figures = fetch(queue_, squares_.figures(), batch * (most + 1));
    const index_t blocks = small ? 1 : quotient_blocks(m_);
    const auto parts = fetch(queue_, squares_.parts(), 2 * batch * blocks);
    std::vector<detail::Proved> all;
    for (index_t b = 0; b < batch; ++b) {
      if (trivial(b)) {
        all.push_back(itself(b));
        continue;
      }
      const auto figure = [&](int t) { return figures[at(t * batch + b)]; };
      const int count = squarings[at(b)];
      SquaredBounds<T> bounds(figure(0), m_, n_);
      bounds.use_upper(upper_by_squares<T>(figure, m_, count));
      bounds.use_quotient(quotient_of(parts.data() + 2 * b * blocks, blocks));
      all.push_back(bounds.proved(count));
    }
    return all;
  }

  /// How often all matrices were squared.
  int square_together(double slack) {
    const index_t batch = squares_.batch();
    const int first = first_look(options_.rtol);
    for (int t = 0; t < most_squarings; ++t) {
      const bool look = t >= first && (t - first) % look_every == 0;
      if (look) {
        const auto now = fetch(queue_, squares_.figures() + t * batch, batch);
        bool settled = true;
        for (index_t b = 0; b < batch && settled; ++b)
          settled = trivial(b) || spread(now[at(b)], m_, t) <= slack;
        if (settled) break;
      }
      squares_.square();
    }
    return squares_.done();
  }

  const Queue& queue_;
  GramSquares& squares_;
  const BoundsOptions& options_;
  index_t m_, n_;
  std::vector<double> norm_;
  std::vector<int> exponent_;
};

/// Where float64 costs no more than float32, float32 gains by it.
Storage gram_bound_storage(const Queue& queue, DType dtype) {
  return storage_of(dtype, is_double(dtype) || float64_is_fast(queue.device));
}

BoundsMethod method_for(const Queue& queue, const ArrayRef& a, BoundsMethod method) {
  if (method == BoundsMethod::eigh) throw Error("there is no method eigh on a GPU");
  if (method != BoundsMethod::automatic) return method;
  const index_t m = std::min(a.shape[a.shape.size() - 2], a.shape.back());
  return m >= factorize_from && has_cusolver(queue) ? BoundsMethod::cholesky : BoundsMethod::gram;
}

GramSquares certified(const Queue& queue, const ArrayRef& a, BoundsMethod method) {
  return {queue,
          a,
          storage_of(a.dtype, true),
          most_squarings + 1,
          true,
          method == BoundsMethod::cholesky};
}

template <class F>
std::size_t count_bytes(F&& carve) {
  Carver carver(nullptr);
  carve(carver);
  return carver.used();
}

}  // namespace

std::size_t gram_bound_workspace(const Queue& queue, const ArrayRef& a, int steps) {
  const DeviceGuard guard(queue.device);
  GramSquares squares(queue, a, gram_bound_storage(queue, a.dtype), std::min(steps, most_squarings),
                      false);
  if (squares.empty()) return 0;
  return count_bytes([&](Carver& carver) { squares.carve(carver); });
}

Status gram_bound(const Queue& queue, const ArrayRef& a, int steps, bool check_finite,
                  const ArrayRef& bound, Workspace workspace) {
  const DeviceGuard guard(queue.device);
  steps = std::min(steps, most_squarings);
  GramSquares squares(queue, a, gram_bound_storage(queue, a.dtype), steps, false);
  if (squares.empty()) {
    const auto bytes =
        static_cast<std::size_t>(squares.batch() * gramian::element_size(bound.dtype));
    if (bytes > 0)
      check(cudaMemsetAsync(bound.data, 0, bytes, queue.stream), "clearing the bounds");
    return Status::ok;
  }
  Carver carver(workspace.take<std::byte>(0));
  squares.carve(carver);
  squares.enter();
  if (check_finite)
    for (const double norm : fetch(queue, squares.entrance().norm, squares.batch()))
      if (!std::isfinite(norm)) return Status::not_finite;
  if (steps > 0) squares.gram();
  if (steps > 1 && squares.are_small())
    squares.square_small(-std::numeric_limits<double>::infinity());
  else
    while (squares.done() + 1 < steps) squares.square();
  finish_gram_bound(queue, squares.batch(), steps, squares.figures(), squares.entrance(), bound);
  return Status::ok;
}

std::size_t spectral_norm_bounds_workspace(const Queue& queue, const ArrayRef& a,
                                           BoundsMethod method) {
  const DeviceGuard guard(queue.device);
  GramSquares squares = certified(queue, a, method_for(queue, a, method));
  if (squares.empty()) return 0;
  return count_bytes([&](Carver& carver) { squares.carve(carver); });
}

Status spectral_norm_bounds(const Queue& queue, const ArrayRef& a, const BoundsOptions& options,
                            Bracket& out, Workspace workspace) {
  const DeviceGuard guard(queue.device);
  out.method = method_for(queue, a, options.method);
  GramSquares squares = certified(queue, a, out.method);
  const bool single = !is_double(a.dtype);
  if (squares.empty())
    return single ? bracket_of_nothing<float>(queue, squares.batch(), options.rtol, out)
                  : bracket_of_nothing<double>(queue, squares.batch(), options.rtol, out);
  Carver carver(workspace.take<std::byte>(0));
  squares.carve(carver);
  const auto run = [&]<class T, class R>(T, R) {
    return Brackets<T, R>(queue, squares, options).run(out);
  };
  if (is_complex(a.dtype))
    return single ? run(std::complex<double>{}, float{}) : run(std::complex<double>{}, double{});
  return single ? run(double{}, float{}) : run(double{}, double{});
}

}  // namespace gramian::cuda
