// inverse_root and sqrt_psd over a batch: element types, layouts, overlap, scale, and which road.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <new>

#include "batch.hpp"
#include "inverse_root_matrix.hpp"
#include "thin.hpp"

namespace gramian {

namespace {

using detail::put;
using detail::RootFigures;
using detail::RootTask;

// Of the work of one matrix, in products; only whether threads are asked for depends on it.
constexpr double usual_products = 25;

/// 2^exponent with exponent = p q + r, 0 <= r < p: A = 2^exponent A' has
/// A^(-1/p) = 2^-q 2^(-r/p) A'^(-1/p), of which 2^-q is exact, and r the same for A 2^(kp).
struct Scale {
  double factor;
  int exponent;

  Scale(int of, index_t p, bool inverse) {
    const index_t q = of >= 0 ? of / p : -((-of + p - 1) / p);
    const double r = static_cast<double>(of - q * p);
    factor = std::exp2((inverse ? -r : r) / static_cast<double>(p));
    exponent = static_cast<int>(inverse ? -q : q);
  }
};

/// S: stored in, T: computed in.
template <class S, class T>
class Batch {
 public:
  using D = detail::wide_t<T>;

  Batch(const ArrayRef& a, const ArrayRef* root, const ArrayRef& inverse,
        const InverseRootOptions& options, const InverseRootInfo& info, InverseRootOutcome& outcome)
      : a_(a.matrices<const S>()),
        inverse_(inverse.matrices<S>()),
        options_(options),
        info_(info),
        outcome_(outcome) {
    if (root) root_ = root->matrices<S>();
    has_root_ = root != nullptr;
    const bool figures = info.residual.data || info.condition.data || info.largest.data;
    task_ = {options.p, options.ridge, options.tol, has_root_, figures, unit_roundoff_of_stored()};
  }

  Status run() {
    const index_t n = a_.first.rows;
    const index_t count = a_.size();
    const detail::BatchPlan plan(count, n, n, usual_products);
    Context ctx(plan.want, plan.gated);
    const std::size_t per_matrix =
        detail::IteratedRoot<T>(n, plan.shared ? ctx.size() : 1).workspace();
    const int slots = plan.shared ? 1 : ctx.size();
    const WorkspaceMemory memory(per_matrix * static_cast<std::size_t>(slots));
    if (!memory.ok()) return Status::out_of_memory;
    std::vector<double> largest;
    std::vector<Done> done;
    try {
      largest.resize(static_cast<std::size_t>(count));
      done.resize(static_cast<std::size_t>(count));
    } catch (const std::bad_alloc&) {
      return Status::out_of_memory;
    }
    detail::largest_entries<S>(ctx, a_, plan.shared, largest);
    if (options_.check_finite)
      for (double v : largest)
        if (!std::isfinite(v)) return Status::not_finite;

    const auto matrix = [&](Context& own, index_t b, Workspace workspace) {
      const auto i = static_cast<std::size_t>(b);
      done[i] = one(own, b, largest[i], workspace);
    };
    if (plan.shared) {
      for (index_t b = 0; b < count; ++b) matrix(ctx, b, memory.view());
    } else {
      ctx.run(count, [&](index_t b, int slot) {
        Workspace mine = memory.view();
        mine.take<std::byte>(static_cast<index_t>(per_matrix) * slot);
        Context serial(1, false);
        matrix(serial, b, mine);
      });
    }
    return report(done);
  }

 private:
  struct Done {
    RootFigures figures;
    bool iterated = false;
    bool widened = false;
    bool out_of_memory = false;
  };

  static double unit_roundoff_of_stored() {
    if constexpr (std::is_same_v<S, Half>)
      return 0x1p-11;
    else if constexpr (std::is_same_v<S, BFloat16>)
      return 0x1p-8;
    else
      return unit_roundoff<real_t<S>>;
  }

  Status report(const std::vector<Done>& done) {
    for (std::size_t i = 0; i < done.size(); ++i) {
      const RootFigures& f = done[i].figures;
      const auto b = static_cast<index_t>(i);
      if (done[i].out_of_memory) return Status::out_of_memory;
      put(info_.residual, b, f.residual);
      put(info_.condition, b, f.condition);
      put(info_.largest, b, f.largest);
      outcome_.steps = std::max(outcome_.steps, f.steps);
      outcome_.iterated += done[i].iterated;
      outcome_.widened += done[i].widened;
      if (f.failure == RootFailure::none) continue;
      if (outcome_.failures++ == 0) {
        outcome_.first = b;
        outcome_.failure = f.failure;
        outcome_.eigenvalue = f.eigenvalue;
      }
      outcome_.residual = std::max(outcome_.residual, f.residual);
    }
    return Status::ok;
  }

