# Library nicrt_cuda: the sources of src/device once more, for NVIDIA GPUs (nicrt/device.hpp). Nothing needs it.
if(NOT NICRT_CUDA STREQUAL "OFF")
    include(CheckLanguage)
    check_language(CUDA)
    if(NOT CMAKE_CUDA_COMPILER AND NOT NICRT_CUDA STREQUAL "AUTO")
        message(FATAL_ERROR "NICRT_CUDA is ${NICRT_CUDA} and no CUDA compiler was found")
    endif()
endif()
if(NICRT_CUDA STREQUAL "OFF" OR NOT CMAKE_CUDA_COMPILER)
    return()
endif()

# Code for A100, L4 and RTX 40, H100 and H200; later ones compile the PTX of the last when they load it.
if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 89-real 90)
endif()
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)  # imports on machines without a driver, where it says that there is no device
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.0)
    message(STATUS "nvcc ${CMAKE_CUDA_COMPILER_VERSION} has no C++20: built without CUDA")
    return()
endif()
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake before 3.26 does not know that nvcc has C++20
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
endif()
find_package(CUDAToolkit REQUIRED)

add_library(nicrt_cuda STATIC
    src/device/kernels.cu
    src/device/queue_cuda.cpp
    src/device/staging.cpp
    src/device/stream_decoder.cpp
    src/device/tables.cpp)
add_library(nicrt::nicrt_cuda ALIAS nicrt_cuda)
set_target_properties(nicrt_cuda PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_compile_definitions(nicrt_cuda PUBLIC NICRT_DEVICE_CUDA)
target_include_directories(nicrt_cuda PRIVATE src)
target_link_libraries(nicrt_cuda PUBLIC nicrt PRIVATE CUDA::cudart_static)
target_compile_options(nicrt_cuda PRIVATE
    "$<$<COMPILE_LANGUAGE:CXX>:${NICRT_WARNINGS}>"
    $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>)
