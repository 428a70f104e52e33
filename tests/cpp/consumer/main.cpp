// What a C++ user writes: orthogonalize a matrix with the installed library.
#include <gramian/newton_schulz.hpp>
#include <gramian/system_info.hpp>

#include <cmath>
#include <cstdio>

int main() {
  std::vector<double> x = {3, 1, 0, -1, 2, 5};
  std::vector<double> q(6);
  std::vector<double> residual(1, -1.0);

  gramian::ArrayRef in{x.data(), gramian::DType::float64, {2, 3}, {3, 1}};
  gramian::ArrayRef out = in;
  out.data = q.data();

  gramian::NewtonSchulzOptions options;
  options.table = *gramian::preset_table("polar_express_paper", 10);
  options.double_precision = true;
  options.plan = gramian::plan_newton_schulz(2, 3, options.table, gramian::unit_roundoff<double>);
  const gramian::NewtonSchulzInfo info{{residual.data(), gramian::DType::float64, {}, {}}, {}};
  const gramian::Status status = gramian::newton_schulz(in, out, options, info);
  std::printf("gramian %s, %s: residual %.1e\n", gramian::version(),
              gramian::blas_description().c_str(), residual[0]);
  return status == gramian::Status::ok && residual[0] >= 0 && residual[0] < 1e-6 ? 0 : 1;
}
