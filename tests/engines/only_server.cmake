# Read by llama.cpp's build (CMAKE_PROJECT_llama.cpp_INCLUDE), to save minutes on a machine that has not built it
# yet: of its two dozen programs only the server is built, and of that only ggml, which computes, is optimised;
# headers that most files read are compiled once, and small files that read the same ones as one.

function(leave_out_all_but_the_server directory)
    get_property(subdirectories DIRECTORY "${directory}" PROPERTY SUBDIRECTORIES)
    foreach(subdirectory IN LISTS subdirectories)
        leave_out_all_but_the_server("${subdirectory}")
    endforeach()
    get_property(targets DIRECTORY "${directory}" PROPERTY BUILDSYSTEM_TARGETS)
    list(REMOVE_ITEM targets llama-server)
    foreach(target IN LISTS targets)
        set_property(TARGET "${target}" PROPERTY EXCLUDE_FROM_ALL ON)
    endforeach()
endfunction()

function(do_not_optimise)
    foreach(target IN LISTS ARGN)
        target_compile_options("${target}" PRIVATE -O0)
    endforeach()
endfunction()

function(compile_headers_once target)
    get_target_property(directory "${target}" SOURCE_DIR)
    list(TRANSFORM ARGN PREPEND "${directory}/" OUTPUT_VARIABLE headers)
    target_precompile_headers("${target}" PRIVATE <algorithm> <functional> <map> <regex> <sstream> ${headers})
endfunction()

function(compile_as_one target pattern)
    get_target_property(directory "${target}" SOURCE_DIR)
    get_target_property(others "${target}" SOURCES)
    list(FILTER others EXCLUDE REGEX "${pattern}")
    list(TRANSFORM others PREPEND "${directory}/")
    set_source_files_properties(${others} DIRECTORY "${directory}" PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    set_target_properties("${target}" PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 10)
endfunction()

function(build_quickly)
    leave_out_all_but_the_server("${CMAKE_SOURCE_DIR}")
    do_not_optimise(cpp-httplib llama llama-common mtmd server-context llama-server-impl)
    compile_headers_once(llama-common common.h chat.h parsers/parsers.h)
    compile_headers_once(server-context server-common.h server-task.h)
    compile_as_one(llama-common "^parsers/")
    compile_as_one(mtmd "^models/")
endfunction()

cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL build_quickly)
