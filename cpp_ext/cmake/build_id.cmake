# build_id.cpp: what identifies a build of the library, made anew when a source, the compiler or its flags change.
# Included by CMakeLists.txt, and run by the build (cmake -P) to write the file.
if(CMAKE_SCRIPT_MODE_FILE)
    file(GLOB_RECURSE sources LIST_DIRECTORIES false RELATIVE ${ROOT} ${ROOT}/src/* ${ROOT}/include/*)
    list(SORT sources)
    set(hashes "${COMPILER}")
    foreach(source IN LISTS sources)
        file(SHA256 ${ROOT}/${source} hash)
        string(APPEND hashes "\n${source} ${hash}")
    endforeach()
    string(SHA256 id "${hashes}")
    string(SUBSTRING ${id} 0 32 id)
    file(WRITE ${OUT} "#include \"nicrt/build_id.hpp\"\n\n\
namespace nicrt {\n\nstd::string_view build_id() { return \"${id}\"; }\n\n}  // namespace nicrt\n")
    return()
endif()

set(build_id ${CMAKE_CURRENT_BINARY_DIR}/build_id.cpp)
string(TOUPPER "${CMAKE_BUILD_TYPE}" configuration)
string(JOIN " " compiler ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} ${CMAKE_SYSTEM_PROCESSOR}
    ${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${configuration}} ${NICRT_SANITIZE})
file(GLOB_RECURSE sources CONFIGURE_DEPENDS LIST_DIRECTORIES false src/* include/*)
file(GENERATE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/compiler.txt CONTENT "${compiler}\n")  # other flags: another id
add_custom_command(
    OUTPUT ${build_id}
    COMMAND ${CMAKE_COMMAND} -DROOT=${CMAKE_CURRENT_SOURCE_DIR} -DOUT=${build_id} "-DCOMPILER=${compiler}"
        -P ${CMAKE_CURRENT_LIST_FILE}
    DEPENDS ${sources} ${CMAKE_CURRENT_LIST_FILE} ${CMAKE_CURRENT_BINARY_DIR}/compiler.txt CMakeLists.txt
    VERBATIM)
target_sources(nicrt PRIVATE ${build_id})
