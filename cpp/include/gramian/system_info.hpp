// What the library was built with and runs on, for bug reports.
#pragma once

#include <string>

namespace gramian {

/// The library's version, from the git tag it was built at.
const char* version();
/// Instruction set of the register tiles in use: "generic", "avx2" or "avx512".
const char* instruction_set();
/// Name, version and kernels of the BLAS/LAPACK that the library is linked to.
std::string blas_description();
/// Compiler and its version.
const char* compiler();

}  // namespace gramian
