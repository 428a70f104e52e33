// Several eigenvectors of a stream, a step for each block of rows: AdaOja's step sizes (Henriksen,
// Ward, "AdaOja: adaptive learning rates for streaming PCA", arXiv 1905.12115) or history PCA
// (Yang, Hsieh, Wang, "History PCA: a new algorithm for streaming PCA", arXiv 1802.05447). Beside
// them the sketch of docs/streaming.md, from which the first vector's certificate comes.
#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <numeric>

#include "batch.hpp"
#include "gramian/streaming.hpp"
#include "small_sketch.hpp"
#include "two_parts.hpp"

namespace gramian {

namespace {

using detail::Small;
using Layout = BlockOjaLayout;

// Rows that the sketch takes at a time: its small eigenproblem grows with the cube.
constexpr index_t sketch_rows = 16;

double dot(const double* x, const double* y, index_t d) {
  return GRAMIAN_BLAS(cblas_ddot)(static_cast<int>(d), x, 1, y, 1);
}

void add(double factor, const double* x, double* y, index_t d) {
  GRAMIAN_BLAS(cblas_daxpy)(static_cast<int>(d), factor, x, 1, y, 1);
}

/// Gram-Schmidt with every projection done twice. A vector that depends on those before it gives
/// way to one that does not.
void orthonormalize(double* q, index_t k, index_t d) {
  for (index_t j = 0; j < k; ++j) {
    double* v = q + j * d;
    for (index_t axis = 0;; ++axis) {
      const double before = std::sqrt(dot(v, v, d));
      for (int twice = 0; twice < 2; ++twice)
        for (index_t i = 0; i < j; ++i) add(-dot(v, q + i * d, d), q + i * d, v, d);
      const double norm = std::sqrt(dot(v, v, d));
      if (norm > 1e-10 * before && norm > 0) {
        for (index_t l = 0; l < d; ++l) v[l] /= norm;
        break;
      }
      std::fill(v, v + d, 0.0);
      v[(j + axis) % d] = 1;
    }
  }
}

class BlockOjaUpdate {
 public:
  explicit BlockOjaUpdate(const BlockOjaState& state)
      : s_(state),
        d_(state.features),
        k_(state.components),
        x_(static_cast<std::size_t>((Layout::block + 1) * d_)),
        room_(static_cast<std::size_t>(std::max(k_, Layout::sketch) * d_)) {}

  template <class S>
  void run(const MatrixView<const S>& rows, const double* weights) {
    for (index_t first = 0; first < rows.rows; first += Layout::block) {
      n_ = weighted_ = std::min(Layout::block, rows.rows - first);
      centering_ = 0;
      past_ = std::pow(s_.decay, static_cast<double>(n_));
      for (index_t i = 0; i < n_; ++i) {
        const S* from = rows.data + (first + i) * rows.row_stride;
        std::copy(from, from + d_, row(i));
        weights_[i] = (weights ? weights[first + i] : 1.0) *
                      std::pow(s_.decay, static_cast<double>(n_ - 1 - i));
      }
      block();
    }
  }

 private:
  double* row(index_t i) { return x_.data() + i * d_; }
  double* sketch() { return s_.vectors + k_ * d_; }
  double* mean() { return sketch() + Layout::sketch * d_; }
  double& figure(Layout::Figure f, index_t j) { return s_.figures[f * k_ + j]; }
  double& total(Layout::Total t) { return s_.totals[t]; }

  void block() {
    if (s_.center) center();
    for (index_t i = 0; i < n_; ++i) {
      const double factor = i < weighted_ ? std::sqrt(weights_[i]) : 1.0;
      if (factor != 1.0)
        for (index_t l = 0; l < d_; ++l) row(i)[l] *= factor;
    }
    double squares = 0;
    for (index_t i = 0; i < n_; ++i) squares += dot(row(i), row(i), d_);
    total(Layout::squares) = past_ * total(Layout::squares) + squares;
    if (squares > 0) s_.history ? history_step() : ada_step();
    sketch_step();
  }

