# Read by CMake right after llama.cpp's own `project` line. The bindings need the library alone, not the
# code that llama.cpp's programs share (57 of 140 build steps).
set(LLAMA_BUILD_COMMON OFF)
