#!/usr/bin/env bash
# Speed of f32 matrix products of Halite and of llama.cpp's Vulkan backend on lavapipe, measured in turns in one run.
#
#   bench-suite/peers/compare_llama_cpp.sh [FOLDER] [ROUNDS]        default: a temporary folder, 5 rounds
#
# Builds `test-backend-ops` of the llama.cpp that the Python package llama_cpp_python carries; with FOLDER, sources
# and build stay there for another run. Each round times each program once for every shape: as many products as make
# 4 GFLOP, after one to warm up, submitted together and waited for once, so that this is throughput. Prints the
# median over the rounds of each one's milliseconds a product, how many times as fast Halite is, and the same of the
# best rounds, the ones to believe when other programs use the cores.
#
# llama.cpp is timed as it comes, which rounds f32 factors to f16 where the device has f16, as lavapipe does, and
# with that off ("f32"), which is what Halite computes. A weight over the 128 MiB that lavapipe binds it refuses; its
# refusal is printed beside Halite's time.
#
#   JOBS     compilers at a time (default 1); the build takes about a quarter of an hour of two cores
#   SHAPES   MxNxK, separated by spaces: M tokens times a weight of N rows of K
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { echo "compare_llama_cpp.sh: $1" >&2; exit 1; }

# The patches below were made for this version.
version=0.3.36
rounds=${2:-5}
[[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "rounds must be 1 or more, got '$rounds'"
shapes=${SHAPES:-512x512x512 1024x1024x1024 1x4096x4096 8x4096x4096 512x4096x4096 1x4096x14336 8x4096x14336}
packages=(cmake g++ glslc libvulkan-dev mesa-vulkan-drivers spirv-headers)
python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
if ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
    [[ $(id -u) == 0 ]] || fail "install ${packages[*]} first, or run this as root"
    apt-get install -y --no-install-recommends "${packages[@]}" >&2
fi

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
folder=${1:-$results}
mkdir -p "$folder"
peer=$folder/build/bin/test-backend-ops
if [[ ! -x $peer ]]; then
    source=$folder/sources/vendor/llama.cpp
    if [[ ! -e $folder/patched ]]; then
        # Its build's own needs may come as wheels: built from source too, they would take longer than llama.cpp.
        python3 -m pip download --quiet --no-binary llama_cpp_python --no-deps -d "$folder" "llama_cpp_python==$version" >&2
        rm -rf "$folder/sources"
        mkdir "$folder/sources"
        tar -xzf "$folder/llama_cpp_python-$version.tar.gz" -C "$folder/sources" --strip-components=1
        # Debian 12's Vulkan headers don't have the structures that set up the validation layer; it isn't used here.
        sed -i '/enable_best_practice = /,/layer_setting_info(settings)/d; s/, &layer_setting_info)/)/' \
            "$source/ggml/src/ggml-vulkan/ggml-vulkan.cpp"
        # Its list of products to time has few of f32, so ours come in by a variable.
        sed -i '/^static .* make_test_cases_perf() {/,/test_cases;/ s|test_cases;|&\
    if (const char * shapes = getenv("PEER_SHAPES")) {\
        std::istringstream list(shapes);\
        for (int64_t m, n, k; list >> m >> n >> k;) {\
            test_cases.emplace_back(new test_mul_mat(GGML_TYPE_F32, GGML_TYPE_F32, m, n, k, {1, 1}, {1, 1}));\
        }\
        return test_cases;\
    }|' "$source/tests/test-backend-ops.cpp"
        # It wants 100 GFLOP of a GPU for each product, minutes here.
        sed -i 's/target_flops_gpu = 100ULL/target_flops_gpu = 4ULL/' "$source/tests/test-backend-ops.cpp"
        # The tests link all models, hundreds of files; this one needs none of them.
        sed -i 's/PRIVATE llama llama-common)/PRIVATE ggml)/' "$source/tests/CMakeLists.txt"
        for patch in 'getenv("PEER_SHAPES")' 'target_flops_gpu = 4ULL'; do
            grep -qF "$patch" "$source/tests/test-backend-ops.cpp" || fail "no place for $patch"
        done
        touch "$folder/patched"
    fi
    # Without its CPU backend nothing can run there under the name of another device.
    cmake -S "$source" -B "$folder/build" -DCMAKE_BUILD_TYPE=Release -DGGML_VULKAN=ON -DGGML_CPU=OFF \
        -DGGML_CCACHE=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=ON -DLLAMA_BUILD_EXAMPLES=OFF \
        -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF >&2
    nice -n 15 cmake --build "$folder/build" --target test-backend-ops -j "${JOBS:-1}" >&2
fi
cargo build --quiet --release -p halite-bench --example matmul
ours=${CARGO_TARGET_DIR:-target}/release/examples/matmul

# Both programs take the first device, so lavapipe is to be the only one.
unset VK_ADD_DRIVER_FILES VK_ICD_FILENAMES
VK_DRIVER_FILES=$(dpkg -L mesa-vulkan-drivers | grep 'lvp_icd.*json')
# Without this variable llama.cpp passes software drivers over.
export VK_DRIVER_FILES GGML_VK_VISIBLE_DEVICES=0

theirs() { # SHAPE NAME: one line, "SHAPE NAME milliseconds", or the refusal
    local m n k line
    IFS=x read -r m n k <<<"$1"
    # Its m is the weight's rows, and n the tokens.
    PEER_SHAPES="$n $m $k" "$peer" perf -b Vulkan0 -o MUL_MAT >"$results/perf" 2>"$results/log" ||
        fail "test-backend-ops failed: $(tail -n 3 "$results/log")"
    sed -n 's/ *Device description: //p' "$results/perf" >"$results/theirs"
    grep -q llvmpipe "$results/theirs" || fail "llama.cpp isn't on llvmpipe: $(cat "$results/theirs")"
    line=$(grep -m1 'MUL_MAT(type_a=f32,type_b=f32' "$results/perf") || fail "no product in $(cat "$results/perf")"
    case $line in
    *'not supported'*) echo "$1 $2 refused: $line" ;;
    *) echo "$1 $2 $(sed -E 's|.* ([0-9.]+) us/run.*|\1|' <<<"$line" | awk '{ print $1 / 1000 }')" ;;
    esac
}

