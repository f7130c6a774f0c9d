#!/usr/bin/env bash
# Matrix products of Halite and of llama.cpp's Vulkan backend on one Vulkan device (the first), one after the other.
#
#   bench-suite/peers/compare_llama_cpp.sh [FOLDER]        default: a folder that is removed afterwards
#
# Builds llama.cpp from the sources that the Python package llama_cpp_python carries, runs its
# `test-backend-ops perf -o MUL_MAT`, and prints its f32 lines and ours for the shapes below, among them a weight
# over the 128 MiB that lavapipe binds: llama.cpp refuses it, Halite cuts it. With FOLDER, sources and build stay
# there for another run. Needs python3 with pip, cmake, g++ and the packages below, and takes a long time.
#
#   JOBS     compilers at a time (default 1)
#   SHAPES   MxNxK, separated by spaces, m being the tokens
set -euo pipefail
cd "$(dirname "$0")/../.."

shapes=${SHAPES:-512x512x512 1x4096x14336 8x4096x14336 512x4096x14336 1x8192x8192}
packages=(cmake g++ glslc libvulkan-dev spirv-headers mesa-vulkan-drivers)
if ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
    [[ $(id -u) == 0 ]] ||
        { echo "compare_llama_cpp.sh: install ${packages[*]} first, or run this as root" >&2; exit 1; }
    apt-get install -y --no-install-recommends "${packages[@]}" >&2
fi

folder=${1:-}
if [[ -z $folder ]]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi
mkdir -p "$folder"
peer=$folder/build/bin/test-backend-ops
if [[ ! -x $peer ]]; then
    python3 -m pip download --quiet --no-binary :all: --no-deps --no-build-isolation -d "$folder" llama_cpp_python ||
        python3 -m pip download --quiet --no-binary :all: --no-deps -d "$folder" llama_cpp_python
    mkdir -p "$folder/sources"
    tar -xzf "$folder"/llama_cpp_python-*.tar.gz -C "$folder/sources" --strip-components=1
    source=$folder/sources/vendor/llama.cpp
    # Debian 12's Vulkan headers don't have the structure that switches checks of the validation layer on.
    sed -i '/validation_layers = true/d; /VkLayerSettings\|VK_EXT_layer_settings\|layer_settings/d' \
        "$source/ggml/src/ggml-vulkan/ggml-vulkan.cpp"
    cmake -S "$source" -B "$folder/build" -DCMAKE_BUILD_TYPE=Release -DGGML_VULKAN=ON -DLLAMA_CURL=OFF \
        -DLLAMA_BUILD_TESTS=ON -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF >&2
    nice -n 10 cmake --build "$folder/build" --target test-backend-ops -j "${JOBS:-1}" >&2
fi

# Without this variable llama.cpp passes software drivers over, and then runs on the CPU under the name Vulkan.
GGML_VK_VISIBLE_DEVICES=0 "$peer" perf -b Vulkan0 -o MUL_MAT >"$folder/perf" 2>"$folder/log"
cat "$folder/log" "$folder/perf" | grep -m1 -i 'llvmpipe' ||
    { echo "compare_llama_cpp.sh: llama.cpp didn't use llvmpipe; see $folder/log" >&2; exit 1; }
echo "llama.cpp, test-backend-ops (its m is the weight's rows, n the tokens):"
grep 'type_a=f32,type_b=f32' "$folder/perf" || echo "no f32 products in its list"

cargo build --quiet --release -p halite-bench --example matmul
ours=${CARGO_TARGET_DIR:-target}/release/examples/matmul
echo "Halite (variant, median and best in ms, first call in ms); weights [n, k]:"
for shape in $shapes; do
    echo "$shape $("$ours" vulkan:0 nk 5 "$shape")"
done
