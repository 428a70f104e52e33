// How functions of singular values go through a batch: scratch memory, threads, finite input,
// results that overlap it.
#pragma once

#include <atomic>
#include <cmath>
#include <initializer_list>
#include <new>
#include <vector>

#include "batch.hpp"
#include "gramian/status.hpp"
#include "gramian/workspace.hpp"

namespace gramian::detail {

/// one(ctx, b, largest entry, workspace) for every matrix, each worth so many products with its
/// adjoint. bytes(threads): workspace of one. Its std::bad_alloc becomes out_of_memory.
template <class S, class Bytes, class One>
Status run_batch(const BatchView<const S>& x, bool check_finite, double products,
                 const Bytes& bytes, const One& one) {
  const index_t count = x.size();
  const BatchPlan plan(count, x.first.rows, x.first.cols, products);
  Context ctx(plan.want, plan.gated);
  const std::size_t per_matrix = bytes(plan.shared ? ctx.size() : 1);
  const int slots = plan.shared ? 1 : ctx.size();
  const WorkspaceMemory memory(per_matrix * static_cast<std::size_t>(slots));
  if (!memory.ok()) return Status::out_of_memory;
  std::vector<double> largest(static_cast<std::size_t>(count));
  largest_entries<S>(ctx, x, plan.shared, largest);
  if (check_finite)
    for (double v : largest)
      if (!std::isfinite(v)) return Status::not_finite;
  std::atomic<bool> no_memory{false};
  const auto guarded = [&](Context& mine, index_t b, Workspace workspace) {
    try {
      one(mine, b, largest[static_cast<std::size_t>(b)], workspace);
    } catch (const std::bad_alloc&) {
      no_memory = true;
    }
  };
  if (plan.shared) {
    for (index_t b = 0; b < count; ++b) guarded(ctx, b, memory.view());
  } else {
    ctx.run(count, [&](index_t b, int slot) {
      Workspace mine = memory.view();
      mine.take<std::byte>(static_cast<index_t>(per_matrix) * slot);
      Context serial(1, false);
      guarded(serial, b, mine);
    });
  }
  return no_memory ? Status::out_of_memory : Status::ok;
}

/// fn(x), or fn(a copy of x) where a result overlaps it other than entry by entry: a matrix is read
/// whole before its first result is written, but not before all.
template <class F>
Status with_separate_input(const ArrayRef& x, std::initializer_list<ArrayRef> results, F&& fn) {
  bool copy = false;
  int written = 0;
  for (const ArrayRef& result : results) {
    if (!result.data || has_no_entries(result)) continue;
    ++written;
    copy = copy || (overlaps(x, result) &&
                    (written > 1 || result.shape != x.shape || !same_entries(x, result)));
  }
  if (!copy) return fn(x);
  ArrayRef other = x;
  index_t size = 1;
  for (std::size_t d = x.shape.size(); d-- > 0; size *= x.shape[d]) other.strides[d] = size;
  const WorkspaceMemory memory(static_cast<std::size_t>(size * element_size(x.dtype)));
  if (!memory.ok()) return Status::out_of_memory;
  other.data = memory.view().take<std::byte>(size * element_size(x.dtype));
  with_stored_type(x.dtype, [&]<class S>() {
    Context serial(1, false);
    const auto from = x.matrices<const S>();
    const auto to = other.matrices<S>();
    for (index_t b = 0; b < from.size(); ++b)
      map_entries<S, S>(serial, from[b], to[b], [](const S& v) { return v; });
  });
  return fn(other);
}

}  // namespace gramian::detail
