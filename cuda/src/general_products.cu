#include "general_products.hpp"

#include <algorithm>

#include "float64_product.hpp"
#include "product_passes.cuh"

namespace gramian::cuda {

namespace {

/// Parts that sums of squares come in, and blocks that finish a matrix, at most: 4 blocks of 256
/// threads on each of some 130 multiprocessors.
constexpr index_t max_parts = 512;

/// Where half the product is worth several launches: from `panels_from` rows on, block columns of
/// `panel` columns are computed from the diagonal down.
constexpr index_t panels_from = 1024;
constexpr index_t panel = 512;

cudaDataType type_of(Storage storage) {
  switch (storage) {
    case Storage::float16:
      return CUDA_R_16F;
    case Storage::float32:
      return CUDA_R_32F;
    case Storage::float64:
      return CUDA_R_64F;
    case Storage::complex64:
      return CUDA_C_32F;
    case Storage::complex128:
      return CUDA_C_64F;
  }
  throw Error("no such storage");
}

/// Of arrays; bfloat16 is no storage.
cudaDataType type_of(DType dtype) {
  switch (dtype) {
    case DType::float16:
      return CUDA_R_16F;
    case DType::bfloat16:
      return CUDA_R_16BF;
    case DType::float32:
      return CUDA_R_32F;
    case DType::float64:
      return CUDA_R_64F;
    case DType::complex64:
      return CUDA_C_32F;
    case DType::complex128:
      return CUDA_C_64F;
  }
  throw Error("no such element type");
}

Storage raw_storage(Storage storage) {
  return storage == Storage::float16 ? Storage::float32 : storage;
}

index_t tile_side_of(Storage storage) {
  const bool is_32 = element_size(raw_storage(storage)) == 4;
  return is_32 ? tile_side<float> : tile_side<double>;
}

bool aligned(const Matrices& y, Storage storage, index_t batch) {
  const index_t size = element_size(storage);
  return reinterpret_cast<std::uintptr_t>(y.data) % vector_bytes == 0 &&
         y.ld * size % vector_bytes == 0 && (batch == 1 || y.stride * size % vector_bytes == 0);
}

template <class K>
void launch(unsigned grid, const Queue& queue, Storage storage, const K& arguments) {
  const auto start = [&](auto half, auto single, auto whole, auto complex, auto wide) {
    switch (storage) {
      case Storage::float16:
        return half<<<grid, threads, 0, queue.stream>>>(arguments);
      case Storage::float32:
        return single<<<grid, threads, 0, queue.stream>>>(arguments);
      case Storage::float64:
        return whole<<<grid, threads, 0, queue.stream>>>(arguments);
      case Storage::complex64:
        return complex<<<grid, threads, 0, queue.stream>>>(arguments);
      case Storage::complex128:
        return wide<<<grid, threads, 0, queue.stream>>>(arguments);
    }
  };
  if constexpr (std::is_same_v<K, Finish>)
    start(finish<__half>, finish<float>, finish<double>, finish<float2>, finish<double2>);
  else
    start(combine_entries<__half>, combine_entries<float>, combine_entries<double>,
          combine_entries<float2>, combine_entries<double2>);
  check(cudaGetLastError(), "launch of a pass over a product");
}

}  // namespace

GeneralProducts::GeneralProducts(const Queue& queue, Storage storage, bool tf32, index_t batch,
                                 index_t m, index_t n, void* cublas_workspace,
                                 std::size_t cublas_bytes, void* scratch)
    : queue_(queue),
      storage_(storage),
      tf32_(tf32),
      batch_(batch),
      m_(m),
      n_(n),
      scratch_(scratch),
      cublas_workspace_(cublas_workspace),
      cublas_bytes_(cublas_bytes) {}

Cublas& GeneralProducts::cublas() {
  if (!cublas_) cublas_.emplace(queue_, cublas_workspace_, cublas_bytes_);
  return *cublas_;
}

index_t GeneralProducts::leading(Storage storage, index_t cols) {
  const index_t unit = vector_bytes / element_size(storage);
  return ceil_div(cols, unit) * unit;
}

std::size_t GeneralProducts::scratch_bytes(Storage storage, index_t batch, index_t m,
                                           bool norm_alone) {
  if (storage != Storage::float16 && !norm_alone) return 0;
  const Storage raw = raw_storage(storage);
  return static_cast<std::size_t>(batch * m * leading(raw, m) * element_size(raw));
}

index_t GeneralProducts::norm_count(Storage storage, index_t m) {
  if (in_float64(storage)) return float64_norm_count(m);
  const index_t tiles = ceil_div(m, tile_side_of(storage));
  return std::min(tiles * (tiles + 1) / 2, max_parts);
}

void GeneralProducts::gram(Matrices x, Matrices g, const Scalars& scalars, NormParts norm) {
  Scalars no_d = scalars;
  no_d.beta = 0;
  hermitian(x, x, n_, {}, g, no_d, norm);
}

void GeneralProducts::product(Matrices s, Matrices z, Matrices d, Matrices c,
                              const Scalars& scalars, NormParts norm) {
  hermitian(s, z, m_, d, c, scalars, norm);
}

void GeneralProducts::hermitian(Matrices s, Matrices z, index_t depth, Matrices d, Matrices c,
                                const Scalars& scalars, NormParts norm) {
  if (norm.data && norm.count != norm_count()) throw Error("a norm has another number of parts");
  const DeviceGuard guard(queue_.device);
  if (in_float64(storage_))
    return float64_product(queue_, storage_, batch_, m_, depth, s, z, d, c, scalars, norm,
                           float64_tile(queue_, storage_, batch_, m_));
  const Storage raw_type = raw_storage(storage_);
  Matrices raw = c;
  if (!c || raw_type != storage_) {
    if (!scratch_) throw Error("a product needs scratch memory and has none");
    raw.data = scratch_;
    raw.ld = leading(raw_type, m_);
    raw.stride = m_ * raw.ld;
  }

  // Row-major S Z^H (Z = X of a Gram matrix; a Hermitian Z is its own adjoint) is column-major
  // conj(Z) S^T, whose factors lie in memory as Z^T and S^T: adjoint(Z^T) S^T.
  Gemm g;
  g.op_a = Op::adjoint;
  g.k = depth;
  g.type = type_of(storage_);
  g.lda = z.ld;
  g.stride_a = z.stride;
  g.ldb = s.ld;
  g.stride_b = s.stride;
  g.type_c = type_of(raw_type);
  g.ldc = raw.ld;
  g.stride_c = raw.stride;
  g.batch = batch_;
  g.tf32 = tf32_;
  const index_t width = m_ < panels_from ? m_ : panel;
  const auto element = [](const void* data, index_t offset, Storage type) {
    return static_cast<char*>(const_cast<void*>(data)) + offset * element_size(type);
  };
  for (index_t first = 0; first < m_; first += width) {
    g.m = std::min(width, m_ - first);
    g.n = m_ - first;
    g.a = element(z.data, first * z.ld, storage_);
    g.b = element(s.data, first * s.ld, storage_);
    g.c = element(raw.data, first * raw.ld + first, raw_type);
    cublas().gemm(g);
  }

  const index_t tiles = ceil_div(m_, tile_side_of(storage_));
  const index_t blocks = norm_count();
  Finish f{
      raw,  d, c, norm.data, scalars, m_, tiles * (tiles + 1) / 2, static_cast<unsigned>(blocks),
      false};
  f.vector = aligned(raw, raw_type, batch_) && (!d || aligned(d, storage_, batch_)) &&
             (!c || aligned(c, storage_, batch_));
  launch(grid_size(batch_ * blocks), queue_, storage_, f);
}

void GeneralProducts::combine(Matrices g, Matrices p, const Scalars& scalars) {
  const DeviceGuard guard(queue_.device);
  const index_t run = vector_bytes / element_size(storage_);
  const index_t blocks = ceil_div(m_ * ceil_div(m_, run), threads * combine_runs);
  const Combine a{g,
                  p,
                  scalars,
                  m_,
                  static_cast<unsigned>(blocks),
                  aligned(g, storage_, batch_) && aligned(p, storage_, batch_)};
  launch(grid_size(batch_ * blocks), queue_, storage_, a);
}

void GeneralProducts::apply(Matrices s, Matrices x, Matrices y) {
  multiply(s, x, y.data, y.ld, y.stride, true);
}

bool GeneralProducts::can_apply_to(const ArrayRef& out) const {
  Layout to;
  if (type_of(out.dtype) != type_of(storage_) || !wide_layout(out, to) || to.stride < 0)
    return false;
  const bool by_rows = to.across == 1 && to.down >= n_;
  const bool by_columns = to.down == 1 && to.across >= m_;
  // Elsewhere cuBLAS falls back to kernels that cost more than another pass.
  return (by_rows || by_columns) &&
         aligned({to.data, by_rows ? to.down : to.across, to.stride}, storage_, batch_);
}

void GeneralProducts::apply_to(Matrices s, Matrices x, const ArrayRef& out) {
  Layout to;
  if (!wide_layout(out, to)) throw Error("no product can be put there");
  const bool by_rows = to.across == 1 && to.down >= n_;
  multiply(s, x, to.data, by_rows ? to.down : to.across, to.stride, by_rows);
}

/// S X by rows or by columns. In memory lie, seen column by column, S^T and X^T.
void GeneralProducts::multiply(Matrices s, Matrices x, void* to, index_t ld, index_t stride,
                               bool by_rows) {
  Gemm g;
  g.m = by_rows ? n_ : m_;
  g.n = by_rows ? m_ : n_;
  g.k = m_;
  g.type = g.type_c = type_of(storage_);
  g.op_a = g.op_b = by_rows ? Op::none : Op::transpose;
  const Matrices& a = by_rows ? x : s;
  const Matrices& b = by_rows ? s : x;
  g.a = a.data;
  g.lda = a.ld;
  g.stride_a = a.stride;
  g.b = b.data;
  g.ldb = b.ld;
  g.stride_b = b.stride;
  g.c = to;
  g.ldc = ld;
  g.stride_c = stride;
  g.batch = batch_;
  g.tf32 = tf32_;
  cublas().gemm(g);
}

}  // namespace gramian::cuda
