#include "float64_general.hpp"

#include "device_properties.hpp"
#include "float64_product.cuh"
#include "float64_product.hpp"

namespace gramian::cuda {

namespace {

using float64::copy_async;
using float64::multiply_add;

struct Arguments {
  Matrices s, z, d, c;
  double alpha, beta;
  index_t m, n, depth;
  index_t down, across;  // tiles
  const int* done;
};

/// A ring of strips as in float64_product.cuh: of S 128 bytes of each row of the tile, with pieces
/// exchanged in the same way; of Z as many rows, whole, each so much longer than the tile that the
/// four rows and four columns, or four and two of complex ones, which part of a warp reads at once
/// meet each bank equally often.
template <bool is_complex>
struct Shape {
  using Square = float64::Shape<is_complex, 64>;
  using T = typename Square::T;
  static constexpr int size = static_cast<int>(sizeof(T));
  static constexpr int tile = 64;
  static constexpr int threads = 128;
  static constexpr int strip = 128 / size;
  static constexpr int stages = 4;
  static constexpr int down = 2;  // instructions of a warp, for 32 x 32 entries
  static constexpr int across = 4;
  static constexpr unsigned z_row = (tile + (is_complex ? 2 : 4)) * size;  // bytes
  static constexpr unsigned z_at = tile * 128;
  static constexpr unsigned stage_bytes = z_at + strip * z_row;
  static constexpr unsigned shared_bytes = stages * stage_bytes;
};

/// Brings strips of S and Z into the ring.
template <class Shape>
class Feed {
  using T = typename Shape::T;
  static constexpr int whole = 16 / Shape::size;  // entries in a piece
  static constexpr int s_each = Shape::tile / (Shape::threads / 8);
  static constexpr int z_pieces = Shape::tile / whole;  // in a row
  static constexpr int z_rows_at_once = Shape::threads / z_pieces;
  static constexpr int z_each = Shape::strip / z_rows_at_once;

 public:
  __device__ Feed(const Arguments& a, index_t b, index_t i0, index_t j0, unsigned ring)
      : s_ld_(a.s.ld), z_ld_(a.z.ld), s_left_(a.depth), z_left_(a.depth) {
    const int t = static_cast<int>(threadIdx.x);
    const int s_row = t / 8;
    const int piece = t % 8;
    s_to_ = ring + static_cast<unsigned>(s_row * 128 + ((piece ^ Shape::Square::turn(s_row)) << 4));
    s_left_ -= piece * whole;
    s_rows_ = a.m - i0 - s_row;
    s_ = static_cast<const T*>(a.s.data) + b * a.s.stride + (i0 + s_row) * a.s.ld + piece * whole;
    const int z_row = t / z_pieces;
    const int column = t % z_pieces * whole;
    z_to_ = ring + Shape::z_at + static_cast<unsigned>(z_row) * Shape::z_row +
            static_cast<unsigned>(column * Shape::size);
    z_left_ -= z_row;
    const index_t columns = a.n - j0 - column;
    z_bytes_ = columns <= 0 ? 0 : static_cast<int>(columns < whole ? columns : whole) * Shape::size;
    z_ = static_cast<const T*>(a.z.data) + b * a.z.stride + z_row * a.z.ld + j0 + column;
  }

  /// The next strip, or nothing past the last one.
  __device__ __forceinline__ void next(unsigned stage) {
    const int bytes = s_left_ >= whole ? 16 : s_left_ > 0 ? Shape::size : 0;
    if (s_left_ > -Shape::strip) {
#pragma unroll
      for (int i = 0; i < s_each; ++i)
        copy_async(s_to_ + stage + static_cast<unsigned>(i * 16 * 128), s_ + i * 16 * s_ld_,
                   i * 16 < s_rows_ ? bytes : 0);
#pragma unroll
      for (int i = 0; i < z_each; ++i)
        copy_async(z_to_ + stage + static_cast<unsigned>(i * z_rows_at_once) * Shape::z_row,
                   z_ + i * z_rows_at_once * z_ld_, i * z_rows_at_once < z_left_ ? z_bytes_ : 0);
    }
    s_left_ -= Shape::strip;
    z_left_ -= Shape::strip;
    s_ += Shape::strip;
    z_ += Shape::strip * z_ld_;
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

 private:
  index_t s_ld_, z_ld_;
  index_t s_left_, z_left_;  // of the depth, from this thread's piece or row on
  index_t s_rows_;
  int z_bytes_;
  unsigned s_to_, z_to_;
  const T* s_;
  const T* z_;
};

__device__ __forceinline__ void read_pair(unsigned at, double& x, double& y) {
  asm volatile("ld.shared.v2.f64 {%0,%1}, [%2];" : "=d"(x), "=d"(y) : "r"(at) : "memory");
}
__device__ __forceinline__ void read_one(unsigned at, double& x) {
  asm volatile("ld.shared.f64 %0, [%1];" : "=d"(x) : "r"(at) : "memory");
}

/// A thread's entries of half a strip.
template <bool is_complex>
class Fragments {
  using S = Shape<is_complex>;

