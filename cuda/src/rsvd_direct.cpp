// A randomized SVD queued in one go. Steps and constants are those of python/gramian/_rsvd_gpu.py,
// which takes over where the figures say that this did not do; docs/rsvd.md, "On a GPU".
#include <algorithm>

#include "carver.hpp"
#include "gramian/cuda/rsvd.hpp"
#include "one_block.hpp"
#include "rsvd_finish.hpp"
#include "rsvd_passes.hpp"
#include "tall_float64.hpp"

namespace gramian::cuda {

namespace {

constexpr double u64 = 1.0 / 9007199254740992.0;  // 2^-53
constexpr double u32 = 1.0 / 16777216.0;          // 2^-24

class Direct {
 public:
  Direct(const Queue& queue, const DirectSvd& svd)
      : queue_(queue), d_(svd), m_(svd.a.shape[0]), n_(svd.a.shape[1]), l_(svd.z.shape[1]) {
    k_ = svd.u.data ? svd.u.shape[1] : 0;
  }

  void carve(Carver& carver) {
    for (double** small : {&gram_, &triangle_, &inverse_, &inner_, &usable_, &turn_, &divided_})
      *small = carver.take<double>(l_ * l_);
    if (d_.ritz) looks_ = carver.take<double>((d_.last - first_look() + 1) * l_ * l_);
    noise_ = carver.take<double>(l_);
    kept_ = carver.take<double>(l_);
    signs_ = carver.take<double>(l_);
    scratch_ = carver.take<double>(
        std::max({tall_gram_scratch(queue_, m_, l_, l_), tall_gram_scratch(queue_, n_, l_, l_)}));
    one_ = carver.take<double>(n_ * l_);
    two_ = carver.take<double>(n_ * l_);
    if (k_ > 0) {
      long_ = carver.take<double>(m_ * k_);
      keys_ = carver.take<unsigned long long>(largest_parts * k_);
    }
    read_bytes_ = two_sided_read_workspace(queue_, a_read(1));
    read_memory_ = carver.take<std::byte>(static_cast<index_t>(read_bytes_));
  }

  void run() {
    if (d_.first == 1 && d_.last >= 1)
      check(cudaMemsetAsync(d_.figures.data, 0, direct_values * sizeof(double), queue_.stream),
            "clearing figures");
    for (int read = d_.first; read <= d_.last; ++read) {
      // Z must be orthonormal to A's rounding where Ritz values or factors are to come of it.
      const bool looked = d_.ritz && read >= first_look();
      const bool exact = looked || (d_.ends && read == d_.last);
      if (read == 1)
        first_block(exact);
      else
        next_block(exact, read == 2);
      two_sided_read(queue_, a_read(read), {read_memory_, read_bytes_});
      if (looked) tall_gram(queue_, y(), y(), look(read), scratch_);
    }
    if (d_.ritz) {
      const index_t first = first_look();
      eigenvalues(queue_,
                  {l_, d_.last - first + 1, look(first), figures() + direct_values + first * l_},
                  small_figures());
    }
    if (k_ > 0) factors();
  }

 private:
  TwoSidedRead a_read(int read) const {
    TwoSidedRead r;
    r.a = d_.a;
    r.z = d_.z;
    r.y = d_.y;
    r.w = d_.w;
    if (read == 1) {
      r.squares = d_.figures;
      r.squares.data = figures() + direct_squares;
      r.squares.shape = {1};
      r.squares.strides = {1};
    }
    return r;
  }

  /// The first read of this call that Ritz values are wanted after.
  index_t first_look() const { return std::max(d_.first, d_.last - direct_looks + 1); }
  double* look(index_t read) const { return looks_ + (read - first_look()) * l_ * l_; }

