#!/usr/bin/env bash
# Runs a command with the CUDA emulator in place of NVIDIA's driver, and with NVRTC. Both are put under the
# target folder: the emulator is built, NVRTC downloaded.
#
#   scripts/with-cuda-emulator.sh COMMAND...
#
# backends/cuda/emulator/src/lib.rs lists the settings that may be given in the environment.
set -euo pipefail

if [ $# -eq 0 ]; then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/cuda.sh"
target=$(cd "$root" && mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
export CARGO_TARGET_DIR="$target"
cargo build --quiet --release --locked --manifest-path "$root/Cargo.toml" -p halite-cuda-emulator
install_nvrtc

folder="$target/cuda/emulator"
mkdir -p "$folder"
for name in libcuda.so.1 libcuda.so; do
    # Renamed into place: a command that runs meanwhile keeps what it opened.
    cp "$target/release/libhalite_cuda_emulator.so" "$folder/$name.part"
    mv "$folder/$name.part" "$folder/$name"
done
LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "$@"