for ((round = 1; round <= rounds; round++)); do
    for shape in $shapes; do
        products=$(awk -F x '{ print int(4e9 / (2 * $1 * $2 * $3)) + 1 }' <<<"$shape")
        line=$("$ours" vulkan:0 nk "1x$products" "$shape" 2>"$results/ours")
        grep -q llvmpipe "$results/ours" || fail "Halite isn't on llvmpipe: $(cat "$results/ours")"
        echo "$shape halite $(awk '{ print $2, $1 }' <<<"$line")"
        theirs "$shape" llama.cpp
        GGML_VK_DISABLE_F16=1 theirs "$shape" llama.cpp-f32
    done
done | tee "$results/all" >&2

echo "Halite on $(cat "$results/ours"), llama_cpp_python $version on $(cat "$results/theirs"), mesa $(dpkg-query -W -f '${Version}' mesa-vulkan-drivers)"
awk '
function median(list,   n, x, i, j, t) {
    n = split(list, x, " ")
    for (i = 2; i <= n; i++) for (j = i; j > 1 && x[j] < x[j - 1]; j--) { t = x[j]; x[j] = x[j - 1]; x[j - 1] = t }
    return x[int((n + 1) / 2)]
}
function least(list,   n, x, i, m) { n = split(list, x, " "); m = x[1]; for (i = 2; i <= n; i++) if (x[i] + 0 < m + 0) m = x[i]; return m }
{
    if (!($1 in seen)) { seen[$1] = 1; order[++count] = $1 }
    if ($3 == "refused:") { refusal[$1, $2] = $0; sub(/.*refused: */, "", refusal[$1, $2]); next }
    times[$1, $2] = times[$1, $2] " " $3
    if ($2 == "halite") variant[$1] = $4
}
END {
    for (i = 1; i <= count; i++) {
        key = order[i]
        a = median(times[key, "halite"]); c = least(times[key, "halite"])
        printf "%s: Halite (%s) median %.3f ms, best %.3f ms\n", key, variant[key], a, c
        for (j = 1; j <= 2; j++) {
            peer = j == 1 ? "llama.cpp" : "llama.cpp-f32"
            if ((key, peer) in refusal) { printf "    %s: %s\n", peer, refusal[key, peer]; continue }
            b = median(times[key, peer]); d = least(times[key, peer])
            printf "    %s median %.3f ms, best %.3f ms; ratio of medians %.2f, of best rounds %.2f\n", peer, b, d, b / a, d / c
        }
    }
}' "$results/all"
