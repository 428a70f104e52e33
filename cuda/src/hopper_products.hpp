// Products of float16 matrices by Hopper's tensor cores (compute capability 9.0).
#pragma once

#include <vector>

#include "gramian/array_ref.hpp"
#include "gramian/cuda/queue.hpp"
#include "hopper_launch.hpp"
#include "products.hpp"

namespace gramian::cuda {

/// For devices of which is_hopper() says so.
class HopperProducts final : public Products {
 public:
  /// Of `batch` pairs of an m x m and an m x n matrix, m <= n.
  HopperProducts(const Queue& queue, index_t batch, index_t m, index_t n);

  index_t leading(index_t cols) const override { return (cols + 7) / 8 * 8; }
  index_t norm_count() const override;
  void gram(Matrices x, Matrices g, const Scalars& scalars, NormParts norm) override;
  void product(Matrices s, Matrices z, Matrices d, Matrices c, const Scalars& scalars,
               NormParts norm) override;
  void combine(Matrices g, Matrices p, const Scalars& scalars) override;
  void apply(Matrices s, Matrices x, Matrices y) override;
  bool can_apply_to(const ArrayRef& out) const override;
  void apply_to(Matrices s, Matrices x, const ArrayRef& out) override;

 private:
  const CUtensorMap& map(const Matrices& x, index_t rows, index_t cols, int box_rows);
  void hermitian(Matrices a, Matrices b, index_t depth, Matrices d, Matrices c,
                 const Scalars& scalars, NormParts norm);
  hopper::ProductArguments general(Matrices s, Matrices x);

  // The same few matrices take part again and again, and describing one takes about as long as a
  // launch.
  struct Known {
    const void* data;
    index_t rows, cols;
    int box_rows;
    CUtensorMap map;
  };

  Queue queue_;
  index_t batch_, m_, n_;
  hopper::Shape square_, gram_, long_;  // of S Z, X X^H and S X
  std::vector<Known> maps_;
};

}  // namespace gramian::cuda
