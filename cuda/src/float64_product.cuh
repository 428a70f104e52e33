// The kernel of float64_product.hpp.
//
// A block computes one square tile of the lower triangle. Strips of both factors, 128 bytes to a
// row, pass through a ring in shared memory (cp.async). Each row keeps its 16-byte pieces in an
// order of its own, such that whatever a warp reads at once meets each bank equally often: piece p
// of row r lies at p ^ 2 (r % 4) for real entries, of which half a warp reads four in each of four
// rows, and at p ^ 4 (r % 2) for complex ones, of which a quarter of a warp reads four in each of
// two rows. The real and the imaginary part of a complex entry go into one instruction as two
// columns of it.
#pragma once

#include "dependent_launch.cuh"
#include "element.cuh"
#include "product_passes.cuh"
#include "products.hpp"

namespace gramian::cuda::float64 {

struct Arguments {
  Matrices s, z, d, c;
  Scalars scalars;
  double* norm;
  index_t norm_count;
  index_t m, depth;
  index_t tiles;  // of the lower triangle
  bool triangular;
  const int* done;  // of each matrix of the batch, or null
};

/// Sums of squares come in parts for squares of this side, with the same bits whatever the tile.
inline constexpr int part_side = 32;

template <bool is_complex, int tile_side_>
struct Shape {
  static constexpr int tile = tile_side_;
  using T = std::conditional_t<is_complex, double2, double>;
  static constexpr int warps_down = 2;
  static constexpr int warps_across = 2;
  static constexpr int threads = 32 * warps_down * warps_across;
  static constexpr int warp_rows = tile / warps_down;
  static constexpr int warp_cols = tile / warps_across;
  static constexpr int down = warp_rows / 16;   // instructions
  static constexpr int across = warp_cols / 8;  // instructions
  static constexpr int strip_bytes = 128;
  static constexpr int strip = strip_bytes / static_cast<int>(sizeof(T));
  static constexpr int stages = 4;
  __device__ static int turn(int row) { return is_complex ? (row & 1) << 2 : (row & 3) << 1; }
  static constexpr unsigned stage_bytes = 2 * tile * strip_bytes;
  static constexpr unsigned shared_bytes = stages * stage_bytes;
  __device__ static unsigned after(unsigned stage) {
    return stage + stage_bytes == shared_bytes ? 0 : stage + stage_bytes;
  }
  __device__ static unsigned before(unsigned stage) {
    return stage == 0 ? shared_bytes - stage_bytes : stage - stage_bytes;
  }
  // As registers permit: accumulators of complex tiles take twice as many.
  static constexpr int blocks_per_sm = tile == 64 ? (is_complex ? 1 : 2) : 4;
};

/// c += a b, a 16 x 8 and b 8 x 8. With g and t the quotient and the remainder of the lane by 4,
/// the thread holds of a rows g and g + 8 in column t, then in column t + 4; of b rows t and t + 4
/// in column g; of c columns 2t and 2t + 1 in row g, then in row g + 8.
__device__ __forceinline__ void multiply_add(double (&c)[4], const double (&a)[4],
                                             const double (&b)[2]) {
#if __CUDA_ARCH__ >= 900
  asm("mma.sync.aligned.m16n8k8.row.col.f64.f64.f64.f64.rn {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+d"(c[0]), "+d"(c[1]), "+d"(c[2]), "+d"(c[3])
      : "d"(a[0]), "d"(a[1]), "d"(a[2]), "d"(a[3]), "d"(b[0]), "d"(b[1]));
#else
  const auto part = [](double& c0, double& c1, double x, double y) {
    asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64.rn {%0,%1}, {%2}, {%3}, {%0,%1};"
        : "+d"(c0), "+d"(c1)
        : "d"(x), "d"(y));
  };
  part(c[0], c[1], a[0], b[0]);
  part(c[2], c[3], a[1], b[0]);
  part(c[0], c[1], a[2], b[1]);
  part(c[2], c[3], a[3], b[1]);
#endif
}

/// 16 bytes to shared memory, of which the first `bytes` come from `from` and the others are zero.
__device__ __forceinline__ void copy_async(unsigned to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}

