// inverse_root and sqrt_psd on the GPU: the coupled iteration of gramian/inverse_root.hpp on
// float64_product.
//
// The host queues as many steps as may be needed. Before each of them a kernel looks at ||I - M||_F
// and chooses the row, and products of a matrix that has converged return at once. From its first
// step on M is kept as N = M - I: its norm, which comes with the product, is the error, and the
// subtraction costs nothing.
#include "gramian/cuda/inverse_root.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "carver.hpp"
#include "entrance.hpp"
#include "float64_product.hpp"
#include "inverse_root_control.hpp"
#include "inverse_root_ends.hpp"
#include "inverse_root_small.hpp"

namespace gramian::cuda {

namespace {

constexpr double unit_roundoff = 0x1p-53;

/// What is left after the rows, and after a second table where eigenvalues were smaller than
/// thought.
constexpr int more_steps = 6;

class Call {
 public:
  Call(const Queue& queue, const ArrayRef& a, const ArrayRef* root, const ArrayRef& inverse,
       const RootOptions& options, const InverseRootInfo& info)
      : queue_(queue),
        a_(a),
        root_(root),
        inverse_(inverse),
        options_(options),
        info_(info),
        m_(a.shape.back()),
        batch_(batch_size(a)),
        storage_(storage_of(a.dtype, true)),
        nothing_(batch_ == 0 || m_ == 0) {
    if (nothing_) return;
    const double n = static_cast<double>(m_);
    const bool stored_wide = a.dtype == DType::float64 || a.dtype == DType::complex128;
    // Half precision is served as float32 is.
    const double u = stored_wide ? unit_roundoff : 0x1p-24;
    // In float32 an error of 1e-6 in lambda_1 is below that of the result, for any ridge. Without a
    // ridge less would do, but figures asked for are to change no bit of the result.
    closeness_ = stored_wide ? 2 * u : 0x1p-20;
    cluster_ = stored_wide ? 0x1p-24 : 0x1p-17;
    plan_.p = options.p;
    plan_.ridge = options.ridge;
    plan_.margin = 0x1p-10;
    most_condition_ = 1 / (32 * std::sqrt(n) * unit_roundoff);
    plan_.floor = std::min(0.5 / most_condition_, 0.25);
    plan_.tolerance = options.tol > 0 ? options.tol / 2 * std::sqrt(n) : u * std::sqrt(n) / 2;
    const double ridge = options.ridge / (1 + options.ridge) * (1 - 0x1p-5);
    steps_ = row_count(root_rows(options.p), std::clamp(ridge, plan_.floor, 0.25)) + more_steps;
    tile_ = float64_tile(queue, storage_, batch_, m_);
  }

  std::size_t workspace() {
    if (nothing_) return 0;
    Carver carver(nullptr);
    carve(carver);
    return carver.used();
  }

  Status run(Workspace workspace, RootOutcome& outcome) {
    if (nothing_) {
      for (const ArrayRef* figure : {&info_.residual, &info_.condition, &info_.largest})
        clear(*figure);
      return Status::ok;
    }
    Carver carver(workspace.take<std::byte>(0));
    carve(carver);
    measure(queue_, a_, entrance_);
    if (options_.check_finite && !finite()) return Status::not_finite;
    enter(queue_, a_, storage_, entrance_, buffers_.buffer[given]);
    mirror_lower(queue_, storage_, batch_, m_, buffers_.buffer[given]);
    RootBuffers input;
    input.buffer[0] = buffers_.buffer[given];
    const SpectrumEnds ends(queue_, storage_, batch_, m_);
    ends.run(input, nullptr, nullptr, closeness_, cluster_, least_steps(), ends_);
    begin_root(queue_, storage_, batch_, m_, plan_, ends_.ends, buffers_.buffer[given], rows_,
               states_, flags_, scalars_);
    if (fit_small_roots(queue_.device, storage_, m_))
      small_roots(queue_, storage_, batch_, m_, plan_, rows_, scalars_, steps_,
                  buffers_.buffer[given], buffers_.buffer[0], states_);
    else
      iterate();
    finish(ends);
    if (options_.wait) read(outcome);
    return Status::ok;
  }

