// Clipping: few rows by an SVD in one launch; else, with X = H W,
//   soft   c times the part under X of the polar factor of (X, c I)
//   hard   (c I + R (R (H - c I) R)) W, R = (I - S) / 2, S the sign of H - c I
// R on both sides, and once more: else what is rounded of singular values far above c would stay.
// Where there are any, hard clipping is done twice, as those next to c are only known to u sigma_1:
// the second time to a matrix whose norm is all but c.
#include "polar_clip.hpp"

#include <cmath>
#include <utility>
#include <vector>

#include "polar_clip_passes.hpp"
#include "polar_passes.hpp"
#include "polar_problem.hpp"
#include "polar_small.hpp"

namespace gramian::cuda {

namespace {

class Clip : public PolarProblem {
 public:
  Clip(const Queue& queue, const PolarCall& call)
      : PolarProblem(queue, call), x_(call.x), hard_(call.kind == PolarCall::hard) {
    width_ = small_ || hard_ ? n_ : n_ + m_;
    if (!empty_) copied_ = overlaps(x_, call.out) && !same_entries(x_, call.out);
  }

  Status run(Workspace workspace) {
    if (empty_) {
      clear_figures();
      return Status::ok;
    }
    if (const Status status = begin(x_, workspace); status != Status::ok) return status;
    enter(queue_, x_, storage_, entrance_, x0_);
    pass_ = {queue_,      storage_,           batch_,         m_,     n_,
             call_.bound, entrance_.exponent, entrance_.norm, states_};
    Matrices result = x0_;
    if (small_) {
      SmallFunction function;
      function.kind = hard_ ? SmallFunction::hard : SmallFunction::soft;
      function.bound = call_.bound;
      function.slack = 8 * margin();
      function.exponent = entrance_.exponent;
      small_function(queue_, storage_, batch_, m_, n_, x0_, iteration_.square[0], function,
                     states_);
    } else if (hard_) {
      result = hard();
    } else {
      soft();
    }
    if (call_.figures.data) measure_input();
    ArrayRef input = x_;
    if (copied_) input = copy_of(queue_, x_, copy_);
    const bool times_bound = !small_ && !hard_;
    clip_leave(pass_, times_bound, result, input, call_.out);
    if (!call_.figures.data) return Status::ok;
    // Of the result as returned; in half precision before its rounding, which would hide it.
    if (is_half()) {
      x1_ = result;
      if (!times_bound) clip_divide(pass_, true, x1_);
    }
    figures();
    return Status::ok;
  }

 private:
  void carve(Carver& carver) override {
    states_ = carver.take<PolarState>(batch_);
    for (int*& flags : done_) flags = carver.take<int>(batch_);
    top_ = carver.take<double>(batch_);
    x0_ = iteration_.take(carver, m_, width_);
    x1_ = iteration_.take(carver, m_, width_);
    if (!small_ && hard_) {
      base_ = iteration_.take(carver, m_, n_);
      for (Matrices& s : sign_) s = iteration_.take(carver, m_, m_);
    }
    if (call_.figures.data) compared_ = iteration_.take(carver, m_, m_);
    if (copied_) copy_ = carver.take<std::byte>(batch_ * m_ * n_ * gramian::element_size(x_.dtype));
  }

  bool is_half() const { return x_.dtype == DType::float16 || x_.dtype == DType::bfloat16; }
  double root() const { return std::sqrt(static_cast<double>(m_)); }
  double margin() const { return (root() + 2) * unit(); }

  /// The polar factor of x in x, left out where done says so.
  void iterate(double cutoff, double first_guess, index_t n, Matrices x, Matrices other,
               bool hermitian, const int* done) const {
    PolarAim wanted = aim(width_, cutoff, first_guess);
    wanted.hold = true;
    const PolarMemory& memory = iteration_.memory;
    const auto count = static_cast<std::size_t>(batch_);
    check(cudaMemcpyAsync(memory.done, done, count * sizeof(int), cudaMemcpyDeviceToDevice,
                          queue_.stream),
          "copying flags");
    check(cudaMemsetAsync(memory.states, 0, count * sizeof(PolarState), queue_.stream),
          "clearing states");
    iteration_.run(wanted, cutoff < 0x1p-30 ? polar_steps_of_double : steps(), n, x, other,
                   hermitian);
    polar_settle(queue_, storage_, batch_, m_, n, memory.states, x, other, false);
  }

  void soft() {
    clip_begin(pass_, false, done_[0]);
    clip_append(pass_, x0_);
    // sigma_min is c, which is nowhere below 2^-57 of the largest entry.
    iterate(0x1p-60 / static_cast<double>(n_), 0.15, width_, x0_, x1_, false, done_[0]);
  }

  Matrices hard() {
    const PolarMemory& memory = iteration_.memory;
    clip_begin(pass_, true, done_[0]);
    clip_begin(pass_, true, done_[1]);
    enter(queue_, x_, storage_, entrance_, base_);
    iteration_.product(base_, base_, n_, {}, iteration_.square[0], {}, memory.defect, nullptr);
    iteration_.product(iteration_.square[0], iteration_.square[0], m_, {}, {}, {}, memory.other,
                       nullptr);
    clip_again(pass_, memory.defect, memory.other, done_[1]);
    clip_once(true, done_[0]);
    clip_once(false, done_[1]);
    return base_;
  }

