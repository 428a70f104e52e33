#include "gramian/cuda/rsvd.hpp"

#include <algorithm>

#include "carver.hpp"
#include "cublas.hpp"
#include "rsvd_passes.hpp"
#include "thin_products.hpp"

namespace gramian::cuda {

namespace {

/// Bytes of a block of rows: a third of the second-level cache of the GPUs this is made for, so
/// that Z, Y and W have room beside it.
constexpr index_t block_bytes = index_t{16} << 20;
constexpr index_t least_rows = 16;

/// Shorter sums and smaller matrices are soon done by cuBLAS, whose kernels have less to set up
/// (2048 x 2048 with 42 vectors: in half the time; docs/notes/thin_products_gpu.md).
constexpr index_t least_thin_side = 1024;
constexpr index_t least_thin_entries = index_t{1} << 24;

cudaDataType type_of(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return CUDA_R_32F;
    case DType::float64:
      return CUDA_R_64F;
    case DType::complex64:
      return CUDA_C_32F;
    case DType::complex128:
      return CUDA_C_64F;
    default:
      throw Error("no such type of a read");
  }
}

/// How a read goes over A.
class Read {
 public:
  Read(const Queue& queue, const TwoSidedRead& r) : queue_(queue), r_(r) {
    rows_ = r.a.shape[0];
    cols_ = r.a.shape[1];
    width_ = r.z.shape[1];
    computed_ = r.z.dtype;
    size_ = gramian::element_size(computed_);
    const index_t row_stride = r.a.strides[0];
    const index_t col_stride = r.a.strides[1];
    const bool by_rows = (col_stride == 1 || cols_ == 1) && (row_stride >= cols_ || rows_ == 1);
    // cuBLAS does not conjugate without transposing.
    const bool by_columns = (row_stride == 1 || rows_ == 1) &&
                            (col_stride >= rows_ || cols_ == 1) && !is_complex(computed_);
    copied_ = r.a.dtype != computed_ || r.means.data || !(by_rows || by_columns);
    by_rows_ = copied_ || by_rows;
    ld_ = copied_ ? cols_
                  : std::max<index_t>(by_rows ? row_stride : col_stride, by_rows ? cols_ : rows_);
    const index_t wanted = block_bytes / std::max<index_t>(cols_ * size_, 1);
    block_ = copied_ ? std::min(rows_, std::max(wanted, least_rows)) : rows_;
    // Blocks of copied rows are too short for it.
    const void* const data = copied_ ? nullptr : r.a.data;
    thin_ = !copied_ && computed_ == DType::float32 && std::min(rows_, cols_) >= least_thin_side &&
            rows_ * cols_ >= least_thin_entries &&
            takes_thin_products(queue, factor(rows_, data), width_);
  }

  void carve(Carver& carver) {
    cublas_bytes_ = cublas_workspace_bytes(queue_.device);
    cublas_memory_ = carver.take<std::byte>(static_cast<index_t>(cublas_bytes_));
    if (thin_) {
      const ThinFactor all = factor(rows_, r_.a.data);
      thin_bytes_ = std::max(thin_product_workspace(queue_, all, width_),
                             thin_adjoint_product_workspace(queue_, all, width_));
      thin_memory_ = carver.take<std::byte>(static_cast<index_t>(thin_bytes_));
    }
    if (copied_) copy_ = carver.take<std::byte>(block_ * cols_ * size_);
    if (r_.w.data) product_ = carver.take<std::byte>(cols_ * width_ * size_);
    if (r_.squares.data)
      parts_ = carver.take<double>(ceil_div(rows_, std::max<index_t>(block_, 1)) * square_parts);
  }

  void run() {
    Cublas cublas(queue_, cublas_memory_, cublas_bytes_);
    index_t blocks = 0;
    for (index_t first = 0; first < rows_; first += block_, ++blocks) {
      const index_t rows = std::min(block_, rows_ - first);
      const void* const a = block_at(first, rows);
      if (r_.squares.data) {
        const Strided at{a, rows, cols_, by_rows_ ? ld_ : 1, by_rows_ ? 1 : ld_};
        sum_squares(queue_, computed_, at, parts_ + blocks * square_parts);
      }
      void* const y = at_row(r_.y, first);
      multiply(cublas, rows, a, y);
      if (!r_.w.data) continue;
      multiply_adjoint(cublas, rows, a, y);
      add_to(queue_, computed_, cols_ * width_, product_, r_.w.data, first == 0);
    }
    if (r_.squares.data)
      add_parts(queue_, parts_, blocks * square_parts, static_cast<double*>(r_.squares.data));
  }

