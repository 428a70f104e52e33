#include "gramian/system_info.hpp"

#include "blas.hpp"
#include "tile_kernel.hpp"

#define GRAMIAN_STRING_OF(x) #x
#define GRAMIAN_STRING(x) GRAMIAN_STRING_OF(x)

namespace gramian {

namespace {
[[maybe_unused]] const bool blas_is_quiet = (detail::blas_use_one_thread(), true);
}

const char* version() { return GRAMIAN_VERSION; }

const char* instruction_set() { return detail::tile_kernels<float>().isa; }

std::string blas_description() { return detail::blas_description(); }

const char* compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "gcc " GRAMIAN_STRING(__GNUC__) "." GRAMIAN_STRING(__GNUC_MINOR__) "." GRAMIAN_STRING(
      __GNUC_PATCHLEVEL__);
#else
  return "unknown";
#endif
}

}  // namespace gramian
