// The Gram matrices of a batch and their squares: memory, products and figures of all bounds.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "bounds_passes.hpp"
#include "carver.hpp"
#include "cublas.hpp"
#include "cusolver.hpp"
#include "float64_product.hpp"
#include "general_products.hpp"
#include "lanczos.hpp"
#include "small_squares.hpp"

namespace gramian::cuda {

/// Beyond, m^(2^-t) - 1, the most that further squares could gain, is below every unit roundoff.
constexpr int most_squarings = 60;
/// Copies numbers from the device and waits for them.
template <class V>
std::vector<V> fetch(const Queue& queue, const V* from, index_t count) {
  std::vector<V> to(static_cast<std::size_t>(count));
  check(
      cudaMemcpyAsync(to.data(), from, to.size() * sizeof(V), cudaMemcpyDeviceToHost, queue.stream),
      "reading figures");
  check(cudaStreamSynchronize(queue.stream), "reading figures");
  return to;
}

/// What proofs by a factorization take for one matrix at a time.
struct LanczosRoom {
  index_t most_steps;
  Matrices basis;        // most_steps + 1 vectors, and the Ritz vector
  double* coefficients;  // 2 most_steps
  double* y;             // most_steps
  double* parts;         // lanczos_parts(m)
  double* quotient;      // 2 quotient_blocks(m)
  int* info;
  void* solver;
  std::size_t solver_bytes;
};

/// The batch, scaled and converted, its Gram matrices and their squares.
class GramSquares {
 public:
  /// `kept`: Gram matrices stay, beside the two buffers that squares need. `factorize`: there is
  /// room for proofs by a factorization.
  GramSquares(const Queue& queue, const ArrayRef& a, Storage storage, int steps, bool kept,
              bool factorize = false)
      : queue_(queue), a_(a), storage_(storage), steps_(steps), kept_(kept), factorize_(factorize) {
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
    cublas_bytes_ = in_float64(storage_) ? 0 : cublas_workspace_bytes(queue_.device);
    cublas_memory_ = carver.take<std::byte>(static_cast<index_t>(cublas_bytes_));
    if (factorize_) carve_lanczos(carver);
    entrance_.parts = carver.take<double>(batch_ * entrance_parts_);
    entrance_.exponent = carver.take<int>(batch_);
    entrance_.norm = carver.take<double>(batch_);
    scalars_ = carver.take<double>(3 * batch_);
    norm_.count = GeneralProducts::norm_count(storage_, m_);
    norm_.data = carver.take<double>(batch_ * norm_.count);
    figures_ = carver.take<SquareFigures>(batch_ * std::max(steps_, 1));
    parts_ = kept_ ? carver.take<double>(2 * batch_ * quotient_blocks(m_)) : nullptr;
    candidates_ = kept_ ? carver.take<Candidate>(batch_ * quotient_blocks(m_)) : nullptr;
    squarings_ = kept_ ? carver.take<int>(batch_) : nullptr;
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
    begin();
    follow(queue_, storage_, batch_, m_, squares_[0], norm_, figures_, scalars_);
  }

  /// H_t to H_{t+1}.
  void square() {
    products_->product(current_, current_, {}, next_, {0, 0, 0, scalars_}, norm_);
    ++done_;
    follow(queue_, storage_, batch_, m_, next_, norm_, figures_ + done_ * batch_, scalars_);
    std::swap(current_, next_);
    if (done_ == 1) next_ = spare_;
  }

  /// Whether all squares are one launch.
  bool are_small() const { return fit_small_squares(queue_.device, storage_, m_); }

  /// All at once, each matrix as often as it needs.
  void square_small(double slack) {
    small_squares(queue_, storage_, batch_, m_, squares_[0], slack, steps_ - 1, figures_,
                  squarings_, parts_);
  }
  const int* squarings() const { return squarings_; }

  void quotient() {
    find_candidates(queue_, storage_, batch_, m_, current_, figures_ + done_ * batch_, candidates_);
    quotient_parts(queue_, storage_, batch_, m_, squares_[0], current_, candidates_, parts_);
  }

  int done() const { return done_; }
  const Entrance& entrance() const { return entrance_; }
  const SquareFigures* figures() const { return figures_; }
  const double* parts() const { return parts_; }

  /// Matrix b's Gram matrix.
  Matrices gram_of(index_t b) const {
    Matrices g = squares_[0];
    g.data = static_cast<std::byte*>(g.data) + b * g.stride * element_size(storage_);
    return g;
  }
  /// Where one m x m matrix can lie, as long as nothing is squared.
  Matrices room() const { return squares_[1]; }
  const LanczosRoom& lanczos() const { return lanczos_; }
  NormParts norm_parts() const { return norm_; }

 private:
  void begin() {
    current_ = squares_[0];
    next_ = squares_[1];
    spare_ = kept_ ? squares_[2] : squares_[0];
    done_ = 0;
  }

  void carve_lanczos(Carver& carver) {
    LanczosRoom& l = lanczos_;
    l.solver_bytes = Cusolver(queue_).cholesky_bytes(
        storage_ == Storage::complex128 ? CUDA_C_64F : CUDA_R_64F, m_, leading(m_));
    l.solver = carver.take<std::byte>(static_cast<index_t>(l.solver_bytes));
    // Rounding makes Lanczos take more steps than there are vectors. Beyond 400, squaring is no
    // more work.
    l.most_steps = std::min<index_t>(2 * m_ + 8, 400);
    const index_t vectors = l.most_steps + 2;
    l.basis = {carver.take<std::byte>(vectors * leading(m_) * element_size(storage_)), leading(m_),
               0};
    l.coefficients = carver.take<double>(2 * l.most_steps);
    l.y = carver.take<double>(l.most_steps);
    l.parts = carver.take<double>(lanczos_parts(m_));
    l.quotient = carver.take<double>(2 * quotient_blocks(m_));
    l.info = carver.take<int>(1);
  }

  index_t leading(index_t cols) const { return GeneralProducts::leading(storage_, cols); }

  Matrices take_matrices(Carver& carver, index_t cols) const {
    const index_t ld = leading(cols);
    return {carver.take<std::byte>(batch_ * m_ * ld * element_size(storage_)), ld, m_ * ld};
  }

  Queue queue_;
  const ArrayRef& a_;
  Storage storage_;
  int steps_;  // iterates whose figures are kept
  bool kept_;
  bool factorize_;
  index_t m_, n_, batch_, entrance_parts_;
  std::size_t cublas_bytes_ = 0;
  void* cublas_memory_ = nullptr;
  Entrance entrance_{};
  double* scalars_ = nullptr;
  LanczosRoom lanczos_{};
  NormParts norm_;
  SquareFigures* figures_ = nullptr;
  double* parts_ = nullptr;
  Candidate* candidates_ = nullptr;
  int* squarings_ = nullptr;
  Matrices x_, squares_[3], current_, next_, spare_;
  std::optional<GeneralProducts> products_;
  int done_ = 0;
};

}  // namespace gramian::cuda
