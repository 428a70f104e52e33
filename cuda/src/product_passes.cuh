// Passes over products: what comes after cuBLAS's multiplication.
#pragma once

#include "element.cuh"
#include "products.hpp"

namespace gramian::cuda {

namespace {

constexpr int threads = 256;

/// Elements of the product before the finishing pass.
template <class T>
using raw_t = wide_t<T>;

template <class R>
struct Coefficients {
  R alpha, beta, gamma;

  __device__ Coefficients(const Scalars& s, index_t b) {
    const double* const from = s.device ? s.device + 3 * b : nullptr;
    alpha = static_cast<R>(from ? from[0] : s.alpha);
    beta = static_cast<R>(from ? from[1] : s.beta);
    gamma = static_cast<R>(from ? from[2] : s.gamma);
  }

  /// alpha p + beta d (+ gamma on the diagonal, which is real).
  template <class C>
  __device__ C operator()(C p, C d, bool on_diagonal) const {
    if constexpr (is_complex_number<C>) {
      if (on_diagonal) return C{fma(alpha, p.x, fma(beta, d.x, gamma)), 0};
      return C{fma(alpha, p.x, beta * d.x), fma(alpha, p.y, beta * d.y)};
    } else {
      return fma(alpha, p, on_diagonal ? fma(beta, d, gamma) : beta * d);
    }
  }
};

template <class C>
__device__ C conjugate(C v) {
  if constexpr (is_complex_number<C>)
    return C{v.x, -v.y};
  else
    return v;
}

template <class C>
__device__ double square(C v) {
  if constexpr (is_complex_number<C>) {
    const double x = v.x;
    const double y = v.y;
    return fma(x, x, y * y);
  } else {
    return static_cast<double>(v) * static_cast<double>(v);
  }
}

struct Finish {
  Matrices raw, d, c;  // d may be empty; c too: then only the norm is wanted
  double* norm;        // may be null
  Scalars scalars;
  index_t m;
  index_t tiles;    // of the lower triangle
  unsigned blocks;  // per matrix
  bool vector;
};

/// C <- alpha raw + beta D + gamma I. Each block takes tiles of the lower triangle, one after the
/// other, and writes them and their mirror images. raw may be C: a tile is read whole before it is
/// written, by the one block that reads it, and what is mirrored onto is not read at all.
template <class T>
__global__ void __launch_bounds__(threads) finish(const __grid_constant__ Finish f) {
  using Raw = raw_t<T>;
  using Real = real_of_t<Raw>;
  constexpr int side = tile_side<Raw>;
  constexpr int N = vector_bytes / static_cast<int>(sizeof(T));
  using Steps = TileSteps<side, N, threads>;
  static_assert(Steps::total % Steps::warps == 0);
  __shared__ Raw tile[side][side + 1];

  const index_t b = blockIdx.x / f.blocks;
  const unsigned block = blockIdx.x % f.blocks;
  const Coefficients<Real> update(f.scalars, b);
  const Raw* const raw = static_cast<const Raw*>(f.raw.data) + b * f.raw.stride;
  const T* const d = f.d.data ? static_cast<const T*>(f.d.data) + b * f.d.stride : nullptr;
  T* const c = f.c.data ? static_cast<T*>(f.c.data) + b * f.c.stride : nullptr;
  double sum = 0;

  for (index_t t = block; t < f.tiles; t += f.blocks) {
    // Row I of the triangle begins at tile I (I + 1) / 2; the root may be off by one.
    index_t I = static_cast<index_t>((sqrt(8.0 * static_cast<double>(t) + 1) - 1) / 2);
    while (I * (I + 1) / 2 > t) --I;
    while ((I + 1) * (I + 2) / 2 <= t) ++I;
    const index_t J = t - I * (I + 1) / 2;
    const index_t i0 = I * side;
    const index_t j0 = J * side;

    Steps at;
    Raw value[Steps::each][N];
    T added[Steps::each][N];
#pragma unroll
    for (int s = 0; s < Steps::each; ++s) {
      at.go(s);
      const index_t i = i0 + at.row;
      const index_t j = j0 + at.col;
      const int count = i < f.m ? inside(j, f.m, N) : 0;
      load_run(raw + i * f.raw.ld + j, 1, count, f.vector, value[s]);
      load_run(d + i * f.d.ld + j, 1, d ? count : 0, f.vector, added[s]);
    }
#pragma unroll
    for (int s = 0; s < Steps::each; ++s) {
      at.go(s);
      const index_t i = i0 + at.row;
      const index_t j = j0 + at.col;
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const Raw v = update(value[s][k], convert<Raw>(added[s][k]), i == j + k);
        value[s][k] = v;
        if (f.norm && i < f.m && j + k <= i) sum += (j + k == i ? 1.0 : 2.0) * square(v);
        if (c) tile[at.row][at.col + k] = v;
      }
    }
    if (!c) continue;
    __syncthreads();
#pragma unroll
    for (int s = 0; s < Steps::each; ++s) {
      at.go(s);
      T w[N];
      if (I != J) {
        const index_t i = i0 + at.row;
        const index_t j = j0 + at.col;
#pragma unroll
        for (int k = 0; k < N; ++k) w[k] = convert<T>(value[s][k]);
        store_run(c + i * f.c.ld + j, 1, i < f.m ? inside(j, f.m, N) : 0, f.vector, w);
      }
      // The mirror image: row of the result from a column of the tile.
      const index_t i = j0 + at.row;
      const index_t j = i0 + at.col;
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const bool lower = I == J && at.col + k <= at.row;
        w[k] = convert<T>(lower ? tile[at.row][at.col + k] : conjugate(tile[at.col + k][at.row]));
      }
      store_run(c + i * f.c.ld + j, 1, i < f.m ? inside(j, f.m, N) : 0, f.vector, w);
    }
    __syncthreads();
  }
  if (f.norm) {
    __shared__ double sums[threads / 32];
    sum = block_sum<threads>(sum, sums);
    if (threadIdx.x == 0) f.norm[b * f.blocks + block] = sum;
  }
}

