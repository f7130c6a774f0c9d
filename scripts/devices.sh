#!/usr/bin/env bash
# Checks every device that is here, with the programs that a user has and the checkers that drivers have:
# conformance, also under the profiles of lesser devices, under Vulkan's validation layer and under oclgrind.
#
#   scripts/devices.sh         a slice of the longer lists, another one for each commit
#   scripts/devices.sh --full  all of them
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/beside.sh
halite="$(realpath "${HALITE_BIN:-${CARGO_TARGET_DIR:-target}/release/halite}")"
scratch=$(mktemp -d)
trap 'beside_none; rm -rf "$scratch"' EXIT
export HALITE_CACHE="$scratch/cache"

full=
[ "${1:-}" != --full ] || full=1
seed=$(git rev-parse HEAD 2>/dev/null | cksum | cut -d ' ' -f 1)

# The part of a list of which CI runs one Nth.
part() {
    if [ -n "$full" ]; then echo 0/1; else echo "$((seed % $1))/$1"; fi
}

# Prints a command's last line; all of it, if it fails.
run() {
    local start=$SECONDS out="$scratch/$BASHPID"
    if ! "$@" >"$out" 2>&1; then
        cat "$out" >&2
        echo "FAILED: $*" >&2
        return 1
    fi
    printf '%5d s  %s: %s\n' $((SECONDS - start)) "${*/#$halite/halite}" "$(grep -v '^$' "$out" | tail -n 1)"
}

selectors() {
    "$halite" devices --json | grep -o "\"selector\": *\"$1:[0-9]*\"" | grep -o "$1:[0-9]*" || true
}

mapfile -t vulkan < <(selectors vulkan)
mapfile -t opencl < <(selectors opencl)
mapfile -t wgpu < <(selectors wgpu)
mapfile -t cuda < <(selectors cuda)
for kind in vulkan opencl wgpu; do
    declare -n found=$kind
    [ ${#found[@]} -gt 0 ] || echo "skipped: no $kind device is here; its conformance isn't checked"
done

# How much of the list CI runs on each follows from how long the driver compiles. That takes one processor.
for device in "${vulkan[@]}"; do beside run "$halite" verify --device "$device" --slice "$(part 16)"; done
for device in "${opencl[@]}"; do beside run "$halite" verify --device "$device" --slice "$(part 60)"; done
for device in "${wgpu[@]}"; do beside run "$halite" verify --device "$device" --slice "$(part 60)"; done
for device in "${cuda[@]}"; do beside run "$halite" verify --device "$device" --slice "$(part 60)"; done
# The emulator is there always: it finds what a device would pass over in silence.
beside run scripts/with-cuda-emulator.sh "$halite" verify --device cuda --slice "$(part 60)"
beside run scripts/with-cuda-emulator.sh "$halite" verify --device cuda --pairwise --slice "$(part 12)"
for profile in minimal mtt-s80 mlu-class; do
    for device in "${vulkan[@]:0:1}" "${opencl[@]:0:1}"; do
        beside run "$halite" verify --device "$device" --profile "$profile" --slice "$(part 150)"
    done
done

for device in "${vulkan[@]}"; do
    beside run env HALITE_VALIDATE=1 "$halite" verify --device "$device" --slice "$(part 60)"
done

if [ -e /usr/lib/oclgrind/liboclgrind-rt-icd.so ] || [ -n "${OCLGRIND_LIBRARY:-}" ]; then
    beside run scripts/with-oclgrind.sh "$halite" verify --device opencl:0 --pairwise --slice "$(part 10)"
else
    echo "skipped: oclgrind isn't here; races and stray accesses aren't looked for"
fi

beside_all
