// The polar factor of one tall matrix, scaled so that its largest entry is near 1: which road, on
// which products.
#pragma once

#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "batch.hpp"
#include "general_products.hpp"
#include "gramian/polar.hpp"
#include "gramian/start_vector.hpp"
#include "polar_estimates.hpp"
#include "polar_iteration.hpp"
#include "polar_lapack.hpp"
#include "polar_svd.hpp"
#include "small_products.hpp"

namespace gramian::detail {

/// What a factor is asked for.
struct PolarGoal {
  double tolerance;  // on ||I - G||_F / sqrt(m)
  bool loose;        // the tolerance is the caller's, above what rounding allows
  double roundoff;   // u of the cutoff
  bool hermitian;
  bool always_svd;
};

template <class T>
class PolarMatrix {
  using R = real_t<T>;
  static constexpr double u = unit_roundoff<R>;

 public:
  PolarMatrix(index_t rows, index_t cols, int threads)
      : n_(rows),
        m_(cols),
        threads_(threads),
        ld_(cols),
        rows_(rows),
        square_(cols * cols),
        root_(std::sqrt(static_cast<double>(cols))) {
    if constexpr (!is_complex_v<T>) {
      small_ = is_small_matrix<T>(rows, cols);
      if (small_) {
        ld_ = round_up(m_, tile_kernels<R>().vector);
        rows_ = round_up(n_, tile_kernels<R>().rows);
        square_ = ld_ * ld_;
      }
    }
  }

  std::size_t workspace() const {
    return 2 * Workspace::bytes_for<T>(rows_ * ld_) + 4 * Workspace::bytes_for<T>(square_) +
           Workspace::bytes_for<double>(rows_ + 4 * ld_) + packed_hermitian_bytes<T>(m_) +
           LapackRoom<T>::bytes(m_) + products_scratch();
  }

  /// Deals out the workspace. Every call on one matrix is given the same one.
  void place(Workspace workspace) {
    a_ = workspace.take<T>(rows_ * ld_);
    b_ = workspace.take<T>(rows_ * ld_);
    for (T*& q : squares_) q = workspace.take<T>(square_);
    partial_ = workspace.take<double>(rows_ + 4 * ld_);
    const std::size_t bytes = packed_hermitian_bytes<T>(m_);
    packed_ = Workspace(workspace.take<std::byte>(static_cast<index_t>(bytes)), bytes);
    lapack_ = workspace;
    LapackRoom<T> room(m_, workspace);
    scratch_ = workspace;
  }

  /// Where the matrix is to be put, and after factor() where it is to be put again for others to
  /// use.
  MatrixView<T> input() {
    if (ld_ > m_)
      for (index_t i = 0; i < n_; ++i) std::fill(a_ + i * ld_ + m_, a_ + (i + 1) * ld_, T{});
    std::fill(a_ + n_ * ld_, a_ + rows_ * ld_, T{});
    return {a_, n_, m_, ld_, 1};
  }
  /// The same, without clearing the padding.
  MatrixView<T> input_view() const { return {a_, n_, m_, ld_, 1}; }
  /// As large and elsewhere.
  MatrixView<T> other_than_input() const { return other(a_); }
  Workspace scratch() const { return scratch_; }