 private:
  static index_t ceil_div(index_t a, index_t b) { return (a + b - 1) / b; }

  void* at_row(const ArrayRef& y, index_t row) const {
    return static_cast<std::byte*>(y.data) + row * width_ * size_;
  }

  const void* block_at(index_t first, index_t rows) {
    const auto* const from = static_cast<const std::byte*>(r_.a.data) +
                             first * r_.a.strides[0] * gramian::element_size(r_.a.dtype);
    if (!copied_) return from;
    const Strided block{from, rows, cols_, r_.a.strides[0], r_.a.strides[1]};
    copy_less_means(queue_, r_.a.dtype, block, computed_, r_.means.data, copy_);
    if (r_.sums.data)
      add_column_sums(queue_, computed_, rows, cols_, copy_, r_.sums.data, first == 0);
    return copy_;
  }

  ThinFactor factor(index_t rows, const void* a) const {
    return {static_cast<const float*>(a), rows, cols_, ld_, !by_rows_};
  }

  /// Y = A Z for these rows: the one place that says by what.
  void multiply(Cublas& cublas, index_t rows, const void* a, void* y) const {
    if (!thin_) return cublas.gemm(product(rows, a, y));
    thin_product(queue_, factor(rows, a), width_, static_cast<const float*>(r_.z.data), width_,
                 static_cast<float*>(y), width_, {thin_memory_, thin_bytes_});
  }

  /// And W = A^H Y.
  void multiply_adjoint(Cublas& cublas, index_t rows, const void* a, const void* y) const {
    if (!thin_) return cublas.gemm(adjoint_product(rows, a, y));
    thin_adjoint_product(queue_, factor(rows, a), width_, static_cast<const float*>(y), width_,
                         static_cast<float*>(product_), width_, {thin_memory_, thin_bytes_});
  }

  Gemm gemm() const {
    Gemm g;
    g.m = width_;
    g.type = g.type_c = type_of(computed_);
    g.lda = g.ldc = width_;
    g.ldb = ld_;
    return g;
  }

  // Row by row Y = A Z is, column by column, Y^T = Z^T A^T.
  Gemm product(index_t rows, const void* a, void* y) const {
    Gemm g = gemm();
    g.n = rows;
    g.k = cols_;
    g.a = r_.z.data;
    g.b = a;
    g.op_b = by_rows_ ? Op::none : Op::transpose;
    g.c = y;
    return g;
  }

  // And W = A^H Y is W^T = Y^T (A^T)^H.
  Gemm adjoint_product(index_t rows, const void* a, const void* y) const {
    Gemm g = gemm();
    g.n = cols_;
    g.k = rows;
    g.a = y;
    g.b = a;
    g.op_b = by_rows_ ? Op::adjoint : Op::none;
    g.c = product_;
    return g;
  }

  Queue queue_;
  const TwoSidedRead& r_;
  index_t rows_, cols_, width_, size_, ld_, block_;
  DType computed_;
  bool copied_, by_rows_;
  bool thin_ = false;
  std::size_t cublas_bytes_ = 0;
  void* cublas_memory_ = nullptr;
  std::size_t thin_bytes_ = 0;
  std::byte* thin_memory_ = nullptr;
  void* copy_ = nullptr;
  void* product_ = nullptr;
  double* parts_ = nullptr;
};

}  // namespace

void sketch(const Queue& queue, std::uint64_t seed, index_t first, const ArrayRef& z) {
  const DeviceGuard guard(queue.device);
  if (z.shape[0] * z.shape[1] > 0)
    fill_sketch(queue, seed, first, z.dtype, z.shape[0], z.shape[1], z.data);
}

std::size_t two_sided_read_workspace(const Queue& queue, const TwoSidedRead& read) {
  const DeviceGuard guard(queue.device);
  Carver counting(nullptr);
  Read(queue, read).carve(counting);
  return counting.used();
}

void two_sided_read(const Queue& queue, const TwoSidedRead& read, Workspace workspace) {
  const DeviceGuard guard(queue.device);
  Read work(queue, read);
  Carver carver(workspace.take<std::byte>(0));
  work.carve(carver);
  work.run();
}

}  // namespace gramian::cuda
