#include "tall_float64.hpp"

#include <algorithm>

#include "device_properties.hpp"
#include "tall_float64.cuh"

namespace gramian::cuda {

namespace {

struct GramPlan {
  index_t x_tiles, y_tiles, tiles, parts, part_rows;
};

/// About two blocks to a multiprocessor, but none with few rows to sum over.
GramPlan plan_gram(const Queue& queue, index_t rows, index_t x_cols, index_t y_cols,
                   bool symmetric) {
  GramPlan p{};
  p.x_tiles = ceil_div(x_cols, tall::tile);
  p.y_tiles = ceil_div(y_cols, tall::tile);
  p.tiles = symmetric ? p.x_tiles * (p.x_tiles + 1) / 2 : p.x_tiles * p.y_tiles;
  const index_t wanted = ceil_div(index_t{2} * multiprocessors(queue.device), p.tiles);
  const index_t least = 4 * tall::depth;
  p.part_rows = std::max(least, ceil_div(ceil_div(rows, wanted), tall::depth) * tall::depth);
  p.parts = ceil_div(rows, p.part_rows);
  return p;
}

template <class X, class Y>
void launch_gram(const Queue& queue, const GramPlan& plan, const tall::GramArguments& arguments) {
  launch_after(queue, tall::gram_kernel<X, Y>, grid_size(plan.parts * plan.tiles), tall::threads,
               "launching a Gram matrix", arguments);
}

template <class X, class C>
void launch_product(const Queue& queue, const TallProduct& product) {
  const index_t across = ceil_div(product.cols, tall::tile);
  launch_after(queue, tall::product_kernel<X, C>,
               grid_size(ceil_div(product.x.rows, tall::tile) * across), tall::threads,
               "launching a tall product", product, across);
}

}  // namespace

index_t tall_gram_scratch(const Queue& queue, index_t rows, index_t x_cols, index_t y_cols) {
  const GramPlan whole = plan_gram(queue, rows, x_cols, y_cols, false);
  const GramPlan half = plan_gram(queue, rows, x_cols, y_cols, x_cols == y_cols);
  return std::max(whole.parts * whole.tiles, half.parts * half.tiles) * (tall::tile * tall::tile);
}

void tall_gram(const Queue& queue, const TallMatrix& x, const TallMatrix& y, double* gram,
               double* scratch) {
  const bool symmetric = x.data == y.data && x.cols == y.cols;
  const GramPlan plan = plan_gram(queue, x.rows, x.cols, y.cols, symmetric);
  const tall::GramArguments arguments{x.data,         y.data,       x.rows,       x.cols,
                                      y.cols,         plan.x_tiles, plan.y_tiles, plan.tiles,
                                      plan.part_rows, symmetric,    scratch};
  if (x.single && y.single)
    launch_gram<float, float>(queue, plan, arguments);
  else if (x.single)
    launch_gram<float, double>(queue, plan, arguments);
  else if (y.single)
    launch_gram<double, float>(queue, plan, arguments);
  else
    launch_gram<double, double>(queue, plan, arguments);
  const tall::SumArguments sum{scratch, plan.parts, plan.tiles, plan.y_tiles,
                               x.cols,  y.cols,     symmetric,  gram};
  launch_after(queue, tall::gram_sum_kernel,
               grid_size(ceil_div(x.cols * y.cols, tall::sum_entries)), tall::threads,
               "launching a sum of Gram matrices", sum);
}

void tall_product(const Queue& queue, const TallProduct& product) {
  if (product.x.single && product.single) return launch_product<float, float>(queue, product);
  if (product.x.single) return launch_product<float, double>(queue, product);
  if (product.single) return launch_product<double, float>(queue, product);
  launch_product<double, double>(queue, product);
}

}  // namespace gramian::cuda