  Done one(Context& ctx, index_t b, double largest, Workspace workspace) {
    Done done;
    if (!std::isfinite(largest)) {
      fill(b, std::numeric_limits<real_t<T>>::quiet_NaN());
      const double nan = std::numeric_limits<double>::quiet_NaN();
      done.figures.residual = done.figures.condition = done.figures.largest = nan;
      done.iterated = true;  // that is, no eigenvectors were computed
      return done;
    }
    if (largest == 0) {
      fill(b, 0);
      done.figures.residual = 1;
      done.figures.condition = std::numeric_limits<double>::infinity();
      done.figures.failure = RootFailure::singular;
      return done;
    }
    int exponent = 0;
    std::frexp(largest, &exponent);
    const index_t n = a_.first.rows;
    detail::IteratedRoot<T> iterated(n, ctx.size());
    done.iterated = attempt(ctx, b, exponent, iterated, workspace, done.figures);
    if (!done.iterated) elsewhere(ctx, b, exponent, done);
    done.figures.largest = std::ldexp(done.figures.largest, exponent);
    return done;
  }

  template <class C>
  bool attempt(Context& ctx, index_t b, int exponent, detail::IteratedRoot<C>& by, Workspace memory,
               RootFigures& figures) {
    if (task_.p > largest_iterated_root) return false;
    load<C>(ctx, b, exponent, by.input(memory));
    if (!by.run(ctx, task_, memory, figures)) return false;
    store<C>(ctx, b, exponent, by.inverse(), by.root());
    return true;
  }

  /// In float64: the iteration where that is quick, else eigenvectors.
  void elsewhere(Context& ctx, index_t b, int exponent, Done& done) {
    const index_t n = a_.first.rows;
    done.widened = !std::is_same_v<real_t<T>, double>;
    detail::IteratedRoot<D> iterated(n, ctx.size());
    detail::EigenRoot<D> eigen(n);
    const bool again = done.widened;
    const WorkspaceMemory memory(std::max(again ? iterated.workspace() : 0, eigen.workspace()));
    done.out_of_memory = !memory.ok();
    if (done.out_of_memory) return;
    done.iterated = again && attempt(ctx, b, exponent, iterated, memory.view(), done.figures);
    if (done.iterated) return;
    load<D>(ctx, b, exponent, eigen.input(memory.view()));
    eigen.run(ctx, task_, memory.view(), done.figures);
    store<D>(ctx, b, exponent, eigen.inverse(), eigen.root());
  }

  void fill(index_t b, real_t<T> value) {
    const S entry = detail::round_to<S>(T(value));
    Context serial(1, false);
    for (int k = 0; k < (has_root_ ? 2 : 1); ++k) {
      const MatrixView<S> out = k ? root_[b] : inverse_[b];
      detail::map_entries<S, S>(serial, out, out, [&](const S&) { return entry; });
    }
  }

  /// to <- 2^-exponent A from its lower triangle.
  template <class C>
  void load(Context& ctx, index_t b, int exponent, MatrixView<C> to) {
    const detail::PowerOfTwo<S, C> power(-exponent);
    const MatrixView<const S> a = a_[b];
    constexpr index_t band = 32;
    ctx.run((a.rows + band - 1) / band, [&](index_t block, int) {
      const index_t last = std::min(a.rows, (block + 1) * band);
      for (index_t j0 = 0; j0 < last; j0 += band)
        for (index_t i = block * band; i < last; ++i) {
          const index_t j1 = std::min(i, j0 + band);
          for (index_t j = j0; j < j1; ++j) {
            const C v = power(a(i, j));
            to(i, j) = v;
            to(j, i) = detail::conjugate(v);
          }
        }
      for (index_t i = block * band; i < last; ++i) to(i, i) = std::real(power(a(i, i)));
    });
  }