  /// W from the matrix in input(), which is lost; reload() puts it there again. Returns W, which is
  /// nowhere near input().
  template <class Reload>
  MatrixView<T> factor(Context& ctx, const PolarGoal& goal, const Reload& reload,
                       PolarReport& report) {
    accept_ = goal.tolerance * root_;
    // Rounding leaves 0.6 to 0.8 m u where both sides are long.
    const double sums = std::sqrt(static_cast<double>(product_roundings(n_)));
    aim_ = goal.loose ? accept_ : std::min(accept_, (2 * root_ + 4 + sums / 2) * root_ * u);
    report.rank = m_;
    MatrixView<T> w{};
    Outcome outcome = Outcome::svd;
    bool converted = false;
    if (!goal.always_svd) outcome = iterate(ctx, goal, reload, w, report);
    if (outcome == Outcome::wide) {
      outcome = in_double(ctx, goal, reload, w, report);
      converted = true;
    }
    if (outcome == Outcome::svd) {
      report.method = PolarMethod::svd;
      report.steps = 0;
      if (!goal.always_svd) reload();
      w = other(a_);
      const double cutoff = goal.roundoff * static_cast<double>(n_) * polar_plan::cutoff_units;
      report.rank = goal.hermitian ? sign_by_eigenvectors<T>(input_view(), cutoff, w)
                                   : polar_by_svd<T>(input_view(), cutoff, w);
    }
    if (goal.hermitian) make_hermitian<T>(w);
    const bool measured = outcome == Outcome::done && !converted && !goal.hermitian &&
                          report.method != PolarMethod::qr;
    if (!measured) report.residual = measure(ctx, w, report.rank);
    // Sums of equal terms round to the same side each time, more than the tolerance has room for:
    // in the measuring as in what is measured.
    if (!(report.residual <= goal.tolerance) && report.rank > 0) {
      const auto again = [&] {
        return careful_residual<T>(ctx, w, report.rank, squares_[0], squares_[1], ld_);
      };
      report.residual = again();
      if (report.residual > goal.tolerance && report.residual < 1e-3) {
        orthogonalize<T>(ctx, w, squares_[0], ld_);
        if (goal.hermitian) make_hermitian<T>(w);
        report.residual = again();
      }
    }
    report.converged = report.residual <= goal.tolerance;
    // W must not lie where the matrix is loaded.
    if (w.data == a_) {
      const MatrixView<T> moved = other(a_);
      map_entries<T, T>(ctx, w, moved, [](const T& v) { return v; });
      w = moved;
    }
    return w;
  }

  /// ||I - G||_F / sqrt(m), or ||G - G^2||_F / sqrt(rank) for a partial isometry.
  double measure(Context& ctx, MatrixView<const T> w, index_t rank) {
    T* g = squares_[0];
    T* e = squares_[1];
    if (rank == 0) return 0.0;
    const auto view = row_major(g, m_, m_);
    const bool full = rank == m_;
    Update<T> update;
    update.gamma = full ? R(-1) : R(0);
    gram<T>(ctx, w, Side::right, update, view, scratch_);
    if (!full) {
      Update<T> difference;
      difference.beta = -1;
      difference.d = view;
      hermitian_product<T>(ctx, view, view, difference, row_major(e, m_, m_), scratch_);
    }
    return frobenius_norm<T>(ctx, row_major<const T>(full ? g : e, m_, m_), partial_) /
           std::sqrt(static_cast<double>(rank));
  }

  /// Where in the workspace a square buffer of size square_stride()^2 lies.
  T* square_buffer(int i) const { return squares_[i]; }
  index_t square_stride() const { return ld_; }
  double* room() const { return partial_ + rows_; }

  /// fn(products) on the matrix in input(), rows x m.
  template <class F>
  auto with_input(Context& ctx, F&& fn) {
    return with_products(ctx, a_, b_, n_, fn);
  }

 private:
  enum class Outcome { done, svd, wide };  // wide: to be tried again in double

  std::size_t products_scratch() const {
    return std::max({product_workspace<T>(m_, n_), product_workspace<T>(m_, m_),
                     product_workspace<T>(n_, m_), apply_workspace<T>(m_, n_, threads_),
                     inverse_workspace<T>(m_, threads_)});
  }

  template <class V>
  static bool is_small_matrix(index_t n, index_t m) {
    return m <= 128 && n * m * static_cast<index_t>(sizeof(V)) <= 256 * 1024;
  }

  MatrixView<T> other(const T* than) const { return {than == a_ ? b_ : a_, n_, m_, ld_, 1}; }

  /// fn(products, where X is after them) on the tall matrix in x, rows x m; x_next is room.
  template <class F>
  auto with_products(Context& ctx, T* x, T* x_next, index_t rows, F&& fn) {
    if constexpr (!is_complex_v<T>) {
      if (small_) {
        const auto& kernels = tile_kernels<R>();
        SmallProducts<R> products{kernels, m_,     ld_,     rows, round_up(rows, kernels.rows),
                                  x,       x_next, partial_};
        return fn(products);
      }
    }
    GeneralProducts<T> products{ctx,      {x, rows, m_, ld_, 1}, Side::right, m_, partial_,
                                scratch_, squares_[0],           packed_};
    return fn(products);
  }

