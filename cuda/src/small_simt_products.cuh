// Products of one matrix in the shared memory of one block.
//
// X (m x n) and the m x m squares lie there by rows, each row an odd number of 16-byte packs long,
// so that eight rows' packs at the same place fall into different banks. A warp computes a tile of
// 4 TM x 8 TN entries, a thread TM x TN of them in registers. Every result fits into the registers
// of the block at once: it is written only after all operands have been read, and may therefore
// replace one of them.
//
// Of Hermitian results the tiles that meet the lower triangle are computed; entries above the
// diagonal are copies (conjugated) of those below, and the diagonal is real.
#pragma once

#include "small_simt_scalar.cuh"

namespace gramian::cuda::simt {

inline constexpr int warp_size = 32;
inline constexpr int max_warps = 16;  // at 512 threads each may have 128 registers

// At the start of shared memory: one double per warp, for sums over the block.
inline constexpr int header_bytes = max_warps * static_cast<int>(sizeof(double));

extern __shared__ __align__(16) unsigned char small_simt_memory[];

/// Matrices are named by their place in it, in elements: a pointer handed to a function would no
/// longer be known to point into shared memory.
template <class T>
__device__ __forceinline__ T* shared() {
  return reinterpret_cast<T*>(small_simt_memory + header_bytes);
}

/// Threads of a warp are 4 x 8 tiles apart. Neighbouring lanes share a column and lanes two apart a
/// row, so that the four quarters in which a warp reads packs need only two passes.
struct Lane {
  int row;  // 0..3
  int col;  // 0..7
};
__device__ __forceinline__ Lane lane_place() {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  return {lane / 16 * 2 + lane % 2, lane / 2 % 8};
}

template <int TM>
inline constexpr int tile_rows = 4 * TM;
template <int TN>
inline constexpr int tile_cols = 8 * TN;

__host__ __device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

/// Tiles of a row strip of an m x m matrix that meet the lower triangle.
template <int TM, int TN>
__host__ __device__ constexpr int lower_tiles_of_strip(int strip, int m) {
  const int end = (strip + 1) * tile_rows<TM>;
  return ((end < m ? end : m) - 1) / tile_cols<TN> + 1;
}

template <int TM, int TN>
__host__ __device__ constexpr int lower_tiles(int m) {
  int count = 0;
  for (int strip = 0; strip * tile_rows<TM> < m; ++strip)
    count += lower_tiles_of_strip<TM, TN>(strip, m);
  return count;
}

/// The part of this warp in Hermitian products: a tile, and in Gram products a slice of the sums.
struct Share {
  int row;  // first row and column of the tile
  int col;
  int slice;
};

template <int TM, int TN>
__device__ __forceinline__ Share share_of_warp(int m) {
  const int tiles = lower_tiles<TM, TN>(m);
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  int index = warp % tiles;
  int strip = 0;
  while (index >= lower_tiles_of_strip<TM, TN>(strip, m))
    index -= lower_tiles_of_strip<TM, TN>(strip++, m);
  return {strip * tile_rows<TM>, index * tile_cols<TN>, warp / tiles};
}

/// Sum over the block, in an order that the number of threads decides; every thread gets it.
__device__ __forceinline__ double block_sum(double v) {
  auto* slots = reinterpret_cast<double*>(small_simt_memory);
  for (int apart = warp_size / 2; apart > 0; apart /= 2)
    v += __shfl_xor_sync(0xffffffffu, v, apart);
  if (threadIdx.x % warp_size == 0) slots[threadIdx.x / warp_size] = v;
  __syncthreads();
  double sum = 0;
  for (unsigned w = 0; w < blockDim.x / warp_size; ++w) sum += slots[w];
  __syncthreads();
  return sum;
}

/// Rows and columns of a thread's entries where operands are read along the rows of their results:
/// packs of neighbours. Places beyond the matrix are read as place 0, and the results dropped.
template <class T, int TM, int TN>
struct PackedPlaces {
  static constexpr int V = pack_size<T>;
  static constexpr int row_packs = TM / V;
  static constexpr int col_packs = TN / V;

