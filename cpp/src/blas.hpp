// BLAS and LAPACK, by whichever names the chosen library exports them.
#pragma once

#include <string>

#if defined(GRAMIAN_SCIPY_OPENBLAS)
// scipy-openblas32 prefixes every symbol, so that it can live in one process with another OpenBLAS.
#define GRAMIAN_BLAS(name) scipy_##name
#else
#define GRAMIAN_BLAS(name) name
#endif

#include <cblas.h>

#if defined(GRAMIAN_SCIPY_OPENBLAS) || defined(OPENBLAS_VERSION)
#define GRAMIAN_HAS_OPENBLAS 1
#endif

namespace gramian::detail {

inline std::string blas_description() {
#if defined(GRAMIAN_HAS_OPENBLAS)
  return std::string(GRAMIAN_BLAS(openblas_get_config)()) + ", kernels " +
         GRAMIAN_BLAS(openblas_get_corename)();
#else
  return GRAMIAN_BLAS_NAME;
#endif
}

/// The library threads its own work (context.hpp); its private BLAS must not add threads to that.
inline void blas_use_one_thread() {
#if defined(GRAMIAN_SCIPY_OPENBLAS)
  GRAMIAN_BLAS(openblas_set_num_threads)(1);
#endif
}

}  // namespace gramian::detail
