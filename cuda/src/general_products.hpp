// Products for every storage type: cuBLAS for the multiplication and an own pass over the result,
// which scales, adds, mirrors the lower triangle and sums the squares.
//
// Of a Hermitian result cuBLAS computes, from a certain size on, only the block columns from the
// diagonal down; what it leaves above the diagonal is never read.
#pragma once

#include <cstddef>
#include <optional>

#include "cublas.hpp"
#include "entrance.hpp"
#include "products.hpp"

namespace gramian::cuda {

class GeneralProducts final : public Products {
 public:
  /// X is m x n. `scratch`: scratch_bytes() of device memory, 16-byte aligned. `cublas_workspace`:
  /// cublas_workspace_bytes(device) of device memory, 256-byte aligned. Neither memory nor cuBLAS
  /// is touched before the first product.
  GeneralProducts(const Queue& queue, Storage storage, bool tf32, index_t batch, index_t m,
                  index_t n, void* cublas_workspace, std::size_t cublas_bytes, void* scratch);

  /// float16 storage always needs scratch, for products in float32: they are rounded once, after
  /// D and gamma I have been added. Other storage needs it only where gram() is called for the norm
  /// alone (`norm_alone`), as cuBLAS has to put the product somewhere: there any m x m matrices of
  /// the batch with leading(m) serve, other than those the product is made of.
  static std::size_t scratch_bytes(Storage storage, index_t batch, index_t m, bool norm_alone);

  /// As the members of the same names, for those who size memory first.
  static index_t leading(Storage storage, index_t cols);
  static index_t norm_count(Storage storage, index_t m);

  index_t leading(index_t cols) const override { return leading(storage_, cols); }
  index_t norm_count() const override { return norm_count(storage_, m_); }
  void gram(Matrices x, Matrices g, const Scalars& scalars, NormParts norm) override;
  void product(Matrices s, Matrices z, Matrices d, Matrices c, const Scalars& scalars,
               NormParts norm) override;
  void combine(Matrices g, Matrices p, const Scalars& scalars) override;
  void apply(Matrices s, Matrices x, Matrices y) override;
  /// Where out is of the storage's type and its rows or its columns are what cuBLAS can write.
  bool can_apply_to(const ArrayRef& out) const override;
  void apply_to(Matrices s, Matrices x, const ArrayRef& out) override;

 private:
  Cublas& cublas();
  void hermitian(Matrices s, Matrices z, index_t depth, Matrices d, Matrices c,
                 const Scalars& scalars, NormParts norm);
  void multiply(Matrices s, Matrices x, void* to, index_t ld, index_t stride, bool by_rows);

  Queue queue_;
  Storage storage_;
  bool tf32_;
  index_t batch_;
  index_t m_;
  index_t n_;
  void* scratch_;
  void* cublas_workspace_;
  std::size_t cublas_bytes_;
  std::optional<Cublas> cublas_;
};

}  // namespace gramian::cuda
