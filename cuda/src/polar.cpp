// Functions of singular values on the GPU: which road a call takes, and the memory it needs.
//
//   few rows      one launch: an SVD in the shared memory of a block (polar_small.hpp)
//   otherwise     the iteration of polar_steps.hpp on products in float64
#include "gramian/cuda/polar.hpp"

#include <algorithm>
#include <cmath>

#include "float64_product.hpp"
#include "polar_clip.hpp"
#include "polar_passes.hpp"
#include "polar_problem.hpp"
#include "polar_small.hpp"

namespace gramian::cuda {

namespace {

void transpose(ArrayRef& a) {
  const auto last = a.shape.size() - 1;
  std::swap(a.shape[last - 1], a.shape[last]);
  std::swap(a.strides[last - 1], a.strides[last]);
}

class Call : public PolarProblem {
 public:
  Call(const Queue& queue, const PolarCall& call)
      : PolarProblem(queue, call), x_(call.x), out_(call.out), p_(call.p) {
    // What follows knows x = p u alone.
    if (p_.data && call.side == Side::right) {
      transpose(x_);
      transpose(out_);
      transpose(p_);
    }
    tall_ = x_.shape[x_.shape.size() - 2] > x_.shape.back();
  }

  Status run(Workspace workspace) {
    if (empty_) {
      clear_figures();
      return Status::ok;
    }
    if (const Status status = begin(x_, workspace); status != Status::ok) return status;
    enter(queue_, x_, storage_, entrance_, x_of_[0]);
    factor();
    if (p_.data) hermitian_factor();
    leave(queue_, x_of_[0], storage_, out_);
    if (p_.data) leave(queue_, p_of_, storage_, p_);
    if (call_.figures.data) figures();
    return Status::ok;
  }

 private:
  bool long_factor() const { return p_.data && tall_; }

  void carve(Carver& carver) override {
    for (Matrices& x : x_of_) x = iteration_.take(carver, m_, n_);
    if (!long_factor()) {
      p_of_ = iteration_.square[0];
      return;
    }
    for (Matrices& x : adjoint_) x = iteration_.take(carver, n_, m_);
    p_of_ = iteration_.take(carver, n_, n_);
  }

  bool is_sign() const { return call_.kind == PolarCall::sign; }

  double cutoff() const { return static_cast<double>(n_) * polar_plan::cutoff_units * unit(); }

  PolarAim aim_asked_for() const {
    PolarAim wanted = aim(n_, cutoff(), guess_of_random());
    if (call_.tolerance > polar_tolerance(x_.dtype, m_, n_))
      wanted.aim = std::max(wanted.aim, call_.tolerance * std::sqrt(static_cast<double>(m_)));
    return wanted;
  }

  /// x_of_[0] <- its polar factor.
  void factor() {
    if (is_sign()) make_hermitian(queue_, storage_, batch_, m_, x_of_[0]);
    if (small_) {
      SmallFunction function;
      function.cutoff = cutoff();
      small_function(queue_, storage_, batch_, m_, n_, x_of_[0], iteration_.square[0], function,
                     iteration_.memory.states);
    } else {
      iteration_.run(aim_asked_for(), steps(), n_, x_of_[0], x_of_[1], is_sign());
      polar_settle(queue_, storage_, batch_, m_, n_, iteration_.memory.states, x_of_[0], x_of_[1],
                   call_.lose_unconverged);
    }
    if (!is_sign()) return;
    make_hermitian(queue_, storage_, batch_, m_, x_of_[0]);
    if (small_) sharpen();
  }

  /// What is not Hermitian in the polar factor of an ill-conditioned matrix keeps the square of its
  /// Hermitian part from being a projector: five rows of sharpening, from 0.05 to rounding.
  void sharpen() {
    const Matrices g = iteration_.square[0];
    const Matrices p = iteration_.square[1];
    for (int step = 0; step < 5; ++step) {
      const Matrices x = x_of_[0];
      iteration_.product(x, x, m_, {}, g, {1, 0, -1, nullptr}, {}, nullptr);
      // (0, 5/2, -3/2) in E = G - I.
      iteration_.product(g, g, m_, g, p, {-1.5, -0.5, 1, nullptr}, {}, nullptr);
      iteration_.product(p, x, m_, {}, x_of_[1], {}, {}, nullptr);
      std::swap(x_of_[0], x_of_[1]);
    }
  }