/// Brings one strip of S and Z after the other into the ring. A thread always copies the same piece
/// of a strip, of every (threads / 8)-th row.
template <class Shape>
class Feed {
  using T = typename Shape::T;
  static constexpr int pieces = Shape::strip_bytes / 16;
  static constexpr int rows_at_once = Shape::threads / pieces;
  static constexpr int tile = Shape::tile;
  static constexpr int each = tile / rows_at_once;  // per factor and thread
  static_assert(each * rows_at_once == tile && rows_at_once % 4 == 0);

 public:
  __device__ Feed(const Arguments& a, index_t b, index_t i0, index_t j0, index_t depth,
                  unsigned ring)
      : s_step_(a.s.ld * rows_at_once), z_step_(a.z.ld * rows_at_once) {
    const int row = static_cast<int>(threadIdx.x) / pieces;
    const int piece = static_cast<int>(threadIdx.x) % pieces;
    const int column = piece * (16 / static_cast<int>(sizeof(T)));
    left_ = depth - column;
    to_ =
        ring + static_cast<unsigned>(row * Shape::strip_bytes + ((piece ^ Shape::turn(row)) << 4));
    s_rows_ = inside(a.m - i0 - row);
    z_rows_ = inside(a.m - j0 - row);
    s_ = static_cast<const T*>(a.s.data) + b * a.s.stride + (i0 + row) * a.s.ld + column;
    z_ = static_cast<const T*>(a.z.data) + b * a.z.stride + (j0 + row) * a.z.ld + column;
  }

  /// The next strip, if there is one, to its place in the ring.
  __device__ __forceinline__ void next(unsigned stage) {
    constexpr int whole = 16 / static_cast<int>(sizeof(T));
    const int bytes = left_ >= whole ? 16 : left_ > 0 ? static_cast<int>(sizeof(T)) : 0;
    if (left_ > -Shape::strip) {
      rows(to_ + stage, s_, s_step_, s_rows_, bytes);
      rows(to_ + stage + tile * Shape::strip_bytes, z_, z_step_, z_rows_, bytes);
    }
    left_ -= Shape::strip;
    s_ += Shape::strip;
    z_ += Shape::strip;
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

 private:
  /// How many of this thread's rows lie inside the matrix, given how many rows are left.
  __device__ static int inside(index_t rows) {
    const index_t count = rows <= 0 ? 0 : (rows + rows_at_once - 1) / rows_at_once;
    return count < each ? static_cast<int>(count) : each;
  }

  __device__ __forceinline__ void rows(unsigned to, const T* from, index_t step, int inside,
                                       int bytes) {
#pragma unroll
    for (int i = 0; i < each; ++i) {
      // Of an address outside the matrix no byte is read.
      copy_async(to + static_cast<unsigned>(i * rows_at_once * Shape::strip_bytes), from,
                 i < inside ? bytes : 0);
      from += step;
    }
  }

  index_t s_step_, z_step_;
  index_t left_;  // of the depth, from this thread's piece on
  unsigned to_;
  int s_rows_, z_rows_;
  const T* s_;
  const T* z_;
};

/// Entry by entry: scaled, added to, measured, written and mirrored.
template <class Shape>
class Exit {
  using T = typename Shape::T;

 public:
  __device__ Exit(const Arguments& a, index_t b)
      : a_(a),
        update_(a.scalars, b),
        d_(a.d.data ? static_cast<const T*>(a.d.data) + b * a.d.stride : nullptr),
        c_(a.c.data ? static_cast<T*>(a.c.data) + b * a.c.stride : nullptr) {}

  /// Entries (i, j) and (i, j + 1); their squares are added to `sum`.
  __device__ void put(index_t i, index_t j, T v0, T v1, double& sum) {
    if (i >= a_.m || j > i) return;
    const bool pair = j + 1 <= i;
    T d0{};
    T d1{};
    if (d_) {
      d0 = d_[i * a_.d.ld + j];
      if (pair) d1 = d_[i * a_.d.ld + j + 1];
    }
    v0 = update_(v0, d0, i == j);
    sum += (i == j ? 1.0 : 2.0) * square(v0);
    if (pair) {
      v1 = update_(v1, d1, i == j + 1);
      sum += (i == j + 1 ? 1.0 : 2.0) * square(v1);
    }
    if (!c_) return;
    T* const to = c_ + i * a_.c.ld + j;
    if (pair && sizeof(T) == 8) {
      T both[2] = {v0, v1};
      uint4 bits;
      memcpy(&bits, both, sizeof bits);
      *reinterpret_cast<uint4*>(to) = bits;  // j is even and rows are aligned
    } else {
      to[0] = v0;
      if (pair) to[1] = v1;
    }
    if (i != j) c_[j * a_.c.ld + i] = conjugate(v0);
    if (pair && i != j + 1) c_[(j + 1) * a_.c.ld + i] = conjugate(v1);
  }