 private:
  static constexpr int given = RootBuffers::count - 1;  // the buffer of B

  bool wants_figures() const {
    return info_.residual.data || info_.condition.data || info_.largest.data;
  }
  /// Of Lanczos. The smallest eigenvalue is not asked for where a ridge bounds it, nor worth the
  /// time where steps are cheap.
  int least_steps() const { return options_.ridge > 0 || m_ <= 192 ? 10 : 24; }
  bool measures_residual() const { return wants_figures() || options_.tol > 0; }

  void carve(Carver& carver) {
    entrance_.parts = carver.take<double>(batch_ * entrance_parts(m_, m_));
    entrance_.exponent = carver.take<int>(batch_);
    entrance_.norm = carver.take<double>(batch_);
    const index_t size = element_size(storage_);
    const index_t whole = 16 / size;  // rows begin at multiples of 16 bytes
    const index_t ld = (m_ + whole - 1) / whole * whole;
    for (Matrices& buffer : buffers_.buffer)
      buffer = {carver.take<std::byte>(batch_ * m_ * ld * size), ld, m_ * ld};
    norm_.count = float64_norm_count(m_);
    norm_.data = carver.take<double>(batch_ * norm_.count);
    scalars_ = carver.take<double>(3 * batch_);
    states_ = carver.take<RootState>(batch_);
    flags_.done = carver.take<int>(batch_);
    flags_.closing = carver.take<int>(batch_);
    rows_ = carver.take<RootRows>(1);
    ends_ = SpectrumEnds(queue_, storage_, batch_, m_).take(carver);
  }

  /// c <- scalars(s z, d), where `skipped` is 0.
  void product(int s, int z, int d, int c, const Scalars& scalars, NormParts norm,
               const int* skipped) const {
    const auto& buffer = buffers_.buffer;
    float64_product(queue_, storage_, batch_, m_, m_, buffer[s], buffer[z],
                    d >= 0 ? buffer[d] : Matrices{}, buffer[c], scalars, norm, tile_, false,
                    skipped);
  }

  // Buffers that hold nothing.
  int take() {
    const int i = free_.back();
    free_.pop_back();
    return i;
  }
  void give(int i) {
    if (i != given) free_.push_back(i);
  }

  /// z s^p - I into a new buffer, by squares; gives z back, and s unless it is kept. `shifted`: z
  /// is that much less I.
  int times_power(int z, int s, bool keep, bool shifted, const int* skipped) {
    bool first = true;
    for (int p = plan_.p;; p >>= 1) {
      if (p & 1) {
        const int to = take();
        const bool last = p == 1;
        product(z, s, first && shifted ? s : -1, to, {1, 1, last ? -1.0 : 0.0, nullptr},
                last ? norm_ : NormParts{}, skipped);
        give(z);
        z = to;
        first = false;
      }
      if (p == 1) break;
      const int to = take();
      product(s, s, -1, to, {}, {}, skipped);
      if (!keep) give(s);
      keep = false;
      s = to;
    }
    if (!keep) give(s);
    return z;
  }

  void iterate() {
    free_ = {3, 2, 1, 0};
    int n = given;
    int x = -1;
    for (int step = 0; step < steps_; ++step) {
      const bool first = step == 0;
      // T takes the next free buffer, and the new X the one after it.
      const int t = take();
      const int next_x = first ? t : free_.back();
      if (!first) next_row(queue_, batch_, plan_, rows_, norm_, next_x, states_, flags_, scalars_);
      product(n, n, n, t, {0, 0, 0, scalars_}, {}, flags_.done);
      if (first) {
        x = t;
      } else {
        const int to = take();
        product(x, t, -1, to, {}, {}, flags_.done);
        give(x);
        x = to;
      }
      n = times_power(n, t, first, !first, flags_.closing);
    }
  }

