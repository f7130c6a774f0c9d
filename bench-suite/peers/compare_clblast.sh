#!/usr/bin/env bash
# Speed of f32 matrix products of Halite and CLBlast on one OpenCL device, measured in turns in one run.
#
#   bench-suite/peers/compare_clblast.sh [ROUNDS] [SAMPLES]        default 7 rounds of 15 samples
#
# Each round times both programs once for every shape and layout of the second factor ([k, n] and [n, k]), so that
# whatever else the machine does meets both. Prints the median over the rounds of each one's medians, in
# milliseconds, and how many times as fast Halite is; the same of the best samples, the ones to believe when other
# programs use the cores. Installs CLBlast, a C compiler and PoCL where they are missing and the user may.
#
#   SHAPES   MxNxK, separated by spaces (default "512x512x512 1024x1024x1024")
set -euo pipefail
cd "$(dirname "$0")/../.."

rounds=${1:-7}
samples=${2:-15}
shapes=${SHAPES:-512x512x512 1024x1024x1024}
for n in "$rounds" "$samples"; do
    [[ $n =~ ^[1-9][0-9]*$ ]] ||
        { echo "compare_clblast.sh: rounds and samples must be 1 or more, got '$n'" >&2; exit 2; }
done

packages=(gcc libc6-dev libclblast-dev ocl-icd-opencl-dev opencl-c-headers pocl-opencl-icd)
if ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
    [[ $(id -u) == 0 ]] ||
        { echo "compare_clblast.sh: install ${packages[*]} first, or run this as root" >&2; exit 1; }
    apt-get install -y --no-install-recommends "${packages[@]}" >&2
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
gcc -O2 -Wall -o "$folder/sgemm" bench-suite/peers/clblast/sgemm.c -lclblast -lOpenCL -lm
cargo build --quiet --release -p halite-bench --example matmul
ours=${CARGO_TARGET_DIR:-target}/release/examples/matmul

for ((round = 1; round <= rounds; round++)); do
    for shape in $shapes; do
        for layout in kn nk; do
            # A failure inside an echo would go unnoticed.
            line=$("$ours" opencl:0 $layout "$samples" "$shape" 2>"$folder/ours")
            echo "$shape $layout $line"
            line=$("$folder/sgemm" $layout "$samples" "$shape" 2>"$folder/device")
            echo "$shape $layout $line"
            cmp "$folder/ours" "$folder/device" >&2 # one device, or there is nothing to compare
        done
    done
done | tee "$folder/results" >&2

echo "device: $(cat "$folder/device"); CLBlast $(dpkg-query -W -f '${Version}' libclblast1), PoCL $(dpkg-query -W -f '${Version}' pocl-opencl-icd)"
awk '
function median(list,   n, x, i, j, t) {
    n = split(list, x, " ")
    for (i = 2; i <= n; i++) for (j = i; j > 1 && x[j] < x[j - 1]; j--) { t = x[j]; x[j] = x[j - 1]; x[j - 1] = t }
    return x[int((n + 1) / 2)]
}
function least(list,   n, x, i, m) { n = split(list, x, " "); m = x[1]; for (i = 2; i <= n; i++) if (x[i] < m) m = x[i]; return m }
{
    key = $1 " " $2
    if (!(key in seen)) { seen[key] = 1; order[++count] = key }
    if ($3 == "clblast") { theirs[key] = theirs[key] " " $4; their_best[key] = their_best[key] " " $5 }
    else { name[key] = $3; ours[key] = ours[key] " " $4; our_best[key] = our_best[key] " " $5 }
}
END {
    for (i = 1; i <= count; i++) {
        key = order[i]
        a = median(ours[key] ""); b = median(theirs[key] ""); c = least(our_best[key]); d = least(their_best[key])
        printf "%s: Halite (%s) %.2f ms, CLBlast %.2f ms, ratio %.2f; best %.2f and %.2f ms, ratio %.2f\n", key, name[key], a, b, b / a, c, d, d / c
    }
}' "$folder/results"
