// The iteration of polar_steps.hpp: what is queued, step by step.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include "carver.hpp"
#include "entrance.hpp"
#include "float64_general.hpp"
#include "float64_product.hpp"
#include "general_products.hpp"
#include "polar_steps.hpp"

namespace gramian::cuda {

/// Work on the m x m matrices of a batch, and memory for it.
class PolarIteration {
 public:
  PolarIteration() = default;
  PolarIteration(const Queue& queue, Storage storage, index_t batch, index_t m)
      : queue_(queue),
        storage_(storage),
        batch_(batch),
        m_(m),
        tile_(float64_tile(queue, storage, batch, m)) {}

  void carve(Carver& carver) {
    memory.states = carver.take<PolarState>(batch_);
    memory.done = carver.take<int>(batch_);
    memory.calm = carver.take<int>(batch_);
    memory.scalars = carver.take<double>(3 * batch_);
    memory.defect.count = memory.other.count = float64_norm_count(m_);
    memory.defect.data = carver.take<double>(batch_ * memory.defect.count);
    memory.other.data = carver.take<double>(batch_ * memory.other.count);
    for (Matrices& s : square) s = take(carver, m_, m_);
  }

  Matrices take(Carver& carver, index_t rows, index_t cols) const {
    const index_t ld = GeneralProducts::leading(storage_, cols);
    return {carver.take<std::byte>(batch_ * rows * ld * element_size(storage_)), ld, rows * ld};
  }

  /// C <- scalars(S Z^H, D), Hermitian.
  void product(Matrices s, Matrices z, index_t depth, Matrices d, Matrices c,
               const Scalars& scalars, NormParts norm, const int* done) const {
    float64_product(queue_, storage_, batch_, m_, depth, s, z, d, c, scalars, norm, tile_, false,
                    done);
  }

  /// The polar factor of x (m x n), in x or other as the states say. `hermitian`: of Hermitian x.
  void run(const PolarAim& aim, int steps, index_t n, Matrices x, Matrices other,
           bool hermitian) const {
    const Matrices g = square[0];
    const Matrices p = square[1];
    const Scalars device{0, 0, 0, memory.scalars};
    const int* held = aim.hold ? memory.done : nullptr;
    product(x, x, n, {}, g, {}, memory.defect, held);
    product(g, g, m_, {}, {}, {}, memory.other, held);
    // No row multiplies what lies at the cutoff by more than 8.4.
    const double growth = std::log(0.25 / aim.cutoff) / std::log(9.0);
    const int sharpens_from = std::max(1, static_cast<int>(growth));
    polar_begin(queue_, storage_, batch_, aim, g, memory);
    for (int step = 0;; ++step) {
      if (step > 0) {
        product(x, x, n, {}, g, {1, 0, -1, nullptr}, memory.defect, memory.done);
        if (step >= sharpens_from)
          product(g, g, m_, g, {}, {1, 1, 0, nullptr}, memory.other, memory.calm);
        polar_decide(queue_, batch_, aim, memory, step, step == steps);
        if (step == steps) return;
      }
      product(g, g, m_, g, p, device, {}, memory.done);
      if (hermitian)  // commuting factors
        product(p, x, m_, {}, other, {}, {}, memory.done);
      else
        float64_general(queue_, storage_, batch_, m_, n, m_, 1, p, x, 0, {}, other, memory.done);
      std::swap(x, other);
    }
  }

  PolarMemory memory{};
  Matrices square[2];

 private:
  Queue queue_;
  Storage storage_ = Storage::float64;
  index_t batch_ = 0;
  index_t m_ = 0;
  int tile_ = 64;
};

/// Steps that are queued. From a cutoff of 1e-15 (1e-7 for float32) it takes up to 33 (22) to tell
/// what is below; the others are for what lies within a part in a thousand of the cutoff.
inline constexpr int polar_steps_of_double = 46;
inline constexpr int polar_steps_of_float = 34;

}  // namespace gramian::cuda
