#include "gramian/workspace.hpp"

#include <cstdlib>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace gramian {

namespace {
// A fresh workspace of tens of MB costs thousands of page faults, some percent of a 1024 x 1024
// polar factor; 2 MB pages make it a handful.
constexpr std::size_t huge_page = std::size_t{1} << 21;
}  // namespace

WorkspaceMemory::WorkspaceMemory(std::size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  const std::size_t unit = bytes >= 2 * huge_page ? huge_page : Workspace::alignment;
  const std::size_t rounded = (bytes + unit - 1) / unit * unit;
  data_.reset(static_cast<std::byte*>(std::aligned_alloc(unit, rounded)));
#if defined(__linux__)
  if (data_ && unit == huge_page) madvise(data_.get(), rounded, MADV_HUGEPAGE);
#endif
}

void WorkspaceMemory::Free::operator()(std::byte* p) const { std::free(p); }

}  // namespace gramian