  template <class Reload>
  Outcome iterate(Context& ctx, const PolarGoal& goal, const Reload& reload, MatrixView<T>& w,
                  PolarReport& report) {
    bool factored = false;  // A holds Q, and squares_[3] R
    double ratio = 1;       // a lower bound on sigma_min / sigma_1
    const auto tall = [&](auto& products) -> Outcome {
      PolarIteration iteration(products, aim_, accept_, partial_ + rows_);
      T* const* s = squares_;
      if (n_ == m_ && !small_) {
        // A Gram matrix costs more than all that it would tell of a matrix far from orthogonal.
        const auto x = products.current();
        const double norm = products.norm_of_x();
        const auto power = power_estimate<T>(x.data, m_, x.row_stride, norm, partial_ + rows_);
        if (power.width > 2) {
          report.method = PolarMethod::newton;
          return newton(products, iteration, goal, std::min(norm, 1.1 * power.largest), w, report,
                        ratio);
        }
      }
      products.gram_into(s[0]);
      const auto spread = iteration.spread(s[0]);
      bool good = false;
      if (spread.width <= 0.5) {
        report.method = PolarMethod::polynomial;
        good = iteration.close(s[0], s[1], spread);
      } else if (n_ == m_) {
        report.method = PolarMethod::newton;
        return newton(products, iteration, goal, iteration.largest(s[0], spread.upper), w, report,
                      ratio);
      } else {
        const double lower = smallest_of_gram(s[0], m_, ld_, s[1], partial_ + rows_);
        if (!(lower * polar_plan::gram_form_below >= iteration.largest(s[0], spread.upper))) {
          factored = true;
          return Outcome::done;
        }
        report.method = PolarMethod::gram;
        good = iteration.gram_form(s[0], s[1], s[2], s[3], lower, spread.upper);
      }
      finish(iteration, report);
      w = products.current();
      return good ? Outcome::done : failed(goal);
    };
    Outcome outcome = with_products(ctx, a_, b_, n_, tall);
    if (outcome == Outcome::done && factored) outcome = by_qr(ctx, goal, w, report, ratio);
    if (outcome != Outcome::done) return outcome;
    // The inverse of a very ill-conditioned matrix may be good from one side only: what then comes
    // out is unitary and not the polar factor, and W^H X is not Hermitian.
    // In few dimensions there is less room.
    if (ratio < (m_ <= 64 ? 1e-2 : 1e-4) && !looks_hermitian(reload, w)) return failed(goal);
    return Outcome::done;
  }

  Outcome failed(const PolarGoal&) const {
    return std::is_same_v<R, float> ? Outcome::wide : Outcome::svd;
  }

  template <class Products, class Iteration>
  Outcome newton(Products& products, Iteration& iteration, const PolarGoal& goal, double upper,
                 MatrixView<T>& w, PolarReport& report, double& ratio) {
    Workspace room_memory = lapack_;
    const LapackRoom<T> room(m_, room_memory);
    const double cutoff =
        goal.roundoff * static_cast<double>(n_) * polar_plan::cutoff_units * upper;
    // What is near float's cutoff is looked at again in double, where the inverse is all but exact.
    const bool exact = std::is_same_v<R, double> && goal.roundoff > 1e3 * u;
    const double least = cutoff * (exact ? 1.0 : polar_plan::cutoff_margin);
    double smallest = 0;
    const double top = upper;
    if (iteration.newton(squares_[0], upper, least, room, goal.hermitian, smallest) !=
        Iteration::Newton::done)
      return failed(goal);
    ratio = smallest / top;
    products.gram_into(squares_[0]);
    // In by_qr the second buffer of X, which the first product fills.
    T* spare = squares_[2];
    const bool good = iteration.after_newton(squares_[0], squares_[1], spare, upper);
    finish(iteration, report);
    w = products.current();
    return good ? Outcome::done : failed(goal);
  }

  template <class Iteration>
  void finish(const Iteration& iteration, PolarReport& report) const {
    report.steps = iteration.steps();
    report.residual = iteration.residual() / root_;
  }

