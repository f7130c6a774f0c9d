#!/usr/bin/env bash
# Conformance of the CPU with other data than the tests use, natively and with core ops alone, on each of its
# instruction sets. The other devices run the whole list in scripts/devices.sh --full.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
halite="${HALITE_BIN:-${CARGO_TARGET_DIR:-target}/release/halite}"

for seed in 1 2 3 4 5; do
    "$halite" verify --device cpu --seed "$seed" | tail -n 2
    "$halite" verify --device cpu --seed "$seed" --profile core-only | tail -n 2
    for isa in avx2 portable; do
        HALITE_CPU_ISA=$isa "$halite" verify --device cpu --seed "$seed" | tail -n 2
    done
done
