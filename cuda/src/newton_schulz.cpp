// newton_schulz on the GPU: which road a call takes, and the memory it needs.
//
//   small matrices   one launch, each matrix in the shared memory of its block (small_matrices.hpp)
//   otherwise        in by a scaled copy, the iteration on HopperProducts or GeneralProducts, out
#include "gramian/cuda/newton_schulz.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "carver.hpp"
#include "cublas.hpp"
#include "device_properties.hpp"
#include "entrance.hpp"
#include "figures.hpp"
#include "general_products.hpp"
#include "hopper_products.hpp"
#include "newton_schulz_iteration.hpp"
#include "small_matrices.hpp"

namespace gramian::cuda {

namespace {

enum class Road { nothing, small_half, small_simt, large };

class Call {
 public:
  Call(const Queue& queue, const ArrayRef& x, const ArrayRef& out,
       const NewtonSchulzOptions& options, const NewtonSchulzInfo& info)
      : queue_(queue), x_(x), out_(out), options_(options), info_(info) {
    rows_ = x.shape[x.shape.size() - 2];
    cols_ = x.shape.back();
    m_ = std::min(rows_, cols_);
    n_ = std::max(rows_, cols_);
    batch_ = batch_size(x);
    storage_ = options.arithmetic == Arithmetic::half
                   ? Storage::float16
                   : storage_of(x.dtype, options.arithmetic == Arithmetic::float64);
    if (batch_ == 0 || m_ == 0) {
      road_ = Road::nothing;
    } else {
      // A block reads its matrix before it writes it, but knows nothing of its neighbours.
      const bool apart = !overlaps(x, out) || same_entries(x, out);
      const bool two_bytes = gramian::element_size(x.dtype) == 2;
      if (apart && options.arithmetic == Arithmetic::half && two_bytes &&
          small_half_fits(queue, rows_, cols_, options))
        road_ = Road::small_half;
      else if (apart && options.arithmetic != Arithmetic::half &&
               small_simt_fits(queue, rows_, cols_, x.dtype, options))
        road_ = Road::small_simt;
      else
        road_ = Road::large;
    }
    if (road_ != Road::large) return;
    // Sizes are 32-bit numbers in the kernels for Hopper.
    constexpr index_t most = index_t{1} << 30;
    general_ =
        storage_ != Storage::float16 || !is_hopper(queue.device) || n_ > most || batch_ > most;
    if (!general_) products_ = std::make_unique<HopperProducts>(queue_, batch_, m_, n_);
  }

  std::size_t workspace() {
    Carver carver(nullptr);
    carve(carver);
    return carver.used();
  }

  Status run(Workspace workspace) {
    if (road_ == Road::nothing) {
      clear(info_.residual);
      clear(info_.norm_bound);
      return Status::ok;
    }
    Carver carver(workspace.take<std::byte>(0));
    carve(carver);
    if (needs_measure()) measure(queue_, x_, entrance_);
    if (options_.check_finite && !finite()) return Status::not_finite;
    switch (road_) {
      case Road::small_half:
        small_half(queue_, x_, out_, options_, info_);
        break;
      case Road::small_simt:
        small_simt(queue_, x_, out_, options_, info_);
        break;
      default:
        large();
    }
    return Status::ok;
  }

 private:
  bool needs_measure() const { return road_ == Road::large || options_.check_finite; }

  Matrices take_matrices(Carver& carver, index_t cols) {
    const index_t ld = products_->leading(cols);
    return {carver.take<std::byte>(batch_ * m_ * ld * element_size(storage_)), ld, m_ * ld};
  }

  /// out as room for an iterate, where it has one: the last product is the only one to leave
  /// something there that counts.
  Matrices room_in_out() const {
    const index_t ld = products_->leading(n_);
    if (element_size(storage_) != gramian::element_size(out_.dtype) || ld != n_) return {};
    if (reinterpret_cast<std::uintptr_t>(out_.data) % 16 != 0) return {};
    index_t gapless = 1;
    const auto last = out_.shape.size() - 1;
    // Rows and columns may be in either order: it is the memory that is wanted.
    const bool row_major = out_.strides[last] == 1 || out_.shape[last] == 1;
    const bool col_major = out_.strides[last - 1] == 1 || out_.shape[last - 1] == 1;
    if (row_major && (out_.strides[last - 1] == out_.shape[last] || out_.shape[last - 1] == 1))
      gapless = m_ * n_;
    else if (col_major && (out_.strides[last] == out_.shape[last - 1] || out_.shape[last] == 1))
      gapless = m_ * n_;
    else
      return {};
    for (std::size_t d = last - 1; d-- > 0; gapless *= out_.shape[d])
      if (out_.shape[d] > 1 && out_.strides[d] != gapless) return {};
    return {out_.data, n_, m_ * n_};
  }

