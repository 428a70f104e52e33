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

/// sum x conj(y): of rows that stand for v^H.
template <class D>
D dot(const D* x, const D* y, index_t d) {
  D sum{};
  if constexpr (is_complex_v<D>)
    GRAMIAN_BLAS(cblas_zdotc_sub)(static_cast<int>(d), y, 1, x, 1, &sum);
  else
    sum = GRAMIAN_BLAS(cblas_ddot)(static_cast<int>(d), x, 1, y, 1);
  return sum;
}

template <class D>
double squared_norm(const D* x, index_t d) {
  return std::real(dot(x, x, d));
}

template <class D>
void add(D factor, const D* x, D* y, index_t d) {
  if constexpr (is_complex_v<D>)
    GRAMIAN_BLAS(cblas_zaxpy)(static_cast<int>(d), &factor, x, 1, y, 1);
  else
    GRAMIAN_BLAS(cblas_daxpy)(static_cast<int>(d), factor, x, 1, y, 1);
}

/// Gram-Schmidt with every projection done twice. A vector that depends on those before it gives
/// way to one that does not.
template <class D>
void orthonormalize(D* q, index_t k, index_t d) {
  for (index_t j = 0; j < k; ++j) {
    D* v = q + j * d;
    for (index_t axis = 0;; ++axis) {
      const double before = std::sqrt(squared_norm(v, d));
      for (int twice = 0; twice < 2; ++twice)
        for (index_t i = 0; i < j; ++i) add(-dot(v, q + i * d, d), q + i * d, v, d);
      const double norm = std::sqrt(squared_norm(v, d));
      if (norm > 1e-10 * before && norm > 0) {
        for (index_t l = 0; l < d; ++l) v[l] /= norm;
        break;
      }
      std::fill(v, v + d, D(0));
      v[(j + axis) % d] = 1;
    }
  }
}

