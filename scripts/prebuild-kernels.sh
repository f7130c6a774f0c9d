#!/usr/bin/env bash
# Compiles the kernels that a build with the feature `prebuilt-kernels` has, and writes them and their list to
# backends/cuda/prebuilt. Which ones: those that the work of backends/cuda/src/prebuilt/tests/work.rs needs. No GPU
# is needed; NVRTC and ptxas are downloaded. Then `cargo test -p halite-cuda prebuilt` passes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

source scripts/cuda.sh
install_nvrtc
install_cuda_tools
HALITE_BLESS=1 cargo test --release --locked -p halite-cuda --lib -- --nocapture prebuilt::tests::what_is_listed
ls -l backends/cuda/prebuilt
