// Passes of singular value clipping over batches of m x n matrices, whose largest entries lie in
// [1/2, 1).
#pragma once

#include "entrance.hpp"
#include "gramian/array_ref.hpp"
#include "gramian/cuda/queue.hpp"
#include "polar_steps.hpp"
#include "products.hpp"

namespace gramian::cuda {

/// What a pass works on. c is the bound divided by the same power of two as the matrix, and what
/// polar_bound.cuh says.
struct ClipPass {
  Queue queue;
  Storage storage;
  index_t batch, m, n;
  double bound;         // on the input's scale
  const int* exponent;  // [batch]
  const double* norm;   // [batch] NaN where the matrix is not finite
  PolarState* states;   // [batch] of the clipping
};

/// States of a new call, unchanged where the bound is not felt; done <- 1 there.
void clip_begin(const ClipPass& pass, bool hard, int* done);

/// Columns n to n + m of y: c I.
void clip_append(const ClipPass& pass, Matrices y);

/// scalars <- {1, 0, -c (1 + slack)}.
void clip_shift(const ClipPass& pass, double slack, double* scalars);

/// scalars <- {0, 0, c (1 - less)}.
void clip_scale(const ClipPass& pass, double less, double* scalars);

/// squares: sums of squares of (I + S) / 2, S the sign of H - c I, where done is 0: if that is 0,
/// the matrix is as it should be, and with `first` its state says unchanged; done <- 1. With
/// `first` done stays 0 otherwise; else it is as it was.
void clip_decide(const ClipPass& pass, const NormParts& squares, bool first, int* done);

/// Whether the largest singular value is above 2 c, by an estimate from below made of the norms of
/// G and of its square: done <- 1 where it is not.
void clip_again(const ClipPass& pass, const NormParts& gram, const NormParts& square, int* done);

/// later <- 1 where done is 1.
void clip_skip(const ClipPass& pass, const int* done, int* later);

/// x <- y where done is 0.
void clip_take(const ClipPass& pass, const int* done, Matrices x, Matrices y);

/// out <- y, or c y, on the input's scale; where the state says unchanged, the bits of x, which is
/// of out's shape and type, and has the same entries or is apart.
void clip_leave(const ClipPass& pass, bool times_bound, Matrices y, const ArrayRef& x,
                const ArrayRef& out);

/// A gapless copy of x in memory.
ArrayRef copy_of(const Queue& queue, const ArrayRef& x, void* memory);

// ---- The residual, with G the Gram matrix of x and K that of the result over c

/// y (m x n) <- y over the bound; y is on the input's scale, or scaled down as the matrix was.
void clip_divide(const ClipPass& pass, bool scaled_down, Matrices y);

/// top[b] <- max(c, sigma_1)^2 from the norms of G and its square.
void clip_top(const ClipPass& pass, const NormParts& gram, const NormParts& square, double* top);

/// Hard: A <- G - c^2 K, K <- I - K. Soft: A <- c^2 K - G.
void clip_compare(const ClipPass& pass, bool hard, Matrices g, Matrices k, Matrices a);

/// figures[b] <- method, 0, 0, residual.
void clip_figures(const ClipPass& pass, bool small, const NormParts& squares, const double* top,
                  double* figures);

}  // namespace gramian::cuda
