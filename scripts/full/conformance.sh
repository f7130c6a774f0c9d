#!/usr/bin/env bash
# Conformance of every device with other data than the tests use, natively and with core ops alone, on each
# instruction set of the CPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
halite="${HALITE_BIN:-${CARGO_TARGET_DIR:-target}/release/halite}"

for seed in 1 2 3 4 5; do
    "$halite" verify --device all --seed "$seed" | tail -n 2
    "$halite" verify --device all --seed "$seed" --profile core-only | tail -n 2
    for isa in avx2 portable; do
        HALITE_CPU_ISA=$isa "$halite" verify --device cpu --seed "$seed" | tail -n 2
    done
done