  void carve(Carver& carver) {
    if (general_) make_general_products(carver);
    if (needs_measure()) {
      entrance_.parts = carver.take<double>(batch_ * entrance_parts(rows_, cols_));
      entrance_.exponent = carver.take<int>(batch_);
      entrance_.norm = carver.take<double>(batch_);
    }
    if (road_ != Road::large) return;
    memory_.scalars = carver.take<double>(3 * batch_);
    memory_.norm.count = products_->norm_count();
    memory_.norm.data = carver.take<double>(batch_ * memory_.norm.count);
    for (int i = 0; i < Iteration::squares(options_); ++i)
      memory_.square[i] = take_matrices(carver, m_);

    // X passes `hops` times from one buffer to the other before the last product. Where that one
    // can write out, out's memory may serve as the buffer that it does not read.
    const int hops = Iteration::applications(options_) - 1;
    direct_ = products_->can_apply_to(out_);
    Matrices buffer[2] = {take_matrices(carver, n_), {}};
    if (hops > 0 || !direct_) {
      const bool starts_in_out = hops % 2 == 1;
      const bool too_early = starts_in_out && overlaps(x_, out_);
      if (direct_ && !too_early) buffer[1] = room_in_out();
      if (!buffer[1]) buffer[1] = take_matrices(carver, n_);
    }
    memory_.x[hops % 2] = buffer[0];
    memory_.x[1 - hops % 2] = buffer[1];
  }

  void make_general_products(Carver& carver) {
    // Of the whole workspace this piece has the strictest alignment, so it comes first.
    const std::size_t bytes = cublas_workspace_bytes(queue_.device);
    void* for_cublas = carver.take<std::byte>(static_cast<index_t>(bytes));
    const bool norm_alone = info_.residual.data != nullptr;
    void* scratch = carver.take<std::byte>(
        static_cast<index_t>(GeneralProducts::scratch_bytes(storage_, batch_, m_, norm_alone)));
    products_ =
        std::make_unique<GeneralProducts>(queue_, storage_, options_.arithmetic == Arithmetic::tf32,
                                          batch_, m_, n_, for_cublas, bytes, scratch);
  }

  /// Waits for the stream.
  bool finite() const {
    std::vector<double> parts(static_cast<std::size_t>(batch_ * entrance_parts(rows_, cols_)));
    check(cudaMemcpyAsync(parts.data(), entrance_.parts, parts.size() * sizeof(double),
                          cudaMemcpyDeviceToHost, queue_.stream),
          "reading whether x is finite");
    check(cudaStreamSynchronize(queue_.stream), "reading whether x is finite");
    return std::all_of(parts.begin(), parts.end(), [](double v) { return std::isfinite(v); });
  }

  void large() {
    enter(queue_, x_, storage_, entrance_, memory_.x[0]);
    const FirstStep first{options_.table[0], options_.normalization, options_.bound,
                          entrance_.exponent, entrance_.norm};
    Iteration iteration(*products_, options_, memory_, [&] {
      fold_first_row(queue_, batch_, first, memory_.norm, memory_.scalars, info_.norm_bound);
    });
    const auto [s, last] = iteration.run();
    if (direct_) {
      products_->apply_to(s, last, out_);
    } else {
      const Matrices y = memory_.x[last.data == memory_.x[0].data ? 1 : 0];
      products_->apply(s, last, y);
      leave(queue_, y, storage_, out_);
    }
    if (!info_.residual.data) return;
    // Of the result as returned, after its rounding.
    load(queue_, out_, storage_, last);
    products_->gram(last, {}, {1, 0, -1, nullptr}, memory_.norm);
    finish_residual(queue_, batch_, m_, memory_.norm, info_.residual);
  }

  void clear(const ArrayRef& figures) const {
    if (!figures.data || batch_ == 0) return;
    const auto bytes = static_cast<std::size_t>(batch_) *
                       static_cast<std::size_t>(gramian::element_size(figures.dtype));
    check(cudaMemsetAsync(figures.data, 0, bytes, queue_.stream), "clearing figures");
  }

  Queue queue_;
  const ArrayRef& x_;
  const ArrayRef& out_;
  const NewtonSchulzOptions& options_;
  const NewtonSchulzInfo& info_;
  index_t rows_, cols_, m_, n_, batch_;
  Storage storage_;
  Road road_;
  std::unique_ptr<Products> products_;
  bool general_ = false;
  bool direct_ = false;  // whether the last product writes out itself
  Entrance entrance_{};
  IterationMemory memory_{};
};

}  // namespace

std::size_t newton_schulz_workspace(const Queue& queue, const ArrayRef& x, const ArrayRef& out,
                                    const NewtonSchulzOptions& options,
                                    const NewtonSchulzInfo& info) {
  const DeviceGuard guard(queue.device);
  return Call(queue, x, out, options, info).workspace();
}

Status newton_schulz(const Queue& queue, const ArrayRef& x, const ArrayRef& out,
                     const NewtonSchulzOptions& options, const NewtonSchulzInfo& info,
                     Workspace workspace) {
  const DeviceGuard guard(queue.device);
  return Call(queue, x, out, options, info).run(workspace);
}

}  // namespace gramian::cuda
