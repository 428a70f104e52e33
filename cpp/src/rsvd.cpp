// Randomized SVD over a batch: element types, orientation, signs, and how threads share the work.
#include "gramian/rsvd.hpp"

#include <atomic>
#include <new>

#include "batch.hpp"
#include "rsvd_certified.hpp"

namespace gramian {

namespace {

using detail::Thin;

template <class S>
using single_precision_t =
    std::conditional_t<std::is_same_v<S, Half> || std::is_same_v<S, BFloat16>, float, S>;
template <class S>
using double_precision_t = std::conditional_t<is_complex_v<S>, std::complex<double>, double>;

/// How the work of a batch is shared: `products` products of each matrix with so many vectors.
detail::BatchPlan plan_batch(const ArrayRef& a, index_t vectors) {
  const index_t rows = a.shape[a.shape.size() - 2];
  const index_t cols = a.shape.back();
  const double products = 8.0 * static_cast<double>(vectors) /
                          static_cast<double>(std::max<index_t>(std::min(rows, cols), 1));
  return {batch_size(a), rows, cols, products};
}

/// fn(context, b) for each matrix; false where memory ran out.
template <class F>
bool for_each_matrix(const ArrayRef& a, index_t vectors, F&& fn) {
  const detail::BatchPlan plan = plan_batch(a, vectors);
  Context ctx(plan.want, plan.gated);
  const index_t count = batch_size(a);
  std::atomic<bool> memory{true};
  const auto one = [&](Context& own, index_t b) {
    try {
      fn(own, b);
    } catch (const std::bad_alloc&) {
      memory = false;
    }
  };
  if (plan.shared) {
    for (index_t b = 0; b < count; ++b) one(ctx, b);
  } else {
    ctx.run(count, [&](index_t b, int) {
      Context serial(1, false);
      one(serial, b);
    });
  }
  return memory;
}

}  // namespace

/// U and V of one matrix in its own orientation; complex double holds every type's values exactly.
struct Rsvd::Factors {
  virtual ~Factors() = default;
  virtual void write(const ArrayRef& u, const ArrayRef& s, const ArrayRef& vh, index_t b,
                     index_t k) const = 0;
};

namespace {

template <class S, class T>
struct Computed {
  detail::MatrixFactors<T> f;
  bool transposed = false;  // f holds the factors of the transpose
  bool finite = true;
};

/// A matrix with its long side down, unless start vectors fix the side.
template <class S>
struct Oriented {
  MatrixView<const S> a;
  bool transposed;
  detail::Centering centering;

  Oriented(MatrixView<const S> x, const RsvdOptions& options) : a(x) {
    transposed = x.rows < x.cols && !options.start.data;
    if (transposed) a = x.transposed();
    centering = !options.center ? detail::Centering::none
                : transposed    ? detail::Centering::rows
                                : detail::Centering::columns;
  }
};

template <class S>
MatrixView<const S> start_of(const RsvdOptions& options, index_t b) {
  if (!options.start.data) return {};
  return options.start.matrices<const S>()[b];
}

}  // namespace

namespace {

template <class Base, class S, class T>
struct FactorsOf final : Base {
  Computed<S, T> c;

