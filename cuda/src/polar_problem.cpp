#include "polar_problem.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "polar_small.hpp"

namespace gramian::cuda {

namespace {

bool is_finite(const Queue& queue, index_t parts, const Entrance& entrance) {
  std::vector<double> figures(static_cast<std::size_t>(parts));
  check(cudaMemcpyAsync(figures.data(), entrance.parts, figures.size() * sizeof(double),
                        cudaMemcpyDeviceToHost, queue.stream),
        "reading whether x is finite");
  check(cudaStreamSynchronize(queue.stream), "reading whether x is finite");
  return std::all_of(figures.begin(), figures.end(), [](double v) { return std::isfinite(v); });
}

}  // namespace

PolarProblem::PolarProblem(const Queue& queue, const PolarCall& call) : queue_(queue), call_(call) {
  const index_t rows = call.x.shape[call.x.shape.size() - 2];
  const index_t cols = call.x.shape.back();
  m_ = std::min(rows, cols);
  n_ = std::max(rows, cols);
  batch_ = batch_size(call.x);
  storage_ = storage_of(call.x.dtype, true);
  empty_ = batch_ == 0 || m_ == 0;
  if (empty_) return;
  small_ = fits_small_function(queue.device, storage_, m_, n_);
  iteration_ = PolarIteration(queue_, storage_, batch_, m_);
}

void PolarProblem::carve_all(Carver& carver) {
  entrance_.parts = carver.take<double>(batch_ * entrance_parts(m_, n_));
  entrance_.exponent = carver.take<int>(batch_);
  entrance_.norm = carver.take<double>(batch_);
  iteration_.carve(carver);
  carve(carver);
}

std::size_t PolarProblem::workspace() {
  if (empty_) return 0;
  Carver carver(nullptr);
  carve_all(carver);
  return carver.used();
}

Status PolarProblem::begin(const ArrayRef& x, Workspace workspace) {
  Carver carver(workspace.take<std::byte>(0));
  carve_all(carver);
  measure(queue_, x, entrance_);
  if (call_.check_finite && !is_finite(queue_, batch_ * entrance_parts(m_, n_), entrance_))
    return Status::not_finite;
  return Status::ok;
}

double PolarProblem::guess_of_random() const {
  const double m = static_cast<double>(m_);
  const double n = static_cast<double>(n_);
  const double ratio = std::sqrt(m / n);
  return std::max(1.0 / 32 / m, 5 * n_ >= 6 * m_ ? 0.5 * (1 - ratio) / (1 + ratio) : 0.0);
}

PolarAim PolarProblem::aim(index_t length, double cutoff, double first_guess) const {
  const double root = std::sqrt(static_cast<double>(m_));
  const double sums = std::sqrt(static_cast<double>(product_roundings(length)));
  PolarAim aim;
  aim.m = m_;
  aim.cutoff = cutoff;
  aim.first_guess = first_guess;
  const double standard = (2 * root + 4 + sums / 2) * root * 0x1p-53;
  aim.floor = 64 * standard;
  // Of what is rounded to float32 no more is asked.
  aim.aim = is_wide() ? standard : std::max(standard, root * 0x1p-34);
  return aim;
}

}  // namespace gramian::cuda