 public:
  struct Place {
    unsigned s, column, flip, z;

    __device__ Place(unsigned ring, int s_row, int z_col, int t)
        : s(ring + static_cast<unsigned>(s_row * 128)),
          column(static_cast<unsigned>(S::size * t)),
          flip(static_cast<unsigned>(S::Square::turn(s_row) << 4)),
          z(ring + S::z_at + static_cast<unsigned>(t) * S::z_row +
            static_cast<unsigned>(z_col * S::size)) {}
  };

  __device__ __forceinline__ void load(const Place& place, unsigned stage, int half) {
    const unsigned at =
        place.s + stage + ((place.column + static_cast<unsigned>(64 * half)) ^ place.flip);
#pragma unroll
    for (int i = 0; i < S::down; ++i) {
      const unsigned row = at + static_cast<unsigned>(16 * i * 128);
      read_s(row, s_[i][0], s_[i][2]);
      read_s(row + 8 * 128, s_[i][1], s_[i][3]);
    }
    const unsigned z = place.z + stage + static_cast<unsigned>(half * S::strip / 2) * S::z_row;
#pragma unroll
    for (int j = 0; j < S::across; ++j) {
      const unsigned to = z + static_cast<unsigned>(8 * j * S::size);
      if constexpr (is_complex) {
        read_pair(to, z_[j][0], z_[j][1]);
      } else {
        read_one(to, z_[j][0]);
        read_one(to + 4 * S::z_row, z_[j][1]);
      }
    }
  }

  /// s z = (s' z' - s" z") + i (s" z' + s' z")
  template <class Real, class Imaginary>
  __device__ __forceinline__ void multiply(Real& re, Imaginary& im) const {
#pragma unroll
    for (int i = 0; i < S::down; ++i) {
#pragma unroll
      for (int j = 0; j < S::across; ++j) {
        if constexpr (is_complex) {
          const double plain[4] = {s_[i][0], s_[i][1], -s_[i][2], -s_[i][3]};
          const double turned[4] = {s_[i][2], s_[i][3], s_[i][0], s_[i][1]};
          multiply_add(re[i][j], plain, z_[j]);
          multiply_add(im[i][j], turned, z_[j]);
        } else {
          multiply_add(re[i][j], s_[i], z_[j]);
        }
      }
    }
  }

 private:
  __device__ __forceinline__ static void read_s(unsigned at, double& x, double& y) {
    if constexpr (is_complex) {
      read_pair(at, x, y);
    } else {
      read_one(at, x);
      read_one(at ^ 32u, y);
    }
  }