  /// Rows less their mean, and a row for how far that is from the mean so far: their sum of squares
  /// is what theirs and the past's about the common mean is more than the past's about its own
  /// (Chan, Golub, LeVeque, 1979).
  void center() {
    double block_weight = 0;
    double raw = 0;
    std::vector<double> means(static_cast<std::size_t>(d_));
    for (index_t i = 0; i < n_; ++i) {
      block_weight += weights_[i];
      raw += weights_[i] * dot(row(i), row(i), d_);
      add(weights_[i], row(i), means.data(), d_);
    }
    if (!(block_weight > 0)) return;  // decayed to nothing within the block
    for (double& v : means) v /= block_weight;
    for (index_t i = 0; i < n_; ++i) add(-1.0, means.data(), row(i), d_);
    double all = total(Layout::weight);
    detail::multiply(all, total(Layout::weight_low), past_);
    const double past = all;
    detail::add_rounded(all, total(Layout::weight_low), block_weight);
    const double factor = std::sqrt(past / all * block_weight);
    // Errors of the block's mean and of the mean so far: docs/streaming.md#centering
    using rounding::u;
    double& mean_error = total(Layout::mean_error);
    const double sizes =
        std::sqrt(dot(means.data(), means.data(), d_)) + std::sqrt(dot(mean(), mean(), d_));
    // Sums of at most 64 terms, of the rows and of their weights.
    const double block_error = (2 * Layout::block + 8) * u * std::sqrt(raw / block_weight);
    centering_ = 4 * u * std::sqrt(raw) +
                 std::sqrt(block_weight) * (block_error + mean_error + 8 * u * sizes);
    mean_error = (past * mean_error + block_weight * block_error) / all + 8 * u * sizes;
    for (index_t l = 0; l < d_; ++l) {
      const double off = means[static_cast<std::size_t>(l)] - mean()[l];
      row(n_)[l] = factor * off;
      mean()[l] += block_weight / all * off;
    }
    total(Layout::weight) = all;
    weighted_ = n_;
    ++n_;
  }

  void project(const double* q, Small<double>& y) {
    detail::gemm(false, true, n_, k_, d_, 1.0, x_.data(), d_, q, d_, 0.0, y.data(), k_);
  }

  void ada_step() {
    double* q = s_.vectors;
    Small<double> y(n_, k_);
    project(q, y);
    detail::gemm(true, false, k_, d_, n_, 1.0, y.data(), k_, x_.data(), d_, 0.0, room_.data(), d_);
    for (index_t j = 0; j < k_; ++j) {
      const double* g = room_.data() + j * d_;
      double energy = 0;
      for (index_t i = 0; i < n_; ++i) energy += y(i, j) * y(i, j);
      figure(Layout::values, j) = past_ * figure(Layout::values, j) + energy;
      double& sum = figure(Layout::squared_steps, j);
      sum = past_ * sum + dot(g, g, d_);
      if (sum > 0) add(1 / std::sqrt(sum), g, q + j * d_, d_);
    }
    orthonormalize(q, k_, d_);
  }

  /// A step of power iteration on M = past Q diag(values) Q^T + X^T X, then M's Ritz vectors.
  void history_step() {
    double* q = s_.vectors;
    double* z = room_.data();
    Small<double> y(n_, k_);
    project(q, y);
    detail::gemm(true, false, k_, d_, n_, 1.0, y.data(), k_, x_.data(), d_, 0.0, z, d_);
    for (index_t j = 0; j < k_; ++j)
      add(past_ * figure(Layout::values, j), q + j * d_, z + j * d_, d_);
    orthonormalize(z, k_, d_);
    Small<double> turn(k_, k_);
    detail::gemm(false, true, k_, k_, d_, 1.0, z, d_, q, d_, 0.0, turn.data(), k_);
    project(z, y);
    Small<double> ritz(k_, k_);
    detail::gemm(true, false, k_, k_, n_, 1.0, y.data(), k_, y.data(), k_, 0.0, ritz.data(), k_);
    for (index_t i = 0; i < k_; ++i)
      for (index_t j = 0; j < k_; ++j)
        for (index_t l = 0; l < k_; ++l)
          ritz(i, j) += past_ * turn(i, l) * figure(Layout::values, l) * turn(j, l);
    const detail::Eigen<double> eigen = detail::hermitian_eigen(ritz);
    for (index_t j = 0; j < k_; ++j)
      figure(Layout::values, j) = std::max(eigen.values[static_cast<std::size_t>(j)], 0.0);
    detail::gemm(true, false, k_, d_, k_, 1.0, eigen.vectors.data(), k_, z, d_, 0.0, q, d_);
    orthonormalize(q, k_, d_);
  }