  double* figures() const { return static_cast<double*>(d_.figures.data); }
  SmallFigures* small_figures() const { return reinterpret_cast<SmallFigures*>(figures()); }
  TallMatrix z() const { return {d_.z.data, n_, l_, true}; }
  TallMatrix y() const { return {d_.y.data, m_, l_, true}; }
  TallMatrix w() const { return {d_.w.data, n_, l_, false}; }
  TallMatrix wide(const double* x) const { return {x, n_, l_, false}; }

  /// A pivot p leaves u l / p of the columns' products with each other (docs/rsvd.md).
  double least_pivot(bool exact) const {
    const auto l = static_cast<double>(l_);
    return exact ? l * u64 / std::max(0.01 * u32, 8 * l * u64) : 1e3 * l * u64;
  }

  /// Of X^T X, into triangle_ and inverse_. Where columns need not be orthonormal to the last
  /// digit, a Gram matrix with a pivot too small is shifted.
  void factorize(const TallMatrix& x, bool exact) {
    tall_gram(queue_, x, x, gram_, scratch_);
    CholeskyRequest r{l_, gram_, least_pivot(exact)};
    if (!exact) r.shift = 4e3 * static_cast<double>(l_) * u64;
    r.triangle = triangle_;
    r.inverse = inverse_;
    cholesky(queue_, r, small_figures());
  }

  TallProduct times(const TallMatrix& x, const double* e, index_t cols, void* to) const {
    TallProduct p;
    p.x = x;
    p.e = e;
    p.e_row = l_;
    p.e_col = 1;
    p.cols = cols;
    p.c = to;
    return p;
  }

  void multiply(const TallMatrix& x, const double* e, double* to) const {
    tall_product(queue_, times(x, e, l_, to));
  }
  void multiply_into_z(const TallMatrix& x, const double* e) const {
    TallProduct p = times(x, e, l_, d_.z.data);
    p.single = true;
    tall_product(queue_, p);
  }

  void first_block(bool exact) {
    // Any basis of the sketch's space does for a read that another one follows.
    void* const to = exact ? static_cast<void*>(one_) : d_.z.data;
    fill_sketch(queue_, d_.seed, 0, DType::float32, n_, l_, to);
    if (!exact) return;
    const TallMatrix signs{one_, n_, l_, true};
    factorize(signs, true);
    multiply_into_z(signs, inverse_);
  }

  /// Z <- orth(W). After the first read, whose columns are in no order, W is first multiplied by
  /// what makes the columns of Y orthonormal, which takes the square root of its condition.
  void next_block(bool exact, bool unordered) {
    TallMatrix from = w();
    if (unordered) {
      factorize(y(), false);
      multiply(from, inverse_, one_);
      from = wide(one_);
    }
    factorize(from, false);
    if (!exact) return multiply_into_z(from, inverse_);
    multiply(from, inverse_, two_);
    factorize(wide(two_), true);
    multiply_into_z(wide(two_), inverse_);
  }

  /// As `_Iteration._by_triangle` does.
  void factors() {
    factorize(y(), true);
    tall_gram(queue_, z(), w(), inner_, scratch_);
    weigh_half_step(queue_, {l_, n_, u32, inverse_, inner_, gram_, usable_, noise_});
    // The part of W beside Z, of Q^T A beside Z.
    TallProduct p = times(z(), inner_, l_, one_);
    p.sign = -1;
    p.d = static_cast<const double*>(d_.w.data);
    tall_product(queue_, p);
    multiply(wide(one_), usable_, two_);
    tall_gram(queue_, wide(two_), wide(two_), inner_, scratch_);
    keep_columns(queue_, l_, inner_, noise_, kept_);
    // B^T = Z R^T + the rows of it that are more than rounding.
    p = times(z(), triangle_, l_, one_);
    p.e_row = 1;
    p.e_col = l_;
    p.d = two_;
    p.kept = kept_;
    tall_product(queue_, p);

    std::swap(inverse_, usable_);  // that of Y's triangle is still wanted
    factorize(wide(one_), true);
    double* const values = figures() + direct_values;
    jacobi(queue_, {l_, triangle_, 1e-9, values, turn_, divided_}, small_figures());
    TallProduct small = times({usable_, l_, l_, false}, turn_, k_, inner_);
    tall_product(queue_, small);
    p = times(y(), inner_, k_, long_);
    p.e_row = k_;
    tall_product(queue_, p);
    tall_product(queue_, times(wide(one_), divided_, k_, two_));
    write();
  }

