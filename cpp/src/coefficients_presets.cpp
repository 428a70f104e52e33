// Named tables.
#include <algorithm>
#include <array>
#include <cmath>

#include "gramian/coefficients.hpp"

namespace gramian {
namespace {

constexpr Row taylor_row{15.0 / 8.0, -10.0 / 8.0, 3.0 / 8.0};

// Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
constexpr std::array<Row, 1> muon_rows{{{3.4445, -4.7750, 2.0315}}};

// You 2025, five tuned rows.
constexpr std::array<Row, 5> you_rows{{{4.0848, -6.8946, 2.9270},
                                       {3.9505, -6.3029, 2.6377},
                                       {3.7418, -5.5913, 2.3037},
                                       {2.8769, -3.1427, 1.2046},
                                       {2.8366, -3.0525, 1.2012}}};

// Amsel et al. 2025, arXiv 2505.16932: lower 1e-3, cushion 0.02407327424182761, no safety factor.
constexpr std::array<Row, 8> paper_rows{
    {{8.28721201814563, -23.595886519098837, 17.300387312530933},
     {4.107059111542203, -2.9478499167379106, 0.5448431082926601},
     {3.9486908534822946, -2.908902115962949, 0.5518191394370137},
     {3.3184196573706015, -2.488488024314874, 0.51004894012372},
     {2.300652019954817, -1.6689039845747493, 0.4188073119525673},
     {1.891301407787398, -1.2679958271945868, 0.37680408948524835},
     {1.8750014808534479, -1.2500016453999487, 0.3750001645474248},
     taylor_row}};

constexpr std::array<Row, 1> taylor_rows{taylor_row};

constexpr std::array<std::string_view, 5> names{"polar_express", "polar_express_paper", "muon",
                                                "you", "taylor"};

// Lower ends for "polar_express" by number of steps, measured on Gaussian, power-law and spiked
// spectra: see docs/coefficients.md, which also says what each costs elsewhere. Frobenius scaling
// leaves the singular values smaller than the Schatten-8 bound does, hence its smaller values.
struct LowerEnds {
  double schatten;
  double frobenius;
};
constexpr std::array<LowerEnds, 10> lower_ends{{{5e-2, 1e-2},
                                                {3e-2, 1e-2},
                                                {2e-2, 1e-2},
                                                {4.5e-3, 3e-3},
                                                {1.5e-3, 1.2e-3},
                                                {5e-4, 4e-4},
                                                {1.5e-4, 1.2e-4},
                                                {5e-5, 4e-5},
                                                {1.5e-5, 1.2e-5},
                                                {5e-6, 4e-6}}};
// Past the table every further step halves the lower end. It could quarter it: the other half of
// the step goes into the error on [lower, 1], which is at the level of double rounding from 12
// steps on.
constexpr double smallest_lower_end = 1e-12;

std::vector<Row> cut_or_repeat(std::span<const Row> rows, int steps) {
  std::vector<Row> out(static_cast<std::size_t>(steps), rows.back());
  std::copy_n(rows.begin(), std::min(out.size(), rows.size()), out.begin());
  return out;
}

}  // namespace

std::span<const std::string_view> preset_names() noexcept { return names; }

double preset_lower(int steps, PresetScale scale) noexcept {
  const int tuned = static_cast<int>(lower_ends.size());
  const LowerEnds& ends = lower_ends[static_cast<std::size_t>(std::clamp(steps, 1, tuned) - 1)];
  const double lower = scale == PresetScale::schatten ? ends.schatten : ends.frobenius;
  return steps <= tuned ? lower : std::max(std::ldexp(lower, tuned - steps), smallest_lower_end);
}

std::optional<std::vector<Row>> preset_table(std::string_view name, int steps, PresetScale scale) {
  if (steps < 1) return std::nullopt;
  if (name == "polar_express")
    return polar_express(preset_lower(steps, scale), steps, default_cushion, preset_safety);
  if (name == "polar_express_paper") return cut_or_repeat(paper_rows, steps);
  if (name == "muon") return cut_or_repeat(muon_rows, steps);
  if (name == "you") return cut_or_repeat(you_rows, steps);
  if (name == "taylor") return cut_or_repeat(taylor_rows, steps);
  return std::nullopt;
}

}  // namespace gramian