  int row0;
  int col0;

  __device__ PackedPlaces(int tile_row, int tile_col) {
    const Lane lane = lane_place();
    row0 = tile_row + lane.row * V;
    col0 = tile_col + lane.col * V;
  }
  __device__ int row(int pack) const { return row0 + pack * 4 * V; }
  __device__ int col(int pack) const { return col0 + pack * 8 * V; }
};

/// acc <- S Z for the thread's places; S is Hermitian, so that its columns are read as rows.
template <class T, int TM, int TN>
__device__ __forceinline__ void multiply(const T* s, int lds, int rows, const T* z, int ldz,
                                         int cols, int depth, const PackedPlaces<T, TM, TN>& places,
                                         T (&acc)[TM][TN]) {
  using Places = PackedPlaces<T, TM, TN>;
  constexpr int V = Places::V;
  const T* at_s[Places::row_packs];
  const T* at_z[Places::col_packs];
#pragma unroll
  for (int r = 0; r < Places::row_packs; ++r)
    at_s[r] = s + (places.row(r) < rows ? places.row(r) : 0);
#pragma unroll
  for (int c = 0; c < Places::col_packs; ++c)
    at_z[c] = z + (places.col(c) < cols ? places.col(c) : 0);

  Pack<T> left[Places::row_packs];
  Pack<T> right[Places::col_packs];
  const auto read = [&](Pack<T>(&l)[Places::row_packs], Pack<T>(&r)[Places::col_packs]) {
#pragma unroll
    for (int p = 0; p < Places::row_packs; ++p) {
      l[p] = read_pack(at_s[p]);
      at_s[p] += lds;
    }
#pragma unroll
    for (int p = 0; p < Places::col_packs; ++p) {
      r[p] = read_pack(at_z[p]);
      at_z[p] += ldz;
    }
  };
  const auto add_products = [&] {
#pragma unroll
    for (int i = 0; i < TM; ++i)
#pragma unroll
      for (int j = 0; j < TN; ++j)
        add_conj_product(acc[i][j], left[i / V].v[i % V], right[j / V].v[j % V]);
  };

#pragma unroll
  for (int i = 0; i < TM; ++i)
#pragma unroll
    for (int j = 0; j < TN; ++j) acc[i][j] = zero<T>();

  // The next operands are on their way while the last ones are multiplied.
  constexpr int unrolled = TM * TN * (is_complex<T> ? 4 : 1) <= 16 ? 4 : 2;
  read(left, right);
#pragma unroll unrolled
  for (int k = 1; k < depth; ++k) {
    Pack<T> next_left[Places::row_packs];
    Pack<T> next_right[Places::col_packs];
    read(next_left, next_right);
    add_products();
#pragma unroll
    for (int p = 0; p < Places::row_packs; ++p) left[p] = next_left[p];
#pragma unroll
    for (int p = 0; p < Places::col_packs; ++p) right[p] = next_right[p];
  }
  add_products();
}

/// alpha * product + beta * D + gamma * I. With `by_schatten` the product is G^2 = (X X^H)^2 and
/// the values are those of X / s, s = ||G^2||_F^(1/4): they are divided by s^5, s^3 and s here.
struct Update {
  double alpha = 1;
  double beta = 0;
  double gamma = 0;
  int d = -1;  // none
  bool by_schatten = false;
};

/// C <- update(S Z), S, Z and D Hermitian, S and Z commuting; C may be any of them. Returns s, or 1
/// without by_schatten.
template <class T, int TM, int TN>
__device__ __noinline__ double product(const Share share, int m, int ld, int s, int z, int c,
                                       Update update) {
  using R = real_part_t<T>;
  using Places = PackedPlaces<T, TM, TN>;
  constexpr int V = Places::V;
  T* const base = shared<T>();
  const Places places(share.row, share.col);
  const bool mine = share.slice == 0;
  T acc[TM][TN];
  if (mine) multiply<T, TM, TN>(base + s, ld, m, base + z, ld, m, m, places, acc);

  double norm = 1;
  if (update.by_schatten) {
    double sum = 0;
    if (mine) {
#pragma unroll
      for (int e = 0; e < TM * TN; ++e) {
        const int i = places.row(e / TN / V) + e / TN % V;
        const int j = places.col(e % TN / V) + e % TN % V;
        // Entries below the diagonal stand for those above as well.
        const double count = i >= m || j > i ? 0 : j == i ? 1 : 2;
        if (count > 0) sum = fma(count, squared(acc[e / TN][e % TN]), sum);
      }
    }
    norm = sqrt(sqrt(sqrt(block_sum(sum))));
    const double square = norm * norm;
    update.gamma /= norm;
    update.beta = update.beta / norm / square;
    update.alpha = update.alpha / norm / square / square;
  }
  const R alpha = static_cast<R>(update.alpha);
  const R beta = static_cast<R>(update.beta);
  const R gamma = static_cast<R>(update.gamma);

  __syncthreads();  // all operands have been read
  if (mine) {
    const bool adds = update.d >= 0;
    const T* const d = base + (adds ? update.d : c);
    T* const out = base + c;
#pragma unroll
    for (int r = 0; r < Places::row_packs; ++r) {
#pragma unroll
      for (int q = 0; q < Places::col_packs; ++q) {
        // V x V entries that lie on, below or above the diagonal as a whole.
        const int i0 = places.row(r);
        const int j0 = places.col(q);
        if (i0 >= m || j0 > i0) continue;
        if (j0 < i0 && i0 + V <= m) {
          Pack<T> turned[V];
#pragma unroll
          for (int i = 0; i < V; ++i) {
            T* const at = out + (i0 + i) * ld + j0;
            Pack<T> row;
#pragma unroll
            for (int j = 0; j < V; ++j) row.v[j] = times(alpha, acc[r * V + i][q * V + j]);
            if (adds) {
              const Pack<T> more = read_pack(d + (i0 + i) * ld + j0);
#pragma unroll
              for (int j = 0; j < V; ++j) row.v[j] = times_add(beta, more.v[j], row.v[j]);
            }
            write_pack(at, row);
#pragma unroll
            for (int j = 0; j < V; ++j) turned[j].v[i] = conjugate(row.v[j]);
          }
#pragma unroll
          for (int j = 0; j < V; ++j) write_pack(out + (j0 + j) * ld + i0, turned[j]);
        } else {
#pragma unroll
          for (int e = 0; e < V * V; ++e) {
            const int i = i0 + e / V;
            const int j = j0 + e % V;
            if (i >= m || j > i) continue;
            T v = times(alpha, acc[r * V + e / V][q * V + e % V]);
            if (adds) v = times_add(beta, d[i * ld + j], v);
            if (i == j) v = without_imaginary(add(v, make<T>(gamma, 0)));
            out[i * ld + j] = v;
            if (i != j) out[j * ld + i] = conjugate(v);
          }
        }
      }
    }
  }
  __syncthreads();
  return norm;
}

/// G <- X X^H. Sums are cut into slices where there are more warps than tiles: the slices' sums are
/// added in order.
template <class T, int TM, int TN>
__device__ __noinline__ void gram(const Share share, int m, int n, int x, int ldx, int g, int ldg,
                                  int slices) {
  constexpr int V = pack_size<T>;
  T* const base = shared<T>();
  const Lane lane = lane_place();
  // Both operands are read along their rows; a thread's rows lie 4 and 8 apart for the banks' sake.
  const int row0 = share.row + lane.row;
  const int col0 = share.col + lane.col;
  T acc[TM][TN];
#pragma unroll
  for (int i = 0; i < TM; ++i)
#pragma unroll
    for (int j = 0; j < TN; ++j) acc[i][j] = zero<T>();

  const int packs = ceil_div(n, V);  // entries from n to the next whole pack are zero
  const int per_slice = ceil_div(packs, slices);
  const int first = share.slice * per_slice;
  const int end = first + per_slice < packs ? first + per_slice : packs;
  if (share.slice < slices) {
    const T* left[TM];
    const T* right[TN];
#pragma unroll
    for (int i = 0; i < TM; ++i) {
      const int row = row0 + 4 * i;
      left[i] = base + x + (row < m ? row : m - 1) * ldx;
    }
#pragma unroll
    for (int j = 0; j < TN; ++j) {
      const int col = col0 + 8 * j;
      right[j] = base + x + (col < m ? col : m - 1) * ldx;
    }
    constexpr int unrolled = TM * TN * (is_complex<T> ? 4 : 1) <= 16 ? 2 : 1;
#pragma unroll unrolled
    for (int k = first; k < end; ++k) {
      Pack<T> a[TM];
      Pack<T> b[TN];
#pragma unroll
      for (int i = 0; i < TM; ++i) a[i] = read_pack(left[i] + k * V);
#pragma unroll
      for (int j = 0; j < TN; ++j) b[j] = read_pack(right[j] + k * V);
#pragma unroll
      for (int v = 0; v < V; ++v)
#pragma unroll
        for (int i = 0; i < TM; ++i)
#pragma unroll
          for (int j = 0; j < TN; ++j)
            // conj(x_jk) x_ik
            add_conj_product(acc[i][j], b[j].v[v], a[i].v[v]);
    }
  }

  T* const out = base + g;
  for (int slice = 0; slice < slices; ++slice) {
    if (share.slice == slice) {
#pragma unroll
      for (int e = 0; e < TM * TN; ++e) {
        const int i = row0 + 4 * (e / TN);
        const int j = col0 + 8 * (e % TN);
        if (i >= m || j > i) continue;
        T v = acc[e / TN][e % TN];
        if (slice > 0) v = add(out[i * ldg + j], v);
        if (i == j) v = without_imaginary(v);
        out[i * ldg + j] = v;
        if (slice + 1 == slices && i != j) out[j * ldg + i] = conjugate(v);
      }
    }
    __syncthreads();
  }
}

/// X <- S X in place, as many columns at a time as the block's registers hold.
template <class T, int TM, int TN>
__device__ __noinline__ void apply(int m, int n, int s, int lds, int x, int ldx) {
  using Places = PackedPlaces<T, TM, TN>;
  constexpr int V = Places::V;
  T* const base = shared<T>();
  const int warps = static_cast<int>(blockDim.x) / warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int strips = ceil_div(m, tile_rows<TM>);
  const int abreast = warps / strips;
  for (int done = 0; done < n; done += abreast * tile_cols<TN>) {
    const Places places(warp % strips * tile_rows<TM>, done + warp / strips * tile_cols<TN>);
    const bool mine = warp < strips * abreast && done + warp / strips * tile_cols<TN> < n;
    T acc[TM][TN];
    if (mine) multiply<T, TM, TN>(base + s, lds, m, base + x, ldx, n, m, places, acc);
    // These columns of X have been read by all who need them.
    if (strips > 1)
      __syncthreads();
    else
      __syncwarp();
    if (!mine) continue;
#pragma unroll
    for (int i = 0; i < TM; ++i) {
      const int row = places.row(i / V) + i % V;
      if (row >= m) continue;
#pragma unroll
      for (int q = 0; q < Places::col_packs; ++q) {
        const int col = places.col(q);
        if (col >= n) continue;
        Pack<T> pack;
#pragma unroll
        for (int v = 0; v < V; ++v)
          pack.v[v] =
              col + v < n ? acc[i][q * V + v] : zero<T>();  // else a diverged S would spread
        write_pack(base + x + row * ldx + col, pack);
      }
    }
  }
  __syncthreads();
}

}  // namespace gramian::cuda::simt