  void write() {
    const DType dtype = d_.u.dtype;
    if (d_.sign_of_v)
      find_signs(queue_, dtype, two_, n_, k_, keys_, signs_);
    else
      find_signs(queue_, dtype, long_, m_, k_, keys_, signs_);
    write_factor(queue_, dtype, long_, m_, k_, signs_,
                 {d_.u.data, d_.u.strides[0], d_.u.strides[1]});
    write_factor(queue_, dtype, two_, n_, k_, signs_,
                 {d_.v.data, d_.v.strides[0], d_.v.strides[1]});
    write_values(queue_, figures() + direct_values, k_, static_cast<float*>(d_.s.data));
  }

  Queue queue_;
  const DirectSvd& d_;
  index_t m_, n_, l_;
  index_t k_ = 0;
  double *gram_ = nullptr, *triangle_ = nullptr, *inverse_ = nullptr, *inner_ = nullptr,
         *usable_ = nullptr, *turn_ = nullptr, *divided_ = nullptr;
  double* looks_ = nullptr;  // Gram matrices of Y, of reads
  double *noise_ = nullptr, *kept_ = nullptr, *signs_ = nullptr;
  double* scratch_ = nullptr;
  double *one_ = nullptr, *two_ = nullptr;  // n x l
  double* long_ = nullptr;                  // m x k
  unsigned long long* keys_ = nullptr;
  std::byte* read_memory_ = nullptr;
  std::size_t read_bytes_ = 0;
};

}  // namespace

index_t direct_limit_on(int device) { return one_block_side(device); }

std::size_t direct_svd_workspace(const Queue& queue, const DirectSvd& svd) {
  const DeviceGuard guard(queue.device);
  Carver counting(nullptr);
  Direct(queue, svd).carve(counting);
  return counting.used();
}

void direct_svd(const Queue& queue, const DirectSvd& svd, Workspace workspace) {
  const DeviceGuard guard(queue.device);
  Direct work(queue, svd);
  Carver carver(workspace.take<std::byte>(0));
  work.carve(carver);
  work.run();
}

void small_cholesky(const Queue& queue, const ArrayRef& gram, double least, double shift,
                    const ArrayRef& triangle, const ArrayRef& inverse, const ArrayRef& figures) {
  const DeviceGuard guard(queue.device);
  cholesky(queue,
           {gram.shape[0], static_cast<const double*>(gram.data), least, shift,
            static_cast<double*>(triangle.data), static_cast<double*>(inverse.data)},
           static_cast<SmallFigures*>(figures.data));
}

void small_values(const Queue& queue, const ArrayRef& grams, const ArrayRef& values,
                  const ArrayRef& figures) {
  const DeviceGuard guard(queue.device);
  eigenvalues(queue,
              {grams.shape[1], grams.shape[0], static_cast<const double*>(grams.data),
               static_cast<double*>(values.data)},
              static_cast<SmallFigures*>(figures.data));
}

void small_jacobi(const Queue& queue, const ArrayRef& triangle, double tolerance,
                  const ArrayRef& values, const ArrayRef& vectors, const ArrayRef& divided,
                  const ArrayRef& figures) {
  const DeviceGuard guard(queue.device);
  jacobi(queue,
         {triangle.shape[0], static_cast<const double*>(triangle.data), tolerance,
          static_cast<double*>(values.data), static_cast<double*>(vectors.data),
          static_cast<double*>(divided.data)},
         static_cast<SmallFigures*>(figures.data));
}

}  // namespace gramian::cuda
