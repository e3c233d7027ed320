# The backend for ONNX Runtime's C API (nicrt/onnxruntime.hpp), where its header is found. The library itself is opened
# at run time: nothing is linked with it.
set(NICRT_ONNXRUNTIME AUTO CACHE STRING
    "Build the ONNX Runtime backend: ON, OFF, or AUTO (where onnxruntime_c_api.h of version 1.19 or later is found)")
if(NICRT_ONNXRUNTIME STREQUAL "OFF")
    return()
endif()

find_path(NICRT_ONNXRUNTIME_INCLUDE onnxruntime_c_api.h PATH_SUFFIXES onnxruntime onnxruntime/core/session
    DOC "Folder of onnxruntime_c_api.h")
set(version 0)
if(NICRT_ONNXRUNTIME_INCLUDE)
    file(STRINGS "${NICRT_ONNXRUNTIME_INCLUDE}/onnxruntime_c_api.h" line REGEX "^#define ORT_API_VERSION [0-9]+")
    string(REGEX MATCH "[0-9]+$" version "${line}")
endif()
if(NOT NICRT_ONNX OR NOT UNIX OR EMSCRIPTEN OR version LESS 19)
    if(NOT NICRT_ONNXRUNTIME STREQUAL "AUTO")
        message(FATAL_ERROR "NICRT_ONNXRUNTIME is ${NICRT_ONNXRUNTIME}: it needs NICRT_ONNX, dlopen and "
            "onnxruntime_c_api.h of version 1.19 or later (NICRT_ONNXRUNTIME_INCLUDE)")
    endif()
    return()
endif()

message(STATUS "ONNX Runtime backend: with ${NICRT_ONNXRUNTIME_INCLUDE}/onnxruntime_c_api.h, version 1.${version}")
target_sources(nicrt PRIVATE
    src/backends/onnxruntime.cpp
    src/backends/onnxruntime_api.cpp
    src/backends/shared_library.cpp)
target_compile_definitions(nicrt PUBLIC NICRT_ONNXRUNTIME)
target_include_directories(nicrt SYSTEM PRIVATE "${NICRT_ONNXRUNTIME_INCLUDE}")
target_link_libraries(nicrt PUBLIC ${CMAKE_DL_LIBS})