/// D is double or complex<double>; vectors v lie as rows v^H.
template <class D>
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
        for (index_t l = 0; l < d_; ++l) row(i)[l] = static_cast<D>(from[l]);
        weights_[i] = (weights ? weights[first + i] : 1.0) *
                      std::pow(s_.decay, static_cast<double>(n_ - 1 - i));
      }
      block();
    }
  }

 private:
  D* vectors() { return reinterpret_cast<D*>(s_.vectors); }
  D* row(index_t i) { return x_.data() + i * d_; }
  D* sketch() { return vectors() + k_ * d_; }
  D* mean() { return sketch() + Layout::sketch * d_; }
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
    for (index_t i = 0; i < n_; ++i) squares += squared_norm(row(i), d_);
    total(Layout::squares) = past_ * total(Layout::squares) + squares;
    if (squares > 0)
      s_.history ? history_step() : ada_step();
    else
      for (index_t j = 0; j < Layout::figure_count * k_; ++j) s_.figures[j] *= past_;
    sketch_step();
  }

  /// Rows less their mean, and a row for how far that is from the mean so far: their sum of squares
  /// is what theirs and the past's about the common mean is more than the past's about its own
  /// (Chan, Golub, LeVeque, 1979).
  void center() {
    double block_weight = 0;
    double raw = 0;
    std::vector<D> means(static_cast<std::size_t>(d_));
    for (index_t i = 0; i < n_; ++i) {
      block_weight += weights_[i];
      raw += weights_[i] * squared_norm(row(i), d_);
      add(D(weights_[i]), row(i), means.data(), d_);
    }
    if (!(block_weight > 0)) return;  // decayed to nothing within the block
    for (D& v : means) v /= block_weight;
    for (index_t i = 0; i < n_; ++i) add(D(-1), means.data(), row(i), d_);
    double all = total(Layout::weight);
    detail::multiply(all, total(Layout::weight_low), past_);
    const double past = all;
    detail::add_rounded(all, total(Layout::weight_low), block_weight);
    const double factor = std::sqrt(past / all * block_weight);
    // Errors of the block's mean and of the mean so far: docs/streaming.md#centering
    using rounding::u;
    double& mean_error = total(Layout::mean_error);
    const double sizes =
        std::sqrt(squared_norm(means.data(), d_)) + std::sqrt(squared_norm(mean(), d_));
    // Sums of at most 64 terms, of the rows and of their weights.
    const double block_error = (2 * Layout::block + 8) * u * std::sqrt(raw / block_weight);
    centering_ = 4 * u * std::sqrt(raw) +
                 std::sqrt(block_weight) * (block_error + mean_error + 8 * u * sizes);
    mean_error = (past * mean_error + block_weight * block_error) / all + 8 * u * sizes;
    for (index_t l = 0; l < d_; ++l) {
      const D off = means[static_cast<std::size_t>(l)] - mean()[l];
      row(n_)[l] = factor * off;
      mean()[l] += block_weight / all * off;
    }
    total(Layout::weight) = all;
    weighted_ = n_;
    ++n_;
  }

  /// y = x q^H.
  void project(const D* q, Small<D>& y) {
    detail::gemm(false, true, n_, k_, d_, D(1), x_.data(), d_, q, d_, D(0), y.data(), k_);
  }

  void ada_step() {
    D* q = vectors();
    Small<D> y(n_, k_);
    project(q, y);
    detail::gemm(true, false, k_, d_, n_, D(1), y.data(), k_, x_.data(), d_, D(0), room_.data(),
                 d_);
    for (index_t j = 0; j < k_; ++j) {
      const D* g = room_.data() + j * d_;
      double energy = 0;
      for (index_t i = 0; i < n_; ++i) energy += std::norm(y(i, j));
      figure(Layout::values, j) = past_ * figure(Layout::values, j) + energy;
      double& sum = figure(Layout::squared_steps, j);
      sum = past_ * sum + squared_norm(g, d_);
      if (sum > 0) add(D(1 / std::sqrt(sum)), g, q + j * d_, d_);
    }
    orthonormalize(q, k_, d_);
  }

  /// A step of power iteration on M = past Q diag(values) Q^H + X^H X, then M's Ritz vectors.
  void history_step() {
    D* q = vectors();
    D* z = room_.data();
    Small<D> y(n_, k_);
    project(q, y);
    detail::gemm(true, false, k_, d_, n_, D(1), y.data(), k_, x_.data(), d_, D(0), z, d_);
    for (index_t j = 0; j < k_; ++j)
      add(D(past_ * figure(Layout::values, j)), q + j * d_, z + j * d_, d_);
    orthonormalize(z, k_, d_);
    Small<D> turn(k_, k_);
    detail::gemm(false, true, k_, k_, d_, D(1), z, d_, q, d_, D(0), turn.data(), k_);
    project(z, y);
    Small<D> ritz(k_, k_);
    detail::gemm(true, false, k_, k_, n_, D(1), y.data(), k_, y.data(), k_, D(0), ritz.data(), k_);
    for (index_t i = 0; i < k_; ++i)
      for (index_t j = 0; j < k_; ++j)
        for (index_t l = 0; l < k_; ++l)
          ritz(i, j) +=
              past_ * turn(i, l) * figure(Layout::values, l) * detail::conjugate(turn(j, l));
    const detail::Eigen<D> eigen = detail::hermitian_eigen(ritz);
    for (index_t j = 0; j < k_; ++j)
      figure(Layout::values, j) = std::max(eigen.values[static_cast<std::size_t>(j)], 0.0);
    detail::gemm(true, false, k_, d_, k_, D(1), eigen.vectors.data(), k_, z, d_, D(0), q, d_);
    orthonormalize(q, k_, d_);
  }

  void sketch_step() {
    constexpr index_t m = Layout::sketch;
    D* b = sketch();
    const double factor = std::sqrt(past_);
    if (factor != 1.0)
      for (index_t l = 0; l < m * d_; ++l) b[l] *= factor;
    double above = past_ * total(Layout::above);
    double below = past_ * total(Layout::below);
    for (index_t first = 0; first < n_; first += sketch_rows) {
      const index_t count = std::min(sketch_rows, n_ - first);
      const detail::SketchStep<D> next(b, m, row(first), count, d_, room_.data());
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
  std::vector<D> x_;
  std::vector<D> room_;
};

template <class S>
void update(const BlockOjaState& state, const ArrayRef& rows, const double* weights) {
  BlockOjaUpdate<detail::wide_t<S>>(state).template run<S>(rows.matrices<const S>()[0], weights);
}

template <class D>
double result(const BlockOjaState& s, D* components, double* values) {
  const index_t d = s.features;
  const index_t k = s.components;
  const D* vectors = reinterpret_cast<const D*>(s.vectors);
  std::vector<index_t> order(static_cast<std::size_t>(k));
  std::iota(order.begin(), order.end(), index_t{0});
  const double* found = s.figures + Layout::values * k;
  std::stable_sort(order.begin(), order.end(),
                   [&](index_t i, index_t j) { return found[i] > found[j]; });
  for (index_t j = 0; j < k; ++j) {
    const index_t from = order[static_cast<std::size_t>(j)];
    std::copy(vectors + from * d, vectors + (from + 1) * d, components + j * d);
    values[j] = found[from];
  }
  const detail::SketchReading sketch(vectors + k * d, Layout::sketch, d);
  const double bound = sketch.bound(s.totals[Layout::above], s.totals[Layout::below]);
  const D* direction = reinterpret_cast<const D*>(sketch.direction.data());
  // Angles add up, and the sine of a sum is at most the sum of the sines.
  std::vector<D> across(components, components + d);
  for (int twice = 0; twice < 2; ++twice)
    add(-dot<D>(across.data(), direction, d), direction, across.data(), d);
  const double off = std::sqrt(squared_norm(across.data(), d));
  const double error = rounding::accumulated<D>(4.0 * static_cast<double>(d + 16));
  double certificate = bound + off + error;
  if (off > 2 * bound) {
    // The sketch's direction is nearer to the top eigenvector than the steps' for certain.
    std::copy(direction, direction + d, components);
    values[0] = std::max(values[0], sketch.top);
    // Those of the steps may have been in its place: together they are the trace at most.
    double left = s.totals[Layout::squares] - values[0];
    for (index_t j = 1; j < k; ++j) {
      values[j] = std::min({values[j], values[j - 1], std::max(left, 0.0)});
      left -= values[j];
    }
    orthonormalize(components, k, d);
    certificate = bound + error;
  }
  return certificate < detail::vacuous_bound ? certificate
                                             : std::numeric_limits<double>::infinity();
}

}  // namespace

Status block_oja_update(const BlockOjaState& state, const ArrayRef& rows, const double* weights) {
  [[maybe_unused]] static const bool blas_is_quiet = (detail::blas_use_one_thread(), true);
  try {
    if (rows.dtype == DType::float64)
      update<double>(state, rows, weights);
    else if (rows.dtype == DType::float32)
      update<float>(state, rows, weights);
    else if (rows.dtype == DType::complex128)
      update<std::complex<double>>(state, rows, weights);
    else
      update<std::complex<float>>(state, rows, weights);
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
  return Status::ok;
}

Status block_oja_result(const BlockOjaState& s, double* components, double* values,
                        double& certificate) {
  try {
    certificate = s.is_complex
                      ? result(s, reinterpret_cast<std::complex<double>*>(components), values)
                      : result(s, components, values);
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
  return Status::ok;
}

}  // namespace gramian