struct Combine {
  Matrices g, p;
  Scalars scalars;
  index_t m;
  unsigned blocks;  // per matrix
  bool vector;
};

constexpr int combine_runs = 2;  // per thread, in flight at the same time

/// P <- alpha P + beta G + gamma I. Mirror images go through the same operations.
template <class T>
__global__ void __launch_bounds__(threads) combine_entries(const __grid_constant__ Combine a) {
  using Wide = wide_t<T>;
  constexpr int N = vector_bytes / static_cast<int>(sizeof(T));
  constexpr int U = combine_runs;
  const index_t b = blockIdx.x / a.blocks;
  const index_t block = blockIdx.x % a.blocks;
  const Coefficients<real_of_t<T>> update(a.scalars, b);
  const T* const g = static_cast<const T*>(a.g.data) + b * a.g.stride;
  T* const p = static_cast<T*>(a.p.data) + b * a.p.stride;
  const index_t per_row = (a.m + N - 1) / N;
  T vp[U][N];
  T vg[U][N];
  index_t row[U], col[U];
  int count[U];
#pragma unroll
  for (int u = 0; u < U; ++u) {
    const index_t run = (block * U + u) * threads + static_cast<index_t>(threadIdx.x);
    row[u] = divide(run, per_row);
    col[u] = (run - row[u] * per_row) * N;
    count[u] = row[u] < a.m ? inside(col[u], a.m, N) : 0;
    load_run(p + row[u] * a.p.ld + col[u], 1, count[u], a.vector, vp[u]);
    load_run(g + row[u] * a.g.ld + col[u], 1, count[u], a.vector, vg[u]);
  }
#pragma unroll
  for (int u = 0; u < U; ++u) {
#pragma unroll
    for (int k = 0; k < N; ++k)
      vp[u][k] = convert<T>(
          update(convert<Wide>(vp[u][k]), convert<Wide>(vg[u][k]), row[u] == col[u] + k));
    store_run(p + row[u] * a.p.ld + col[u], 1, count[u], a.vector, vp[u]);
  }
}

}  // namespace

}  // namespace gramian::cuda