  template <class C>
  void store(Context& ctx, index_t b, int exponent, MatrixView<const C> inverse,
             MatrixView<const C> root) {
    write<C>(ctx, Scale(exponent, task_.p, true), inverse, inverse_[b]);
    if (has_root_) write<C>(ctx, Scale(exponent, 2, false), root, root_[b]);
  }

  template <class C>
  static void write(Context& ctx, const Scale& scale, MatrixView<const C> from, MatrixView<S> to) {
    // Powers of two out of double's range in two factors.
    const double first = scale.factor * std::ldexp(1.0, scale.exponent / 2);
    const double second = std::ldexp(1.0, scale.exponent - scale.exponent / 2);
    using R = real_t<C>;
    const auto number = [&](R v) {
      return static_cast<real_t<T>>(static_cast<double>(v) * first * second);
    };
    detail::map_entries<C, S>(ctx, from, to, [&](const C& v) {
      if constexpr (is_complex_v<C>)
        return detail::round_to<S>(T(number(v.real()), number(v.imag())));
      else
        return detail::round_to<S>(number(v));
    });
  }

  BatchView<const S> a_;
  BatchView<S> inverse_;
  BatchView<S> root_{};
  bool has_root_ = false;
  const InverseRootOptions& options_;
  const InverseRootInfo& info_;
  InverseRootOutcome& outcome_;
  RootTask task_{};
};

/// Entries written before they are read would corrupt the input; the same entries in the same
/// places are safe, as a matrix is read whole before its result is written.
bool must_copy(const ArrayRef& a, const ArrayRef& out) {
  return overlaps(a, out) && !same_entries(a, out);
}

template <class S>
Status run(const ArrayRef& a, const ArrayRef* root, const ArrayRef& inverse,
           const InverseRootOptions& options, const InverseRootInfo& info,
           InverseRootOutcome& outcome) {
  using R = std::conditional_t<std::is_same_v<real_t<S>, double>, double, float>;
  using T = std::conditional_t<is_complex_v<S>, std::complex<R>, R>;
  if (!must_copy(a, inverse) && !(root && must_copy(a, *root)))
    return Batch<S, T>(a, root, inverse, options, info, outcome).run();
  ArrayRef copy = a;
  index_t size = 1;
  for (std::size_t d = a.shape.size(); d-- > 0; size *= a.shape[d]) copy.strides[d] = size;
  const WorkspaceMemory memory(static_cast<std::size_t>(size) * sizeof(S));
  if (!memory.ok()) return Status::out_of_memory;
  copy.data = memory.view().take<S>(size);
  Context serial(1, false);
  const auto from = a.matrices<const S>();
  const auto to = copy.matrices<S>();
  for (index_t b = 0; b < from.size(); ++b)
    detail::map_entries<S, S>(serial, from[b], to[b], [](const S& v) { return v; });
  return Batch<S, T>(copy, root, inverse, options, info, outcome).run();
}

Status dispatch(const ArrayRef& a, const ArrayRef* root, const ArrayRef& inverse,
                const InverseRootOptions& options, const InverseRootInfo& info,
                InverseRootOutcome& outcome) {
  // Also where nothing else of the library is linked that would say so.
  [[maybe_unused]] static const bool blas_is_quiet = (detail::blas_use_one_thread(), true);
  outcome = {};
  const index_t batch = batch_size(a);
  if (batch == 0) return Status::ok;
  if (detail::has_no_entries(a)) {
    for (index_t b = 0; b < batch; ++b) {
      put(info.residual, b, 0.0);
      put(info.condition, b, 1.0);
      put(info.largest, b, 0.0);
    }
    return Status::ok;
  }
  return detail::with_stored_type(
      a.dtype, [&]<class S>() { return run<S>(a, root, inverse, options, info, outcome); });
}

}  // namespace

Status inverse_root(const ArrayRef& a, const ArrayRef& out, const InverseRootOptions& options,
                    const InverseRootInfo& info, InverseRootOutcome& outcome) {
  return dispatch(a, nullptr, out, options, info, outcome);
}

Status sqrt_psd(const ArrayRef& a, const ArrayRef& root, const ArrayRef& inverse,
                const InverseRootOptions& options, InverseRootOutcome& outcome) {
  InverseRootOptions square = options;
  square.p = 2;
  square.ridge = 0;
  return dispatch(a, &root, inverse, square, {}, outcome);
}

}  // namespace gramian
