// What squaring needs besides products: figures of each iterate, and a Rayleigh quotient.
#pragma once

#include "entrance.hpp"
#include "gramian/cuda/queue.hpp"
#include "products.hpp"

namespace gramian::cuda {

/// Of one iterate H.
struct SquareFigures {
  double trace;
  double squares;   // ||H||_F^2
  double exponent;  // e of the next square's factor 4^-e: tr H < 2^e <= 2 tr H
  double top;       // the largest entry on the diagonal
};

/// figures[b], and scalars[b] = {4^-e, 0, 0} for the next product, from H's diagonal and the parts
/// of its norm, b < batch.
void follow(const Queue& queue, Storage storage, index_t batch, index_t m, Matrices h,
            NormParts squares, SquareFigures* figures, double* scalars);

/// A column of H for a Rayleigh quotient.
struct Candidate {
  double ratio;  // (H^2)_jj / H_jj
  double index;  // j
};

/// candidates[b][block]: the column with the largest ratio of the rows of each of
/// quotient_blocks(m) blocks, of those whose diagonal entry is more than 2^-60 tr H. Storage:
/// float64 or complex128, as for quotient_parts.
void find_candidates(const Queue& queue, Storage storage, index_t batch, index_t m, Matrices h,
                     const SquareFigures* figures, Candidate* candidates);

/// With v the best of the candidates, or without candidates H's first column: parts[b][block] =
/// {v^H G v, v^H v} over the rows of each of quotient_blocks(m) blocks.
void quotient_parts(const Queue& queue, Storage storage, index_t batch, index_t m, Matrices g,
                    Matrices h, const Candidate* candidates, double* parts);
index_t quotient_blocks(index_t m);

/// bound[b] <- the root of figures[t][b].squares, undone through all t squares, or with none
/// (`steps` = 0) the Frobenius norm; times 2^exponent.
void finish_gram_bound(const Queue& queue, index_t batch, int steps, const SquareFigures* figures,
                       const Entrance& entrance, const ArrayRef& bound);

}  // namespace gramian::cuda
