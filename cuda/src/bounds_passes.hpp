// What squaring needs besides products: figures of each iterate, and a Rayleigh quotient.
#pragma once

#include "entrance.hpp"
#include "gramian/cuda/queue.hpp"
#include "products.hpp"

namespace gramian::cuda {

/// Of one iterate H.
struct SquareFigures {
  double trace;
  double squares;    // ||H||_F^2
  double exponent;   // e of the next square's factor 4^-e: tr H < 2^e <= 2 tr H
  double top;        // the largest entry on the diagonal,
  double top_index;  // and where it is
};

/// figures[b], and scalars[b] = {4^-e, 0, 0} for the next product, from H's diagonal and the parts
/// of its norm, b < batch.
void follow(const Queue& queue, Storage storage, index_t batch, index_t m, Matrices h,
            NormParts squares, SquareFigures* figures, double* scalars);

/// With v the column of H that the figures name, or without figures the first: parts[b][block] =
/// {v^H G v, v^H v} over the rows of each of quotient_blocks(m) blocks. Storage: float64 or
/// complex128.
void quotient_parts(const Queue& queue, Storage storage, index_t batch, index_t m, Matrices g,
                    Matrices h, const SquareFigures* figures, double* parts);
index_t quotient_blocks(index_t m);

/// bound[b] <- the root of figures[t][b].squares, undone through all t squares, or with none
/// (`steps` = 0) the Frobenius norm; times 2^exponent.
void finish_gram_bound(const Queue& queue, index_t batch, int steps, const SquareFigures* figures,
                       const Entrance& entrance, const ArrayRef& bound);

}  // namespace gramian::cuda