  /// base_ <- clipped, but where done says so.
  void clip_once(bool first, int* done) {
    const PolarMemory& memory = iteration_.memory;
    clip_take(pass_, done, x0_, base_);
    // What W leaves out, the result lacks: less than polar's cutoff where sides are long.
    iterate(4 * margin(), guess_of_random(), n_, x0_, x1_, false, done);
    clip_shift(pass_, 6 * margin(), memory.scalars);
    iteration_.product(base_, x0_, n_, {}, sign_[0], {0, 0, 0, memory.scalars}, {}, done);
    iterate(margin(), 0.25 / static_cast<double>(m_), m_, sign_[0], sign_[1], true, done);
    const Matrices s = sign_[0];
    const Matrices identity = iteration_.square[0];
    const Matrices r = iteration_.square[1];
    iteration_.product(s, s, m_, s, {}, {0, 0.5, 0.5, nullptr}, memory.defect, done);
    clip_decide(pass_, memory.defect, first, done);
    iteration_.product(s, s, m_, s, r, {0, -0.5, 0.5, nullptr}, {}, done);
    // So much less than c that the result, clipped again, is found to be as it should.
    const double less = is_wide() ? 4 * margin() : 0.0;
    clip_scale(pass_, less, memory.scalars);
    iteration_.product(s, s, m_, {}, identity, {0, 0, 0, memory.scalars}, {}, done);
    clip_shift(pass_, -less, memory.scalars);
    const Matrices h = sign_[0];
    const Matrices room = sign_[1];
    iteration_.product(base_, x0_, n_, {}, h, {0, 0, 0, memory.scalars}, {}, done);
    general(m_, r, h, {}, room, done);
    general(m_, room, r, {}, h, done);
    general(m_, r, h, identity, room, done);
    general(n_, room, x0_, {}, x1_, done);
    std::swap(x0_, x1_);
    clip_take(pass_, done, base_, x0_);
    if (first) clip_skip(pass_, done_[0], done_[1]);
  }

  /// C <- S Z + D, of n columns.
  void general(index_t n, Matrices s, Matrices z, Matrices d, Matrices c, const int* done) const {
    float64_general(queue_, storage_, batch_, m_, n, m_, 1, s, z, 1, d, c, done);
  }

  /// G, and max(c, sigma_1)^2.
  void measure_input() {
    const PolarMemory& memory = iteration_.memory;
    const Matrices g = iteration_.square[0];
    enter(queue_, x_, storage_, entrance_, x1_);
    iteration_.product(x1_, x1_, n_, {}, g, {}, memory.defect, nullptr);
    iteration_.product(g, g, m_, {}, {}, {}, memory.other, nullptr);
    clip_top(pass_, memory.defect, memory.other, top_);
  }

  void figures() {
    const PolarMemory& memory = iteration_.memory;
    const Matrices g = iteration_.square[0];
    const Matrices k = iteration_.square[1];
    if (!is_half()) {
      load(queue_, call_.out, storage_, x1_);
      clip_divide(pass_, false, x1_);
    }
    iteration_.product(x1_, x1_, n_, {}, k, {}, {}, nullptr);
    clip_compare(pass_, hard_, g, k, compared_);
    if (hard_)
      iteration_.product(compared_, k, m_, {}, {}, {}, memory.defect, nullptr);
    else
      iteration_.product(g, k, m_, compared_, {}, {1, 1, 0, nullptr}, memory.defect, nullptr);
    clip_figures(pass_, small_, memory.defect, top_, static_cast<double*>(call_.figures.data));
  }

  void clear_figures() const {
    if (!call_.figures.data || batch_ == 0) return;
    // Without entries nothing is done, and 3 says so.
    std::vector<double> none(static_cast<std::size_t>(batch_ * polar_figure_count));
    for (std::size_t i = 0; i < none.size(); i += polar_figure_count) none[i] = 3;
    check(cudaMemcpyAsync(call_.figures.data, none.data(), none.size() * sizeof(double),
                          cudaMemcpyHostToDevice, queue_.stream),
          "writing figures");
    check(cudaStreamSynchronize(queue_.stream), "writing figures");
  }

  ArrayRef x_;
  bool hard_;
  bool copied_ = false;
  index_t width_ = 0;
  PolarState* states_ = nullptr;
  int* done_[2] = {};
  double* top_ = nullptr;
  void* copy_ = nullptr;
  ClipPass pass_{};
  Matrices x0_, x1_, base_, sign_[2], compared_;
};

}  // namespace

std::size_t clip_workspace(const Queue& queue, const PolarCall& call) {
  return Clip(queue, call).workspace();
}

Status clip(const Queue& queue, const PolarCall& call, Workspace workspace) {
  return Clip(queue, call).run(workspace);
}

}  // namespace gramian::cuda