  void sketch_step() {
    constexpr index_t m = Layout::sketch;
    double* b = sketch();
    const double factor = std::sqrt(past_);
    if (factor != 1.0)
      for (index_t l = 0; l < m * d_; ++l) b[l] *= factor;
    double above = past_ * total(Layout::above);
    double below = past_ * total(Layout::below);
    double trace = 0;
    for (index_t first = 0; first < n_; first += sketch_rows) {
      const index_t count = std::min(sketch_rows, n_ - first);
      const index_t n = m + count;
      const double* x = row(first);
      Small<double> gram(n, n);
      double* corner = gram.data() + m * n;
      detail::gemm(false, true, m, m, d_, 1.0, b, d_, b, d_, 0.0, gram.data(), n);
      detail::gemm(false, true, count, m, d_, 1.0, x, d_, b, d_, 0.0, corner, n);
      detail::gemm(false, true, count, count, d_, 1.0, x, d_, x, d_, 0.0, corner + m, n);
      for (index_t i = 0; i < m; ++i)
        for (index_t j = m; j < n; ++j) gram(i, j) = gram(j, i);
      trace = 0;
      for (index_t i = 0; i < n; ++i) trace += gram(i, i);
      const detail::Shrinking next(gram, m, d_);
      const double* p = next.coefficients.data();
      detail::gemm(false, false, m, d_, m, 1.0, p, n, b, d_, 0.0, room_.data(), d_);
      detail::gemm(false, false, m, d_, count, 1.0, p + m, n, x, d_, 1.0, room_.data(), d_);
      std::copy(room_.data(), room_.data() + m * d_, b);
      above = rounding::raise(above + next.above);
      below = rounding::raise(below + next.below);
    }
    const double rows =
        1.01 * centering_ * (2 * std::sqrt(total(Layout::squares)) + 2 * centering_);
    total(Layout::above) = rounding::raise(above + rows);
    total(Layout::below) = rounding::raise(below + rows);
  }

  BlockOjaState s_;
  index_t d_;
  index_t k_;
  index_t n_ = 0;
  index_t weighted_ = 0;  // rows that have weights; one of the centering has none
  double past_ = 1;
  double centering_ = 0;
  double weights_[Layout::block] = {};
  std::vector<double> x_;
  std::vector<double> room_;
};

}  // namespace

Status block_oja_update(const BlockOjaState& state, const ArrayRef& rows, const double* weights) {
  [[maybe_unused]] static const bool blas_is_quiet = (detail::blas_use_one_thread(), true);
  try {
    BlockOjaUpdate update(state);
    if (rows.dtype == DType::float64)
      update.run<double>(rows.matrices<const double>()[0], weights);
    else
      update.run<float>(rows.matrices<const float>()[0], weights);
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
  return Status::ok;
}

Status block_oja_result(const BlockOjaState& s, double* components, double* values,
                        double& certificate) {
  const index_t d = s.features;
  const index_t k = s.components;
  try {
    std::vector<index_t> order(static_cast<std::size_t>(k));
    std::iota(order.begin(), order.end(), index_t{0});
    const double* found = s.figures + Layout::values * k;
    std::stable_sort(order.begin(), order.end(),
                     [&](index_t i, index_t j) { return found[i] > found[j]; });
    for (index_t j = 0; j < k; ++j) {
      const index_t from = order[static_cast<std::size_t>(j)];
      std::copy(s.vectors + from * d, s.vectors + (from + 1) * d, components + j * d);
      values[j] = found[from];
    }
    const detail::SketchReading sketch(s.vectors + k * d, Layout::sketch, d);
    const double bound = sketch.bound(s.totals[Layout::above], s.totals[Layout::below]);
    // Angles add up, and the sine of a sum is at most the sum of the sines.
    std::vector<double> across(components, components + d);
    for (int twice = 0; twice < 2; ++twice)
      add(-dot(across.data(), sketch.direction.data(), d), sketch.direction.data(), across.data(),
          d);
    const double off = std::sqrt(dot(across.data(), across.data(), d));
    const double error = rounding::accumulated<double>(4.0 * static_cast<double>(d + 16));
    certificate = bound + off + error;
    if (off > 2 * bound) {
      // The sketch's direction is nearer to the top eigenvector than the steps' for certain.
      std::copy(sketch.direction.begin(), sketch.direction.end(), components);
      values[0] = std::max(values[0], sketch.top);
      orthonormalize(components, k, d);
      certificate = bound + error;
    }
    if (!(certificate < detail::vacuous_bound))
      certificate = std::numeric_limits<double>::infinity();
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
  return Status::ok;
}

}  // namespace gramian
