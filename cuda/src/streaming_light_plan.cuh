// What becomes of rows in random order: one warp looks at their squared norms, one after the other.
#pragma once

#include "carver.hpp"
#include "element.cuh"
#include "gramian/cuda/streaming.hpp"

namespace gramian::cuda {

namespace {

constexpr unsigned all_lanes = 0xffffffffu;
using Figure = HeavyLayout;

struct LightRoom {
  double* squares = nullptr;   // of each row, weighted
  index_t* sources = nullptr;  // of the light rows, in order: see source_of_heavy
  double* source_squares = nullptr;
  double* products = nullptr;  // of the light rows with z
  index_t* slots = nullptr;    // where the rows kept come from
  double* norms = nullptr;     // of each block's columns of the sum
  index_t* light = nullptr;    // how many light rows there are
  std::size_t bytes = 0;

  LightRoom(std::byte* base, const HeavyLayout& layout, index_t rows, index_t blocks) {
    Carver carver(base);
    squares = carver.take<double>(rows);
    sources = carver.take<index_t>(rows + layout.most);
    source_squares = carver.take<double>(rows + layout.most);
    products = carver.take<double>(rows + layout.most);
    slots = carver.take<index_t>(layout.most + 1);
    norms = carver.take<double>(blocks);
    light = carver.take<index_t>(1);
    bytes = carver.used();
  }
};

struct LightCall {
  const void* x;
  index_t rows, features, row_stride, col_stride;
  const double* weights;  // or null
  double heavy_part;      // of |A|_F^2
  HeavyState state;
  LightRoom room;
};

/// Rows that were kept before this piece, in place of a row's number.
__device__ index_t source_of_heavy(index_t slot) { return -1 - slot; }

/// Looks at the rows one by one, as the CPU does, by one warp. Every lane has the same numbers.
class Plan {
 public:
  __device__ explicit Plan(const LightCall& a)
      : a_(a),
        lane_(static_cast<int>(threadIdx.x) % 32),
        most_(static_cast<index_t>(a.state.figures[Figure::most_figure])),
        kept_(static_cast<index_t>(a.state.figures[Figure::kept])),
        squares_(a.state.figures[Figure::squares]) {}

  __device__ void run() {
    for (index_t s = lane_; s < kept_; s += 32) a_.room.slots[s] = source_of_heavy(s);
    __syncwarp();
    find_least();
    for (index_t first = 0; first < a_.rows; first += 32) {
      const double mine = first + lane_ < a_.rows ? a_.room.squares[first + lane_] : 0.0;
      if (!all_light(first, mine))
        for (int k = 0; k < 32; ++k) add(first + k, __shfl_sync(all_lanes, mine, k));
    }
    if (lane_ == 0) {
      a_.state.figures[Figure::squares] = squares_;
      a_.state.figures[Figure::kept] = static_cast<double>(kept_);
      *a_.room.light = light_;
    }
  }

 private:
  /// 32 rows at once where nothing is kept and nothing dropped, with the same sums.
  __device__ bool all_light(index_t first, double mine) {
    double sum = squares_;
    double until_mine = 0;
    for (int k = 0; k < 32; ++k) {
      sum += __shfl_sync(all_lanes, mine, k);
      if (k == lane_) until_mine = sum;
    }
    const bool light = mine == 0 || mine < a_.heavy_part * until_mine;
    const bool nothing_dropped = kept_ == 0 || least_ >= a_.heavy_part * sum;
    if (!__all_sync(all_lanes, light && nothing_dropped)) return false;
    const unsigned present = __ballot_sync(all_lanes, mine != 0);
    if (mine != 0) {
      const index_t at = light_ + __popc(present & ((1u << lane_) - 1));
      a_.room.sources[at] = first + lane_;
      a_.room.source_squares[at] = mine;
    }
    light_ += __popc(present);
    squares_ = sum;
    return true;
  }

  __device__ void add(index_t row, double square) {
    if (square == 0) return;
    squares_ += square;
    const double bar = a_.heavy_part * squares_;
    // |A|_F has outgrown some of the rows kept.
    while (kept_ > 0 && !(least_ >= bar)) drop();
    if (square < bar) return take_light(row, square);
    if (kept_ == most_) {
      if (kept_ == 0 || least_ >= square) return take_light(row, square);
      drop();
    }
    if (lane_ == 0) {
      a_.room.slots[kept_] = row;
      a_.state.heavy_squares[kept_] = square;
    }
    // The first of equal ones is the lightest.
    if (kept_ == 0 || square < least_) {
      least_ = square;
      least_slot_ = kept_;
    }
    ++kept_;
    __syncwarp();
  }

  /// The lightest of the rows kept goes the way of the light ones; the last one takes its slot.
  __device__ void drop() {
    const index_t slot = least_slot_;
    take_light(a_.room.slots[slot], a_.state.heavy_squares[slot]);
    --kept_;
    __syncwarp();
    if (slot != kept_ && lane_ == 0) {
      a_.room.slots[slot] = a_.room.slots[kept_];
      a_.state.heavy_squares[slot] = a_.state.heavy_squares[kept_];
    }
    __syncwarp();
    find_least();
  }

  __device__ void take_light(index_t source, double square) {
    if (lane_ == 0) {
      a_.room.sources[light_] = source;
      a_.room.source_squares[light_] = square;
    }
    ++light_;
  }

  /// The first of the lightest rows that are kept; of numbers that are none, any.
  __device__ void find_least() {
    double value = INFINITY;
    index_t slot = kept_;
    for (index_t s = lane_; s < kept_; s += 32) {
      const double v = a_.state.heavy_squares[s];
      if (slot == kept_ || v < value) {
        value = v;
        slot = s;
      }
    }
#pragma unroll
    for (int d = 16; d > 0; d /= 2) {
      const double other = __shfl_xor_sync(all_lanes, value, d);
      const index_t other_slot = __shfl_xor_sync(all_lanes, slot, d);
      if (other_slot < kept_ &&
          (slot >= kept_ || other < value || (!(value < other) && other_slot < slot))) {
        value = other;
        slot = other_slot;
      }
    }
    // Lanes may disagree where there is NaN.
    least_ = __shfl_sync(all_lanes, value, 0);
    least_slot_ = __shfl_sync(all_lanes, slot, 0);
  }

  const LightCall& a_;
  int lane_;
  index_t most_, kept_;
  index_t light_ = 0;
  double squares_;
  double least_ = 0;
  index_t least_slot_ = 0;
};

}  // namespace

}  // namespace gramian::cuda
