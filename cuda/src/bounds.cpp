// Bounds on the spectral norm by squaring: the Gram matrix and its squares by GeneralProducts,
// their norms and traces by passes of their own; the proof, from those few numbers, on the host.
#include "gramian/cuda/bounds.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "bounds_passes.hpp"
#include "carver.hpp"
#include "cublas.hpp"
#include "general_products.hpp"
#include "gramian/bracket_figures.hpp"

namespace gramian::cuda {

namespace {

using detail::Proved;
using rounding::accumulated;
using rounding::raise;
using rounding::reduce;

/// Beyond, m^(2^-t) - 1, the most that further squares could gain, is below every unit roundoff.
constexpr int most_squarings = 60;
/// Squares before the first look at the figures, and from one look to the next: each look waits.
constexpr int first_look = 8;
constexpr int look_every = 2;

/// The batch, scaled and converted, its Gram matrices and their squares.
class Squaring {
 public:
  /// `kept`: Gram matrices stay, beside the two buffers that squares need.
  Squaring(const Queue& queue, const ArrayRef& a, Storage storage, int steps, bool kept)
      : queue_(queue), a_(a), storage_(storage), steps_(steps), kept_(kept) {
    const index_t rows = a.shape[a.shape.size() - 2];
    const index_t cols = a.shape.back();
    m_ = std::min(rows, cols);
    n_ = std::max(rows, cols);
    batch_ = batch_size(a);
    entrance_parts_ = batch_ == 0 || m_ == 0 ? 0 : entrance_parts(rows, cols);
  }

  bool empty() const { return batch_ == 0 || m_ == 0; }
  index_t batch() const { return batch_; }
  index_t m() const { return m_; }
  index_t n() const { return n_; }

  void carve(Carver& carver) {
    // The strictest alignment comes first.
    cublas_bytes_ = cublas_workspace_bytes(queue_.device);
    cublas_memory_ = carver.take<std::byte>(static_cast<index_t>(cublas_bytes_));
    entrance_.parts = carver.take<double>(batch_ * entrance_parts_);
    entrance_.exponent = carver.take<int>(batch_);
    entrance_.norm = carver.take<double>(batch_);
    scalars_ = carver.take<double>(3 * batch_);
    norm_.count = GeneralProducts::norm_count(storage_, m_);
    norm_.data = carver.take<double>(batch_ * norm_.count);
    figures_ = carver.take<SquareFigures>(batch_ * std::max(steps_, 1));
    parts_ = kept_ ? carver.take<double>(2 * batch_ * quotient_blocks(m_)) : nullptr;
    x_ = take_matrices(carver, n_);
    for (int i = 0; i < (kept_ ? 3 : 2); ++i) squares_[i] = take_matrices(carver, m_);
  }

  void enter() {
    measure(queue_, a_, entrance_);
    cuda::enter(queue_, a_, storage_, entrance_, x_);
    products_.emplace(queue_, storage_, false, batch_, m_, n_, cublas_memory_, cublas_bytes_,
                      nullptr);
  }

  void gram() {
    products_->gram(x_, squares_[0], {}, norm_);
    follow(queue_, storage_, batch_, m_, squares_[0], norm_, figures_, scalars_);
    current_ = squares_[0];
    next_ = squares_[1];
    spare_ = kept_ ? squares_[2] : squares_[0];
    done_ = 0;
  }

  /// H_t to H_{t+1}.
  void square() {
    products_->product(current_, current_, {}, next_, {0, 0, 0, scalars_}, norm_);
    ++done_;
    follow(queue_, storage_, batch_, m_, next_, norm_, figures_ + done_ * batch_, scalars_);
    std::swap(current_, next_);
    if (done_ == 1) next_ = spare_;
  }

  void quotient() {
    quotient_parts(queue_, storage_, batch_, m_, squares_[0], current_, figures_ + done_ * batch_,
                   parts_);
  }

  int done() const { return done_; }
  const Entrance& entrance() const { return entrance_; }
  const SquareFigures* figures() const { return figures_; }
  const double* parts() const { return parts_; }

  template <class V>
  std::vector<V> fetch(const V* from, index_t count) const {
    std::vector<V> to(static_cast<std::size_t>(count));
    check(cudaMemcpyAsync(to.data(), from, to.size() * sizeof(V), cudaMemcpyDeviceToHost,
                          queue_.stream),
          "reading the figures of the bounds");
    check(cudaStreamSynchronize(queue_.stream), "reading the figures of the bounds");
    return to;
  }

