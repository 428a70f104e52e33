# Defines gramian_blas, the CBLAS/LAPACK that the library links to.
#
# The products are the library's own (symmetric_product.hpp); BLAS and LAPACK are here for the
# factorizations that the other concepts rest on, and as the peer in the benchmarks.
#
# scipy-openblas32 is copied under a file name and SONAME of its own: whichever package loads an
# OpenBLAS first, nobody gets another's copy, and threadpoolctl does not mistake this one, which
# always runs one thread, for a pool it should govern.
if(NOT GRAMIAN_BLAS STREQUAL "system")
  find_package(Python COMPONENTS Interpreter QUIET)
  if(Python_Interpreter_FOUND)
    execute_process(
      COMMAND ${Python_EXECUTABLE} -c
              "import scipy_openblas32 as b; print(b.get_lib_dir(), b.get_include_dir(), sep=';')"
      OUTPUT_VARIABLE _openblas OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
  if(_openblas)
    set(GRAMIAN_BLAS_KIND scipy-openblas32)
    # The licences of OpenBLAS and of the Fortran runtime inside it travel with the copy.
    execute_process(
      COMMAND ${Python_EXECUTABLE} -c
              "from importlib.metadata import distribution as d; f = d('scipy-openblas32'); print(';'.join(str(f.locate_file(p)) for p in f.files if 'LICENSE' in p.name))"
      OUTPUT_VARIABLE GRAMIAN_BLAS_LICENSES OUTPUT_STRIP_TRAILING_WHITESPACE
      COMMAND_ERROR_IS_FATAL ANY)
  elseif(GRAMIAN_BLAS STREQUAL "scipy-openblas32")
    message(FATAL_ERROR "GRAMIAN_BLAS=scipy-openblas32, but ${Python_EXECUTABLE} cannot import "
                        "scipy_openblas32: pip install scipy-openblas32")
  endif()
endif()

if(GRAMIAN_BLAS_KIND)
  list(GET _openblas 0 _lib_dir)
  list(GET _openblas 1 _include_dir)
  set(_suffix ${CMAKE_SHARED_LIBRARY_SUFFIX})
  set(GRAMIAN_BUNDLED_BLAS ${CMAKE_BINARY_DIR}/blas/libgramian_openblas${_suffix})
  if(${_lib_dir}/libscipy_openblas${_suffix} IS_NEWER_THAN ${GRAMIAN_BUNDLED_BLAS})
    file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/blas)
    file(COPY_FILE ${_lib_dir}/libscipy_openblas${_suffix} ${GRAMIAN_BUNDLED_BLAS}.part)
    if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
      find_program(GRAMIAN_PATCHELF patchelf REQUIRED)
      execute_process(COMMAND ${GRAMIAN_PATCHELF} --set-soname libgramian_openblas.so
                              ${GRAMIAN_BUNDLED_BLAS}.part COMMAND_ERROR_IS_FATAL ANY)
    elseif(APPLE)
      execute_process(COMMAND install_name_tool -id @rpath/libgramian_openblas.dylib
                              ${GRAMIAN_BUNDLED_BLAS}.part COMMAND_ERROR_IS_FATAL ANY)
    endif()
    file(RENAME ${GRAMIAN_BUNDLED_BLAS}.part ${GRAMIAN_BUNDLED_BLAS})
  endif()
  add_library(gramian_blas SHARED IMPORTED GLOBAL)
  set_target_properties(
    gramian_blas PROPERTIES IMPORTED_LOCATION ${GRAMIAN_BUNDLED_BLAS}
                            IMPORTED_SONAME libgramian_openblas.so
                            INTERFACE_INCLUDE_DIRECTORIES ${_include_dir}
                            INTERFACE_COMPILE_DEFINITIONS GRAMIAN_SCIPY_OPENBLAS)
else()
  set(GRAMIAN_BLAS_KIND system)
  find_package(BLAS REQUIRED)
  find_package(LAPACK REQUIRED)
  find_path(GRAMIAN_CBLAS_INCLUDE cblas.h PATH_SUFFIXES openblas cblas REQUIRED)
  add_library(gramian_blas INTERFACE IMPORTED GLOBAL)
  target_link_libraries(gramian_blas INTERFACE LAPACK::LAPACK BLAS::BLAS)
  target_include_directories(gramian_blas SYSTEM INTERFACE ${GRAMIAN_CBLAS_INCLUDE})
  target_compile_definitions(gramian_blas INTERFACE GRAMIAN_BLAS_NAME="${BLAS_LIBRARIES}")
endif()
message(STATUS "gramian: BLAS ${GRAMIAN_BLAS_KIND}")