  void finish(const SpectrumEnds& ends) {
    end_steps(queue_, batch_, wants_figures() ? 0 : most_condition_ / 4, states_, flags_);
    ends.run(buffers_, states_, flags_.done, 1.0 / 64, 1.0 / 64, 8, ends_);
    judge_condition(queue_, batch_, plan_.p, most_condition_, ends_.ends, states_, flags_);
    RootBuffers results = buffers_;
    if (root_ || measures_residual()) {
      gather(queue_, storage_, batch_, m_, buffers_, states_, buffers_.buffer[0]);
      for (int i = 0; i < given; ++i) results.buffer[i] = buffers_.buffer[0];
    }
    leave_root(queue_, storage_, m_, results, states_, entrance_.exponent, plan_.p, false,
               inverse_);
    free_ = {3, 2, 1};
    if (root_) {
      product(given, 0, -1, 1, {}, {}, nullptr);
      RootBuffers roots;
      roots.buffer[0] = buffers_.buffer[1];
      leave_root(queue_, storage_, m_, roots, states_, entrance_.exponent, 2, true, *root_);
    }
    if (measures_residual()) {
      times_power(given, 0, true, false, nullptr);
      judge_residual(queue_, batch_, m_, options_.tol, norm_, states_);
      if (wants_figures()) report_figures(queue_, batch_, states_, entrance_.exponent, info_);
    }
  }

  /// Waits for the stream.
  void read(RootOutcome& outcome) const {
    std::vector<RootState> states(static_cast<std::size_t>(batch_));
    check(cudaMemcpyAsync(states.data(), states_, states.size() * sizeof(RootState),
                          cudaMemcpyDeviceToHost, queue_.stream),
          "reading how the iteration ended");
    check(cudaStreamSynchronize(queue_.stream), "reading how the iteration ended");
    for (std::size_t b = 0; b < states.size(); ++b) {
      outcome.steps = std::max(outcome.steps, states[b].steps);
      if (states[b].status == RootStatus::missed) outcome.missed.push_back(static_cast<index_t>(b));
    }
  }

  /// Waits for the stream.
  bool finite() const {
    std::vector<double> parts(static_cast<std::size_t>(batch_ * entrance_parts(m_, m_)));
    check(cudaMemcpyAsync(parts.data(), entrance_.parts, parts.size() * sizeof(double),
                          cudaMemcpyDeviceToHost, queue_.stream),
          "reading whether a is finite");
    check(cudaStreamSynchronize(queue_.stream), "reading whether a is finite");
    return std::all_of(parts.begin(), parts.end(), [](double v) { return std::isfinite(v); });
  }

  void clear(const ArrayRef& figures) const {
    if (!figures.data || batch_ == 0) return;
    const auto bytes = static_cast<std::size_t>(batch_) *
                       static_cast<std::size_t>(gramian::element_size(figures.dtype));
    check(cudaMemsetAsync(figures.data, 0, bytes, queue_.stream), "clearing figures");
  }

  Queue queue_;
  const ArrayRef& a_;
  const ArrayRef* root_;
  const ArrayRef& inverse_;
  const RootOptions& options_;
  const InverseRootInfo& info_;
  index_t m_, batch_;
  Storage storage_;
  bool nothing_;
  double closeness_ = 0;  // of lambda_1
  double cluster_ = 0;
  // Beyond, rounding decides what becomes of the smallest eigenvalues: a singular matrix seems to
  // have some of a few u.
  double most_condition_ = 0;
  RootPlan plan_{};
  int steps_ = 0;
  int tile_ = 0;
  std::vector<int> free_;
  Entrance entrance_{};
  RootBuffers buffers_{};
  NormParts norm_{};
  double* scalars_ = nullptr;
  RootState* states_ = nullptr;
  RootFlags flags_{};
  RootRows* rows_ = nullptr;
  EndsMemory ends_{};
};

}  // namespace

std::size_t inverse_root_workspace(const Queue& queue, const ArrayRef& a, const ArrayRef* root,
                                   const ArrayRef& inverse, const RootOptions& options,
                                   const InverseRootInfo& info) {
  const DeviceGuard guard(queue.device);
  return Call(queue, a, root, inverse, options, info).workspace();
}

Status inverse_root(const Queue& queue, const ArrayRef& a, const ArrayRef* root,
                    const ArrayRef& inverse, const RootOptions& options,
                    const InverseRootInfo& info, Workspace workspace, RootOutcome& outcome) {
  const DeviceGuard guard(queue.device);
  return Call(queue, a, root, inverse, options, info).run(workspace, outcome);
}

}  // namespace gramian::cuda