 private:
  Matrices take_matrices(Carver& carver, index_t cols) const {
    const index_t ld = GeneralProducts::leading(storage_, cols);
    return {carver.take<std::byte>(batch_ * m_ * ld * element_size(storage_)), ld, m_ * ld};
  }

  Queue queue_;
  const ArrayRef& a_;
  Storage storage_;
  int steps_;  // iterates whose figures are kept
  bool kept_;
  index_t m_, n_, batch_, entrance_parts_;
  std::size_t cublas_bytes_ = 0;
  void* cublas_memory_ = nullptr;
  Entrance entrance_{};
  double* scalars_ = nullptr;
  NormParts norm_;
  SquareFigures* figures_ = nullptr;
  double* parts_ = nullptr;
  Matrices x_, squares_[3], current_, next_, spare_;
  std::optional<GeneralProducts> products_;
  int done_ = 0;
};

/// As accumulated(), for products by cuBLAS (docs/bounds.md): sums in any order, roundings that may
/// be directed, which doubles the unit, and complex products of three multiplications.
template <class T>
double multiplied(index_t terms) {
  return is_complex_v<T> ? 2.67 * accumulated<T>(static_cast<double>(terms) + 8)
                         : 2 * accumulated<T>(static_cast<double>(terms) + 1);
}

/// The proof of docs/bounds.md from figures of the iterates.
template <class T>
class Proof {
 public:
  Proof(index_t m, index_t n)
      : m_(static_cast<double>(m)),
        gram_(multiplied<T>(n)),
        product_(multiplied<T>(m)),
        sum_(1 + accumulated<double>(m_ * m_ * 0x1p-18 + m_ * 0x1p-10 + 128)) {}

  double norm(const SquareFigures& figures) const { return std::sqrt(figures.squares) * sum_; }

  /// How far tr(H^2) / tr(H) <= lambda_1(H) <= ||H||_F leave lambda_1(G) open.
  double spread(const SquareFigures& figures, int t) const {
    return std::ldexp(figures.trace / norm(figures) - 1, -t);
  }

  /// figures(t) for t = 0 .. squarings; quotient: v^H G v / v^H v as computed.
  template <class Figures>
  Proved operator()(Figures&& figures, int squarings, double quotient) const {
    const SquareFigures g = figures(0);
    const double error = gram_ * g.trace;
    // What holds before anything is iterated: an entry of the diagonal, and the trace.
    double lower = g.top - error;
    double estimate = g.top;
    double upper = g.trace * (1 + accumulated<double>(m_)) + error;
    // ||H_t||^2 <= 4^e ||H_{t+1}|| + rounding ||H_t||_F^2, from the last back to the first.
    double top = norm(figures(squarings));
    for (int t = squarings; t-- > 0;) {
      const SquareFigures h = figures(t);
      const double size = norm(h);
      top = raise(std::sqrt(
          raise(std::ldexp(top, 2 * static_cast<int>(h.exponent)) + product_ * size * size)));
    }
    upper = std::min(upper, raise(top + error));
    if (quotient > estimate) {
      estimate = quotient;
      const double rounded = accumulated<T>(3 * m_ + 8) * g.trace;
      lower = std::max(lower, reduce(quotient - rounded) - error);
    }
    lower = std::max(lower, 0.0);
    estimate = std::clamp(estimate, lower, upper);
    return {reduce(std::sqrt(lower)), raise(std::sqrt(upper)), std::sqrt(estimate),
            std::max(1.0, g.trace / estimate), squarings};
  }

