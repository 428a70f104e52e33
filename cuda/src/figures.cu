#include "figures.hpp"

#include <cmath>

#include "dependent_launch.cuh"
#include "figure.cuh"

namespace gramian::cuda {

namespace {

constexpr int threads = 256;

__global__ void fold_kernel(FirstStep step, NormParts squares, double* scalars, Figure norm_bound) {
  await_earlier_kernels();
  const index_t b = blockIdx.x;
  const bool schatten = step.normalization == Normalization::schatten;
  const double sum =
      schatten ? sum_parts<threads>(squares.data + b * squares.count, squares.count) : 0;
  if (threadIdx.x != 0) return;
  const double norm = step.norm[b];
  const int exponent = step.exponent[b];
  double s = norm;
  if (schatten)
    s = sqrt(sqrt(sqrt(sum)));
  else if (step.normalization == Normalization::bound)
    s = scalbn(step.bound, -exponent);
  if (norm == 0) s = 0;
  if (isnan(norm)) s = norm;
  double* to = scalars + 3 * b;
  const double s2 = s * s;
  to[0] = s == 0 ? 0 : step.row.c / s2 / s2 / s;
  to[1] = s == 0 ? 0 : step.row.b / s2 / s;
  to[2] = s == 0 ? 0 : step.row.a / s;
  norm_bound.put(b, scalbn(s, exponent));
}

__global__ void residual_kernel(NormParts squares, double m, Figure residual) {
  await_earlier_kernels();
  const index_t b = blockIdx.x;
  const double sum = sum_parts<threads>(squares.data + b * squares.count, squares.count);
  if (threadIdx.x == 0) residual.put(b, sqrt(sum / m));
}

}  // namespace

void fold_first_row(const Queue& queue, index_t batch, const FirstStep& step, NormParts squares,
                    double* scalars, const ArrayRef& norm_bound) {
  launch_after(queue, fold_kernel, static_cast<unsigned>(batch), threads,
               "launching the fold of the first row", step, squares, scalars, figure(norm_bound));
}

void finish_residual(const Queue& queue, index_t batch, index_t m, NormParts squares,
                     const ArrayRef& residual) {
  launch_after(queue, residual_kernel, static_cast<unsigned>(batch), threads,
               "launching the residual", squares, static_cast<double>(m), figure(residual));
}

}  // namespace gramian::cuda