  double s_[S::down][4];
  double z_[S::across][2];
};

template <bool is_complex>
__device__ void put(const Arguments& a, index_t b, index_t i, index_t j,
                    typename Shape<is_complex>::T v0, typename Shape<is_complex>::T v1) {
  using T = typename Shape<is_complex>::T;
  if (i >= a.m || j >= a.n) return;
  const bool pair = j + 1 < a.n;
  T d0{};
  T d1{};
  if (a.d.data) {
    const T* const d = static_cast<const T*>(a.d.data) + b * a.d.stride + i * a.d.ld + j;
    d0 = d[0];
    if (pair) d1 = d[1];
  }
  T* const to = static_cast<T*>(a.c.data) + b * a.c.stride + i * a.c.ld + j;
  if constexpr (is_complex) {
    to[0] = {fma(a.alpha, v0.x, a.beta * d0.x), fma(a.alpha, v0.y, a.beta * d0.y)};
    if (pair) to[1] = {fma(a.alpha, v1.x, a.beta * d1.x), fma(a.alpha, v1.y, a.beta * d1.y)};
  } else {
    v0 = fma(a.alpha, v0, a.beta * d0);
    v1 = fma(a.alpha, v1, a.beta * d1);
    if (pair)  // j is even and rows are aligned
      *reinterpret_cast<double2*>(to) = {v0, v1};
    else
      to[0] = v0;
  }
}

/// Tiles in bands of rows, and down each column of a band: neighbours share what they read.
constexpr index_t band = 16;

template <bool is_complex>
__global__ void __launch_bounds__(128, is_complex ? 1 : 2)
    general_kernel(const __grid_constant__ Arguments a) {
  using S = Shape<is_complex>;
  using T = typename S::T;
  extern __shared__ __align__(128) unsigned char ring_bytes[];
  const auto ring = static_cast<unsigned>(__cvta_generic_to_shared(ring_bytes));
  await_earlier_kernels();

  const index_t tiles = a.down * a.across;
  const index_t b = divide(blockIdx.x, tiles);
  if (a.done && a.done[b] != 0) return;
  const index_t tile = static_cast<index_t>(blockIdx.x) - b * tiles;
  const index_t first = divide(tile, band * a.across) * band;
  const index_t inside = tile - first * a.across;
  const index_t height = a.down - first < band ? a.down - first : band;
  const index_t column = divide(inside, height);
  const index_t i0 = (first + inside - column * height) * S::tile;
  const index_t j0 = column * S::tile;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4;
  const int t = lane % 4;
  const int row0 = warp / 2 * 32;
  const int col0 = warp % 2 * 32;

  Feed<S> feed(a, b, i0, j0, ring);
#pragma unroll
  for (unsigned p = 0; p < S::stages - 1; ++p) feed.next(p * S::stage_bytes);

  double re[S::down][S::across][4] = {};
  double im[is_complex ? S::down : 1][is_complex ? S::across : 1][4] = {};
  const typename Fragments<is_complex>::Place place(ring, row0 + g, col0 + g, t);
  Fragments<is_complex> fragments[2];
  const auto wait_for_strip = [] {
    asm volatile("cp.async.wait_group %0;" ::"n"(S::stages - 2) : "memory");
    __syncthreads();
  };
  unsigned stage = 0;
  wait_for_strip();
  fragments[0].load(place, stage, 0);
  auto strips = static_cast<unsigned>((a.depth + S::strip - 1) / S::strip);
  for (; strips > 0; --strips) {
    fragments[1].load(place, stage, 1);
    feed.next(stage == 0 ? S::shared_bytes - S::stage_bytes : stage - S::stage_bytes);
    fragments[0].multiply(re, im);
    wait_for_strip();
    stage = stage + S::stage_bytes == S::shared_bytes ? 0 : stage + S::stage_bytes;
    fragments[0].load(place, stage, 0);  // past the last strip: what lies there, and unused
    fragments[1].multiply(re, im);
  }

#pragma unroll
  for (int i = 0; i < S::down; ++i) {
#pragma unroll
    for (int j = 0; j < S::across; ++j) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const index_t row = i0 + row0 + 16 * i + 8 * h + g;
        const index_t col = j0 + col0 + 8 * j + 2 * t;
        if constexpr (is_complex)
          put<true>(a, b, row, col, T{re[i][j][2 * h], im[i][j][2 * h]},
                    T{re[i][j][2 * h + 1], im[i][j][2 * h + 1]});
        else
          put<false>(a, b, row, col, re[i][j][2 * h], re[i][j][2 * h + 1]);
      }
    }
  }
}

template <bool is_complex>
void start(const Queue& queue, index_t batch, const Arguments& a) {
  using S = Shape<is_complex>;
  const auto kernel = general_kernel<is_complex>;
  allow_shared_memory(reinterpret_cast<const void*>(kernel), queue.device, S::shared_bytes);
  launch_after(queue, kernel, {grid_size(batch * a.down * a.across), S::threads, S::shared_bytes},
               "launching a general product in float64", a);
}

}  // namespace

void float64_general(const Queue& queue, Storage storage, index_t batch, index_t m, index_t n,
                     index_t depth, double alpha, Matrices s, Matrices z, double beta, Matrices d,
                     Matrices c, const int* done) {
  if (!in_float64(storage)) throw Error("a product in float64 of another type");
  const Arguments a{
      s, z, d, c, alpha, d ? beta : 0, m, n, depth, ceil_div(m, 64), ceil_div(n, 64), done};
  if (storage == Storage::complex128) return start<true>(queue, batch, a);
  start<false>(queue, batch, a);
}

}  // namespace gramian::cuda