  void write(const ArrayRef& u, const ArrayRef& s, const ArrayRef& vh, index_t b,
             index_t k) const override {
    const Thin<T>& left = c.transposed ? c.f.v : c.f.u;
    const Thin<T>& right = c.transposed ? c.f.u : c.f.v;
    const bool bad = !c.finite;
    const double nan = std::numeric_limits<double>::quiet_NaN();
    // A^T = P S Q^H gives A = conj(Q) S P^T.
    const auto u_entry = [&](index_t i, index_t j) {
      return c.transposed ? detail::conjugate(left(i, j)) : left(i, j);
    };
    // By the magnitudes as they will be returned, so that it is exact for real types: ties there go
    // to the first.
    std::vector<T> phase(static_cast<std::size_t>(k), T(1));
    std::vector<index_t> largest(static_cast<std::size_t>(k), -1);
    for (index_t j = 0; j < k && !bad; ++j) {
      const auto at = static_cast<std::size_t>(j);
      double top = 0;
      for (index_t i = 0; i < left.rows; ++i) {
        const double size =
            detail::squared(detail::PowerOfTwo<S, T>(0)(detail::round_to<S, T>(left(i, j))));
        if (size > top) {
          top = size;
          largest[at] = i;
        }
      }
      if (top > 0) {
        const T entry = u_entry(largest[at], j);
        phase[at] = detail::conjugate(entry) / T(std::abs(entry));
      }
    }
    if (u.data) {
      const MatrixView<S> to = u.matrices<S>()[b];
      for (index_t i = 0; i < to.rows; ++i)
        for (index_t j = 0; j < k; ++j)
          to(i, j) =
              bad ? detail::round_to<S, T>(T(static_cast<real_t<T>>(nan)))
              : i == largest[static_cast<std::size_t>(j)]
                  ? detail::round_to<S, T>(T(std::abs(u_entry(i, j))))
                  : detail::round_to<S, T>(u_entry(i, j) * phase[static_cast<std::size_t>(j)]);
    }
    if (vh.data) {
      const MatrixView<S> to = vh.matrices<S>()[b];
      for (index_t j = 0; j < k; ++j)
        for (index_t i = 0; i < to.cols; ++i) {
          const T v = bad            ? T(static_cast<real_t<T>>(nan))
                      : c.transposed ? right(i, j)
                                     : detail::conjugate(right(i, j));
          to(j, i) =
              detail::round_to<S, T>(v * detail::conjugate(phase[static_cast<std::size_t>(j)]));
        }
    }
    if (s.data)
      for (index_t j = 0; j < k; ++j)
        detail::put(s, b * k + j,
                    bad ? nan : std::ldexp(c.f.s[static_cast<std::size_t>(j)], c.f.exponent));
  }
};

}  // namespace

Rsvd::Rsvd() = default;
Rsvd::~Rsvd() = default;

Status Rsvd::compute(const ArrayRef& a, const RsvdOptions& options) {
  [[maybe_unused]] static const bool blas_is_quiet = (detail::blas_use_one_thread(), true);
  const index_t count = batch_size(a);
  const auto size = static_cast<std::size_t>(count);
  const index_t side = std::min(a.shape.back(), a.shape[a.shape.size() - 2]);
  RsvdOptions own = options;
  own.rank = std::min(own.rank, side);
  const auto run = [&]<class S, class T>(const RsvdOptions& o, index_t from_rank) {
    return for_each_matrix(a, std::min(side, o.rank + o.oversample), [&](Context& ctx, index_t b) {
      const auto at = static_cast<std::size_t>(b);
      if (from_rank > 0 && figures_[at].rank >= from_rank) return;
      const Oriented<S> x(a.matrices<const S>()[b], o);
      auto factors = std::make_unique<FactorsOf<Factors, S, T>>();
      figures_[at] = {};
      Computed<S, T>& c = factors->c;
      c.transposed = x.transposed;
      if constexpr (std::is_same_v<real_t<T>, double>) {
        if (o.tolerance > 0)
          c.finite =
              detail::CertifiedRsvd<S, T>(ctx, x.a, start_of<S>(o, b), o, x.centering, figures_[at])
                  .run(c.f);
      }
      if (!(o.tolerance > 0))
        c.finite =
            detail::MatrixRsvd<S, T>(ctx, x.a, start_of<S>(o, b), o, x.centering, figures_[at])
                .run(c.f);
      if (!c.finite) {
        figures_[at].rank = o.tolerance > 0 ? 0 : o.rank;
        figures_[at].error = std::numeric_limits<double>::quiet_NaN();
        figures_[at].passes = 1;
      }
      factors_[at] = std::move(factors);
    });
  };
  try {
    figures_.assign(size, {});
    factors_.clear();
    factors_.resize(size);
    const bool memory = detail::with_stored_type(a.dtype, [&]<class S>() {
      if (!(own.tolerance > 0)) return run.template operator()<S, single_precision_t<S>>(own, 0);
      if (!run.template operator()<S, double_precision_t<S>>(own, 0)) return false;
      index_t most = 1;
      for (const RsvdFigures& f : figures_) most = std::max(most, f.rank);
      own.least_rank = most;
      return run.template operator()<S, double_precision_t<S>>(own, most);
    });
    if (!memory) return Status::out_of_memory;
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
  rank_ = own.tolerance > 0 ? own.least_rank : own.rank;
  if (options.check_finite)
    for (const RsvdFigures& f : figures_)
      if (std::isnan(f.error)) return Status::not_finite;
  return Status::ok;
}

void Rsvd::write(const ArrayRef& u, const ArrayRef& s, const ArrayRef& vh) const {
  for (std::size_t b = 0; b < factors_.size(); ++b)
    factors_[b]->write(u, s, vh, static_cast<index_t>(b), rank_);
}

bool all_finite(const ArrayRef& a) {
  return detail::with_stored_type(a.dtype, [&]<class S>() {
    const auto x = a.matrices<const S>();
    for (index_t b = 0; b < x.size(); ++b)
      if (!std::isfinite(detail::largest_entry<S>(x[b]))) return false;
    return true;
  });
}

Status range_finder(const ArrayRef& a, const RsvdOptions& options, const ArrayRef& q,
                    std::vector<RsvdFigures>& figures) {
  [[maybe_unused]] static const bool blas_is_quiet = (detail::blas_use_one_thread(), true);
  std::atomic<bool> finite{true};
  try {
    figures.assign(static_cast<std::size_t>(batch_size(a)), {});
    const bool memory = detail::with_stored_type(a.dtype, [&]<class S>() {
      using T = single_precision_t<S>;
      return for_each_matrix(a, options.rank, [&](Context& ctx, index_t b) {
        const Oriented<S> x(a.matrices<const S>()[b], options);
        Thin<T> basis;
        const bool good = detail::MatrixRsvd<S, T>(ctx, x.a, {}, options, x.centering,
                                                   figures[static_cast<std::size_t>(b)])
                              .basis(x.transposed, basis);
        if (!good) finite = false;
        const MatrixView<S> to = q.matrices<S>()[b];
        for (index_t i = 0; i < to.rows; ++i)
          for (index_t j = 0; j < to.cols; ++j)
            to(i, j) = detail::round_to<S, T>(!good ? T(std::numeric_limits<real_t<T>>::quiet_NaN())
                                              : x.transposed ? detail::conjugate(basis(i, j))
                                                             : basis(i, j));
      });
    });
    if (!memory) return Status::out_of_memory;
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
  return options.check_finite && !finite ? Status::not_finite : Status::ok;
}

}  // namespace gramian