 private:
  const Arguments& a_;
  Coefficients<double> update_;
  const T* d_;
  T* c_;
};

/// Tile t of the lower triangle, row by row: row I begins at I (I + 1) / 2.
__device__ inline void find_tile(index_t t, index_t& I, index_t& J) {
  I = static_cast<index_t>((sqrt(8.0 * static_cast<double>(t) + 1) - 1) / 2);
  while (I * (I + 1) / 2 > t) --I;
  while ((I + 1) * (I + 2) / 2 <= t) ++I;
  J = t - I * (I + 1) / 2;
}

/// The oldest strip under way has arrived, for all threads.
template <class Shape>
__device__ __forceinline__ void wait_for_strip() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Shape::stages - 2) : "memory");
  __syncthreads();
}

/// A thread's entries of half a strip.
template <class Shape>
class Fragments {
  static constexpr int down = Shape::down;
  static constexpr int across = Shape::across;
  static constexpr bool is_complex = sizeof(typename Shape::T) == 16;

 public:
  /// Where a thread reads: its first rows of S and of Z, equal modulo 8, and its column.
  struct Place {
    unsigned s, z, column, flip;

    __device__ Place(unsigned ring, int s_row, int z_row, int t)
        : s(ring + row_bytes(s_row)),
          z(ring + row_bytes(Shape::tile + z_row)),
          column(static_cast<unsigned>(sizeof(typename Shape::T)) * static_cast<unsigned>(t)),
          flip(static_cast<unsigned>(Shape::turn(s_row) << 4)) {}
  };

  __device__ __forceinline__ void load(const Place& place, unsigned stage, int half) {
    const unsigned at = stage + ((place.column + static_cast<unsigned>(64 * half)) ^ place.flip);
#pragma unroll
    for (int i = 0; i < down; ++i) {
      read(place.s + at + row_bytes(16 * i), s_[i][0], s_[i][2]);
      read(place.s + at + row_bytes(16 * i + 8), s_[i][1], s_[i][3]);
    }
#pragma unroll
    for (int j = 0; j < across; ++j) read(place.z + at + row_bytes(8 * j), z_[j][0], z_[j][1]);
  }
  /// Entries t and t + 4, or both parts of entry t.
  __device__ __forceinline__ static void read(unsigned at, double& x, double& y) {
    if constexpr (is_complex) {
      asm volatile("ld.shared.v2.f64 {%0,%1}, [%2];" : "=d"(x), "=d"(y) : "r"(at) : "memory");
    } else {
      asm volatile("ld.shared.f64 %0, [%1];" : "=d"(x) : "r"(at) : "memory");
      asm volatile("ld.shared.f64 %0, [%1];" : "=d"(y) : "r"(at ^ 32u) : "memory");
    }
  }

  /// s conj(z) = (s' z' + s" z") + i (s" z' - s' z")
  template <class Real, class Imaginary>
  __device__ __forceinline__ void multiply(Real& re, Imaginary& im) const {
#pragma unroll
    for (int i = 0; i < down; ++i) {
#pragma unroll
      for (int j = 0; j < across; ++j) {
        multiply_add(re[i][j], s_[i], z_[j]);
        if constexpr (is_complex) {
          const double turned[4] = {s_[i][2], s_[i][3], -s_[i][0], -s_[i][1]};
          multiply_add(im[i][j], turned, z_[j]);
        }
      }
    }
  }

 private:
  __device__ static unsigned row_bytes(int row) {
    return static_cast<unsigned>(row * Shape::strip_bytes);
  }

  double s_[down][4];
  double z_[across][2];
};

