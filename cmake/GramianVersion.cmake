# The version has one source, the git tag: through the Python build, which has asked already, or
# through git itself. A source tree with neither is 0.0.0.
if(SKBUILD_PROJECT_VERSION_FULL)
  set(GRAMIAN_VERSION_FULL ${SKBUILD_PROJECT_VERSION_FULL})
else()
  execute_process(COMMAND git describe --tags --match "v[0-9]*" --abbrev=0
                  WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}
                  OUTPUT_VARIABLE GRAMIAN_VERSION_FULL OUTPUT_STRIP_TRAILING_WHITESPACE
                  ERROR_QUIET)
  string(REGEX REPLACE "^v" "" GRAMIAN_VERSION_FULL "${GRAMIAN_VERSION_FULL}")
endif()
if(GRAMIAN_VERSION_FULL MATCHES "^[0-9]+(\\.[0-9]+)*")
  set(GRAMIAN_VERSION_NUMBERS ${CMAKE_MATCH_0})
else()
  set(GRAMIAN_VERSION_FULL 0.0.0)
  set(GRAMIAN_VERSION_NUMBERS 0.0.0)
endif()
