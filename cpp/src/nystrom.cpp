// Nystrom approximation of Hermitian positive semidefinite matrices.
#include <atomic>
#include <new>

#include "batch.hpp"
#include "gramian/rsvd.hpp"
#include "orthonormalize.hpp"
#include "two_sided_pass.hpp"

namespace gramian {

namespace {

using namespace detail;

template <class T>
struct Eigenpairs {
  std::vector<double> values;
  Thin<T> vectors;
  int exponent = 0;
};

/// The first read gives W = A^2 Omega, whose basis Z the second multiplies: Y = A Z. With a shift
/// nu of the size of the rounding, Y + nu Z = F C, C^H C = Z^H (Y + nu Z), and the SVD of F has the
/// eigenvectors and, less nu, the eigenvalues (Tropp, Yurtsever, Udell, Cevher 2017, algorithm 3).
template <class S, class T>
bool nystrom(Context& ctx, MatrixView<const S> a, const RsvdOptions& o, Eigenpairs<T>& out) {
  using D = wide_t<T>;
  const index_t n = a.cols;
  const index_t size = std::min(n, o.rank + o.oversample);
  Fallbacks fallbacks;
  PassState state;
  std::vector<D> means;
  Thin<T> y(n, size);
  Thin<T> w(n, size);
  const TestMatrix<T> sketch(o.seed, n, size);
  if (!two_sided_pass<S, T>(ctx, a, sketch, y, &w, state, means)) return false;
  orthonormalize(ctx, w, fallbacks);
  if (!two_sided_pass<S, T>(ctx, a, w, y, nullptr, state, means)) return false;
  const double nu =
      std::sqrt(static_cast<double>(n)) * unit_roundoff<real_t<T>> * std::sqrt(state.squares);
  for (index_t i = 0; i < n; ++i)
    for (index_t j = 0; j < size; ++j) y(i, j) += static_cast<real_t<T>>(nu) * w(i, j);
  Small<D> core = cross_gram(ctx, w, 0, size, y, 0, size);
  for (index_t i = 0; i < size; ++i)
    for (index_t j = 0; j <= i; ++j) {
      core(i, j) = (core(i, j) + conjugate(core(j, i))) / 2.0;
      core(j, i) = conjugate(core(i, j));
    }
  // F = Y C^-1, by way of the eigenvectors of the core: what is not positive is left out.
  const Eigen<D> eigen = hermitian_eigen(core);
  Small<D> inverse(size, size);
  for (index_t j = 0; j < size; ++j) {
    const double value = eigen.values[static_cast<std::size_t>(j)];
    if (value > nu / 2)
      for (index_t i = 0; i < size; ++i) inverse(i, j) = eigen.vectors(i, j) / std::sqrt(value);
  }
  Thin<T> f(n, size);
  times_small(ctx, y, inverse, real_t<T>(1), real_t<T>(0), f, 0);
  const SmallSvd<D> svd = small_svd(orthonormalize(ctx, f, fallbacks));
  Small<D> left(size, o.rank);
  for (index_t i = 0; i < size; ++i)
    for (index_t j = 0; j < o.rank; ++j) left(i, j) = svd.u(i, j);
  out.vectors = Thin<T>(n, o.rank);
  times_small(ctx, f, left, real_t<T>(1), real_t<T>(0), out.vectors, 0);
  for (index_t j = 0; j < o.rank; ++j) {
    const double s = svd.s[static_cast<std::size_t>(j)];
    out.values.push_back(std::max(s * s - nu, 0.0));
  }
  out.exponent = state.exponent;
  return true;
}

}  // namespace

Status nystrom_eigh(const ArrayRef& a, const RsvdOptions& options, const ArrayRef& w,
                    const ArrayRef& v) {
  [[maybe_unused]] static const bool blas_is_quiet = (blas_use_one_thread(), true);
  const index_t count = batch_size(a);
  std::atomic<bool> finite{true};
  std::atomic<bool> memory{true};
  with_stored_type(a.dtype, [&]<class S>() {
    using T = compute_t<S>;
    Context ctx(num_threads());
    for (index_t b = 0; b < count; ++b) try {
        Eigenpairs<T> pairs;
        const bool good = nystrom<S, T>(ctx, a.matrices<const S>()[b], options, pairs);
        if (!good) finite = false;
        const MatrixView<S> to = v.matrices<S>()[b];
        const auto nan = std::numeric_limits<real_t<T>>::quiet_NaN();
        for (index_t j = 0; j < to.cols; ++j) {
          put(w, b * to.cols + j,
              good ? std::ldexp(pairs.values[static_cast<std::size_t>(j)], pairs.exponent)
                   : std::numeric_limits<double>::quiet_NaN());
          for (index_t i = 0; i < to.rows; ++i)
            to(i, j) = round_to<S, T>(good ? pairs.vectors(i, j) : T(nan));
        }
      } catch (const std::bad_alloc&) {
        memory = false;
      }
  });
  if (!memory) return Status::out_of_memory;
  return options.check_finite && !finite ? Status::not_finite : Status::ok;
}

}  // namespace gramian
