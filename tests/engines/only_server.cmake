# Read by llama.cpp's build (CMAKE_PROJECT_llama.cpp_INCLUDE): of its two dozen programs only the server is
# built, and of that only what computes is optimised. Both save minutes on a machine that has not built it yet.

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

function(optimise_only_what_computes)
    foreach(target IN ITEMS llama-common mtmd server-context llama-server-impl)
        if(TARGET "${target}")
            target_compile_options("${target}" PRIVATE -O0)
        endif()
    endforeach()
endfunction()

cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL leave_out_all_but_the_server "${CMAKE_SOURCE_DIR}")
cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL optimise_only_what_computes)