  static constexpr index_t part = 2048;

  Matrices columns(Matrices a, index_t first) const {
    a.data = static_cast<std::byte*>(a.data) + first * element_size(storage_);
    return a;
  }

  /// p_of_ <- x u^H or, of the transposed problem, its transpose.
  void hermitian_factor() {
    enter(queue_, x_, storage_, entrance_, x_of_[1]);
    const Matrices w = x_of_[0];
    index_t order = m_;
    // Of both triangles, each mirrored: what is not Hermitian cancels.
    const Scalars mean{0.5, 0.5, 0, nullptr};
    if (long_factor()) {
      order = n_;
      adjoint(queue_, storage_, batch_, m_, n_, w, adjoint_[0]);
      adjoint(queue_, storage_, batch_, m_, n_, x_of_[1], adjoint_[1]);
      const int tile = float64_tile(queue_, storage_, batch_, n_);
      float64_product(queue_, storage_, batch_, n_, m_, adjoint_[0], adjoint_[1], {}, p_of_, {}, {},
                      tile);
      float64_product(queue_, storage_, batch_, n_, m_, adjoint_[1], adjoint_[0], p_of_, p_of_,
                      mean, {}, tile);
      transpose(p_);
    } else {
      // Long sums in parts: their error grows with the root of a part's length.
      for (index_t first = 0; first < n_; first += part) {
        const index_t depth = std::min(part, n_ - first);
        const Matrices x = columns(x_of_[1], first);
        const Matrices y = columns(w, first);
        iteration_.product(x, y, depth, first == 0 ? Matrices{} : p_of_, p_of_,
                           {0.5, 1, 0, nullptr}, {}, nullptr);
        iteration_.product(y, x, depth, p_of_, p_of_, {0.5, 1, 0, nullptr}, {}, nullptr);
      }
    }
    scale_by_powers(queue_, storage_, batch_, order, order, p_of_, entrance_.exponent);
  }

  /// Of the result as returned, after its rounding.
  void figures() {
    load(queue_, out_, storage_, x_of_[1]);
    iteration_.product(x_of_[1], x_of_[1], n_, {}, iteration_.square[0], {1, 0, -1, nullptr},
                       iteration_.memory.defect, nullptr);
    iteration_.product(iteration_.square[0], iteration_.square[0], m_, iteration_.square[0], {},
                       {1, 1, 0, nullptr}, iteration_.memory.other, nullptr);
    polar_figures(queue_, batch_, m_, small_, iteration_.memory,
                  static_cast<double*>(call_.figures.data));
  }

  void clear_figures() const {
    if (!call_.figures.data || batch_ == 0) return;
    const auto bytes = static_cast<std::size_t>(batch_ * polar_figure_count) * sizeof(double);
    check(cudaMemsetAsync(call_.figures.data, 0, bytes, queue_.stream), "clearing figures");
  }

  ArrayRef x_, out_, p_;
  bool tall_;
  Matrices x_of_[2], adjoint_[2], p_of_;
};

bool is_clip(PolarCall::Kind kind) { return kind == PolarCall::hard || kind == PolarCall::soft; }

}  // namespace

bool polar_by_svd(int device, const ArrayRef& x) {
  PolarCall call;
  call.x = call.out = x;
  const DeviceGuard guard(device);
  return Call({device, nullptr}, call).by_svd();
}

std::size_t polar_workspace(const Queue& queue, const PolarCall& call) {
  const DeviceGuard guard(queue.device);
  if (is_clip(call.kind)) return clip_workspace(queue, call);
  return Call(queue, call).workspace();
}

Status polar(const Queue& queue, const PolarCall& call, Workspace workspace) {
  const DeviceGuard guard(queue.device);
  if (is_clip(call.kind)) return clip(queue, call, workspace);
  return Call(queue, call).run(workspace);
}

}  // namespace gramian::cuda