 private:
  double m_, gram_, product_, sum_;
};

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

template <class T, class R>
Status bracket(const Queue& queue, Squaring& squaring, const BoundsOptions& options, Bracket& out) {
  const index_t batch = squaring.batch();
  const Proof<T> proof(squaring.m(), squaring.n());
  squaring.enter();
  const std::vector<double> norm = squaring.fetch(squaring.entrance().norm, batch);
  const auto finite = [&](index_t b) { return std::isfinite(norm[static_cast<std::size_t>(b)]); };
  for (index_t b = 0; options.check_finite && b < batch; ++b)
    if (!finite(b)) return Status::not_finite;
  const std::vector<int> exponent = squaring.fetch(squaring.entrance().exponent, batch);
  const auto trivial = [&](index_t b) {
    return !finite(b) || norm[static_cast<std::size_t>(b)] == 0;
  };

  squaring.gram();
  // Of the gap between the squares of the bounds, 2 rtol, half may be left open by the squares, and
  // half is for rounding.
  const double slack = std::max(options.rtol - (std::is_same_v<R, float> ? 0x1p-21 : 0.0), 0x1p-48);
  for (int t = 0; t < most_squarings; ++t) {
    const bool look = t >= first_look && (t - first_look) % look_every == 0;
    if (look || (t == 0 && squaring.m() == 1)) {
      const auto now = squaring.fetch(squaring.figures() + t * batch, batch);
      bool settled = true;
      for (index_t b = 0; b < batch && settled; ++b)
        settled = trivial(b) || proof.spread(now[static_cast<std::size_t>(b)], t) <= slack;
      if (settled) break;
    }
    squaring.square();
  }
  const int squarings = squaring.done();
  squaring.quotient();
  const auto figures = squaring.fetch(squaring.figures(), batch * (squarings + 1));
  const index_t blocks = quotient_blocks(squaring.m());
  const auto parts = squaring.fetch(squaring.parts(), 2 * batch * blocks);

  Results<R> results;
  for (index_t b = 0; b < batch; ++b) {
    const double n = norm[static_cast<std::size_t>(b)];
    Proved proved{n, n, n, n, 0};
    if (!trivial(b)) {
      double above = 0;
      double below = 0;
      for (index_t i = 0; i < blocks; ++i) {
        above += parts[static_cast<std::size_t>(2 * (b * blocks + i))];
        below += parts[static_cast<std::size_t>(2 * (b * blocks + i) + 1)];
      }
      proved = proof([&](int t) { return figures[static_cast<std::size_t>(t * batch + b)]; },
                     squarings, above / below);
    }
    results.push_back(
        detail::returned<R>(proved, exponent[static_cast<std::size_t>(b)], options.rtol));
  }
  out.iterations = squarings;
  deliver<R>(queue, results, out);
  return Status::ok;
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
  Squaring squaring(queue, a, storage_of(a.dtype, is_double(a.dtype)),
                    std::min(steps, most_squarings), false);
  if (squaring.empty()) return 0;
  return count_bytes([&](Carver& carver) { squaring.carve(carver); });
}

Status gram_bound(const Queue& queue, const ArrayRef& a, int steps, bool check_finite,
                  const ArrayRef& bound, Workspace workspace) {
  const DeviceGuard guard(queue.device);
  steps = std::min(steps, most_squarings);
  Squaring squaring(queue, a, storage_of(a.dtype, is_double(a.dtype)), steps, false);
  if (squaring.empty()) {
    const auto bytes =
        static_cast<std::size_t>(squaring.batch() * gramian::element_size(bound.dtype));
    if (bytes > 0)
      check(cudaMemsetAsync(bound.data, 0, bytes, queue.stream), "clearing the bounds");
    return Status::ok;
  }
  Carver carver(workspace.take<std::byte>(0));
  squaring.carve(carver);
  squaring.enter();
  if (check_finite)
    for (const double norm : squaring.fetch(squaring.entrance().norm, squaring.batch()))
      if (!std::isfinite(norm)) return Status::not_finite;
  if (steps > 0) squaring.gram();
  while (squaring.done() + 1 < steps) squaring.square();
  finish_gram_bound(queue, squaring.batch(), steps, squaring.figures(), squaring.entrance(), bound);
  return Status::ok;
}

std::size_t spectral_norm_bounds_workspace(const Queue& queue, const ArrayRef& a) {
  const DeviceGuard guard(queue.device);
  Squaring squaring(queue, a, storage_of(a.dtype, true), most_squarings + 1, true);
  if (squaring.empty()) return 0;
  return count_bytes([&](Carver& carver) { squaring.carve(carver); });
}

Status spectral_norm_bounds(const Queue& queue, const ArrayRef& a, const BoundsOptions& options,
                            Bracket& out, Workspace workspace) {
  const DeviceGuard guard(queue.device);
  Squaring squaring(queue, a, storage_of(a.dtype, true), most_squarings + 1, true);
  const bool single = !is_double(a.dtype);
  if (squaring.empty())
    return single ? bracket_of_nothing<float>(queue, squaring.batch(), options.rtol, out)
                  : bracket_of_nothing<double>(queue, squaring.batch(), options.rtol, out);
  refuse_emulation();
  Carver carver(workspace.take<std::byte>(0));
  squaring.carve(carver);
  if (is_complex(a.dtype))
    return single ? bracket<std::complex<double>, float>(queue, squaring, options, out)
                  : bracket<std::complex<double>, double>(queue, squaring, options, out);
  return single ? bracket<double, float>(queue, squaring, options, out)
                : bracket<double, double>(queue, squaring, options, out);
}

}  // namespace gramian::cuda