  /// Y = Q R, W = Q polar(R).
  Outcome by_qr(Context& ctx, const PolarGoal& goal, MatrixView<T>& w, PolarReport& report,
                double& ratio) {
    report.method = PolarMethod::qr;
    Workspace room_memory = lapack_;
    const LapackRoom<T> room(m_, room_memory);
    T* r = squares_[3];
    std::fill_n(r, square_, T{});
    if (!qr<T>(input_view(), r, ld_, room)) return Outcome::svd;
    MatrixView<T> factor{};
    const Outcome outcome = with_products(ctx, r, squares_[2], m_, [&](auto& products) {
      PolarIteration iteration(products, aim_ / 2, accept_, partial_ + rows_);
      if (!small_) {
        const double norm = products.norm_of_x();
        const auto power = power_estimate<T>(r, m_, ld_, norm, partial_ + rows_);
        return newton(products, iteration, goal, std::min(norm, 1.1 * power.largest), factor,
                      report, ratio);
      }
      products.gram_into(squares_[0]);
      const auto spread = iteration.spread(squares_[0]);
      const double upper = iteration.largest(squares_[0], spread.upper);
      return newton(products, iteration, goal, upper, factor, report, ratio);
    });
    if (outcome != Outcome::done) return outcome;
    w = other(a_);
    if (ld_ > m_) std::fill_n(w.data, rows_ * ld_, T{});
    constexpr index_t band = 128;
    ctx.run((n_ + band - 1) / band, [&](index_t block, int) {
      const index_t first = block * band;
      gemm<T>(false, false, std::min(band, n_ - first), m_, m_, T(1), a_ + first * ld_, ld_,
              factor.data, factor.row_stride, T(0), w.data + first * ld_, ld_);
    });
    return Outcome::done;
  }

  template <class Reload>
  Outcome in_double(Context& ctx, const PolarGoal& goal, const Reload& reload, MatrixView<T>& w,
                    PolarReport& report) {
    if constexpr (std::is_same_v<R, float>) {
      using D = wide_t<T>;
      PolarMatrix<D> wide(n_, m_, threads_);
      const WorkspaceMemory memory(wide.workspace());
      if (!memory.ok()) throw std::bad_alloc();
      wide.place(memory.view());
      const auto load = [&] {
        reload();
        map_entries<T, D>(ctx, input_view(), wide.input(),
                          [](const T& v) { return static_cast<D>(v); });
      };
      load();
      PolarGoal goal_of_wide = goal;
      if (!goal.loose) goal_of_wide.tolerance = polar_tolerance(DType::float64, n_, m_);
      const MatrixView<D> found = wide.factor(ctx, goal_of_wide, load, report);
      w = other(a_);
      map_entries<D, T>(ctx, found, w, [](const D& v) { return static_cast<T>(v); });
      return Outcome::done;
    } else {
      (void)ctx, (void)goal, (void)reload, (void)w, (void)report;
      return Outcome::svd;
    }
  }

  /// W^H Y z - Y^H W z for a random z: of the size of the skew part of W^H Y.
  template <class Reload>
  bool looks_hermitian(const Reload& reload, MatrixView<T>& w) {
    if (w.data == a_) {  // the matrix goes there
      const MatrixView<T> moved = other(a_);
      for (index_t i = 0; i < n_; ++i) std::copy_n(w.data + i * ld_, m_, moved.data + i * ld_);
      w = moved;
    }
    reload();
    const MatrixView<T> y = input_view();
    using D = wide_t<T>;
    std::vector<D> z(static_cast<std::size_t>(m_));
    std::vector<D> skew(static_cast<std::size_t>(m_));
    for (index_t j = 0; j < m_; ++j)
      z[static_cast<std::size_t>(j)] =
          std::sqrt(3.0) * random_entry(11, static_cast<std::uint64_t>(j));
    double squares = 0;
    for (index_t i = 0; i < n_; ++i) {
      D yz{};
      D wz{};
      for (index_t j = 0; j < m_; ++j) {
        yz += static_cast<D>(y(i, j)) * z[static_cast<std::size_t>(j)];
        wz += static_cast<D>(w(i, j)) * z[static_cast<std::size_t>(j)];
        squares += squared(y(i, j));
      }
      for (index_t j = 0; j < m_; ++j)
        skew[static_cast<std::size_t>(j)] +=
            conjugate(static_cast<D>(w(i, j))) * yz - conjugate(static_cast<D>(y(i, j))) * wz;
    }
    double norm = 0;
    for (const D& v : skew) norm += squared(v);
    // Measured: up to 5 sqrt(m) u ||Y||_F, an SVD's 2. Half of it is missing from Y - W P.
    return std::sqrt(norm) <= (8 + 8 * std::sqrt(static_cast<double>(m_))) * u * std::sqrt(squares);
  }

  index_t n_, m_;  // long and short side
  int threads_;
  index_t ld_, rows_, square_;  // row length, rows and square's entries with padding
  double root_;                 // sqrt(m)
  bool small_ = false;
  double aim_ = 0;
  double accept_ = 0;
  T* a_ = nullptr;
  T* b_ = nullptr;
  T* squares_[4] = {};
  double* partial_ = nullptr;
  Workspace packed_, lapack_, scratch_;
};

}  // namespace gramian::detail
