// Just enough to state expectations: a failed one is printed with its place and values, and the
// program's exit code tells CTest.
#pragma once

#include <cmath>
#include <cstdio>

namespace gramian::test {

inline int failures = 0;
inline int checks = 0;

inline void report(bool ok, const char* file, int line, const char* what, double got,
                   double bound) {
  ++checks;
  if (ok) return;
  ++failures;
  std::printf("%s:%d: %s (got %.17g, allowed %.17g)\n", file, line, what, got, bound);
}

inline int finish() {
  std::printf("%d checks, %d failed\n", checks, failures);
  return failures || !checks ? 1 : 0;  // a test that checked nothing has failed
}

}  // namespace gramian::test

#define CHECK(condition) \
  ::gramian::test::report(static_cast<bool>(condition), __FILE__, __LINE__, #condition, 0, 1)
/// value <= bound; NaN fails.
#define CHECK_AT_MOST(value, bound)                                                              \
  ::gramian::test::report((value) <= (bound), __FILE__, __LINE__, #value " <= " #bound, (value), \
                          (bound))
