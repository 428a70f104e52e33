# Linked privately by every target of our own.
add_library(gramian_warnings INTERFACE)
if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  target_compile_options(
    gramian_warnings INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wnon-virtual-dtor>)
  if(GRAMIAN_WARNINGS_AS_ERRORS)
    target_compile_options(gramian_warnings INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
  endif()
endif()
if(GRAMIAN_SANITIZE)
  add_compile_options(-fsanitize=${GRAMIAN_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${GRAMIAN_SANITIZE})
endif()