template <bool is_complex, int tile>
__global__ void __launch_bounds__(Shape<is_complex, tile>::threads,
                                  Shape<is_complex, tile>::blocks_per_sm)
    product_kernel(const __grid_constant__ Arguments a) {
  using Shape = float64::Shape<is_complex, tile>;
  using T = typename Shape::T;
  constexpr int down = Shape::down;
  constexpr int across = Shape::across;
  extern __shared__ __align__(128) unsigned char ring_bytes[];
  const auto ring = static_cast<unsigned>(__cvta_generic_to_shared(ring_bytes));
  await_earlier_kernels();

  const index_t b = divide(blockIdx.x, a.tiles);
  if (a.done && a.done[b] != 0) return;
  index_t I;
  index_t J;
  find_tile(static_cast<index_t>(blockIdx.x) - b * a.tiles, I, J);
  const index_t i0 = I * tile;
  const index_t j0 = J * tile;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4;
  const int t = lane % 4;
  const int row0 = warp / Shape::warps_across * Shape::warp_rows;
  const int col0 = warp % Shape::warps_across * Shape::warp_cols;

  // Row i of a lower triangular factor ends at column i, and j <= i.
  const index_t depth = a.triangular && j0 + tile < a.depth ? j0 + tile : a.depth;
  Feed<Shape> feed(a, b, i0, j0, depth, ring);
#pragma unroll
  for (unsigned p = 0; p < Shape::stages - 1; ++p) feed.next(p * Shape::stage_bytes);

  double re[down][across][4] = {};
  double im[is_complex ? down : 1][is_complex ? across : 1][4] = {};
  const typename Fragments<Shape>::Place place(ring, row0 + g, col0 + g, t);
  Fragments<Shape> fragments[2];  // of the two halves of a strip
  unsigned stage = 0;
  wait_for_strip<Shape>();
  fragments[0].load(place, stage, 0);
  auto strips = static_cast<unsigned>((depth + Shape::strip - 1) / Shape::strip);
  for (; strips > 0; --strips) {
    // Each load comes a half before its use, and the barrier between two multiplications.
    fragments[1].load(place, stage, 1);
    // Overwrites what was last read before the barrier below.
    feed.next(Shape::before(stage));
    fragments[0].multiply(re, im);
    wait_for_strip<Shape>();
    stage = Shape::after(stage);
    fragments[0].load(place, stage, 0);  // past the last strip: zeros, or what lies there
    fragments[1].multiply(re, im);
  }

  Exit<Shape> exit(a, b);
  // Of squares of 16 x 16 entries, always summed in the same order, whatever the tile.
  double sums[down][across / 2] = {};
#pragma unroll
  for (int i = 0; i < down; ++i) {
#pragma unroll
    for (int j = 0; j < across; ++j) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const index_t row = i0 + row0 + 16 * i + 8 * h + g;
        const index_t col = j0 + col0 + 8 * j + 2 * t;
        if constexpr (is_complex)
          exit.put(row, col, T{re[i][j][2 * h], im[i][j][2 * h]},
                   T{re[i][j][2 * h + 1], im[i][j][2 * h + 1]}, sums[i][j / 2]);
        else
          exit.put(row, col, re[i][j][2 * h], re[i][j][2 * h + 1], sums[i][j / 2]);
      }
    }
  }
  if (!a.norm) return;
#pragma unroll
  for (int i = 0; i < down; ++i) {
#pragma unroll
    for (int j = 0; j < across / 2; ++j) sums[i][j] = warp_sum(sums[i][j]);
  }
  // Four of them make a part. Parts above the diagonal do not count.
  index_t part_row = I;
  index_t part_col = J;
  double part;
  if constexpr (tile == part_side) {
    __shared__ double quarters[4];
    if (lane == 0) quarters[warp] = sums[0][0];
    __syncthreads();
    if (threadIdx.x != 0) return;
    part = (quarters[0] + quarters[1]) + (quarters[2] + quarters[3]);
  } else {
    static_assert(Shape::warp_rows == part_side && Shape::warp_cols == part_side);
    if (lane != 0) return;
    part = (sums[0][0] + sums[0][1]) + (sums[1][0] + sums[1][1]);
    part_row = I * Shape::warps_down + warp / Shape::warps_across;
    part_col = J * Shape::warps_across + warp % Shape::warps_across;
  }
  if (part_col <= part_row && part_row * part_side < a.m)
    a.norm[b * a.norm_count + part_row * (part_row + 1) / 2 + part_col] = part;
}

}  // namespace gramian::cuda::float64
