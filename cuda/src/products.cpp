#include "products.hpp"

#include <utility>

namespace gramian::cuda {

bool wide_layout(const ArrayRef& out, Layout& layout) {
  const auto last = out.shape.size() - 1;
  layout = {out.data, out.strides[last - 1], out.strides[last], 0};
  if (out.shape[last - 1] > out.shape[last]) std::swap(layout.down, layout.across);
  index_t count = 1;  // matrices within one step of dimension d
  for (std::size_t d = last - 1; d-- > 0;) {
    if (out.shape[d] == 1) continue;
    if (count == 1)
      layout.stride = out.strides[d];
    else if (out.strides[d] != layout.stride * count)
      return false;
    count *= out.shape[d];
  }
  return true;
}

}  // namespace gramian::cuda
