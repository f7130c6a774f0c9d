#!/usr/bin/env bash
# Checks everything that has to hold before a change is merged, from a clean clone: style, lints, licences,
# build, tests, documentation. Needs Rust, a C compiler, and the network the first time.
#
#   scripts/test.sh          what continuous integration runs
#   scripts/test.sh --full   the slow checks too: more random cases, then scripts/full/*.sh in order
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

full=
case "$*" in
    "") ;;
    --full) full=1 ;;
    *)
        echo "usage: scripts/test.sh [--full]" >&2
        exit 2
        ;;
esac

source scripts/drivers.sh
source scripts/models.sh
source scripts/cuda.sh
export CARGO_BUILD_JOBS="${CARGO_BUILD_JOBS:-2}"
# Which part of long lists is run: another one for each commit.
commit=$(git rev-parse HEAD 2>/dev/null | cksum | cut -d ' ' -f 1)
export HALITE_SLICE="$((commit % 20))/20"
[ -z "$full" ] || export HALITE_SLICE=0/1
# More random cases for property tests.
[ -z "$full" ] || export PROPTEST_CASES=2048

# What the stages below need; does nothing where it is there.
install_tools() {
    for tool in cargo cc; do
        command -v "$tool" >/dev/null || {
            echo "$tool is missing: Rust comes from https://rustup.rs, a C compiler with the system" >&2
            exit 1
        }
    done
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
    cargo fetch --locked
}

times=()
stage() {
    local name=$1 start=$SECONDS
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    current=$name
    "$@"
    current=
    times+=("$(printf '%5d s  %s' $((SECONDS - start)) "$name")")
}

summary() {
    local status=$?
    printf '\n'
    [ ${#times[@]} -eq 0 ] || printf '%s\n' "${times[@]}"
    printf '%5d s  in all\n' "$SECONDS"
    [ "$status" -eq 0 ] || echo "FAILED: ${current:-}" >&2
}
trap summary EXIT

stage tools install_tools
stage drivers install_drivers
stage models install_models
stage nvrtc install_nvrtc
stage "cuda tools" install_cuda_tools
stage style cargo fmt --all --check
stage lints cargo clippy --workspace --all-targets -- -D warnings
stage build cargo build --release
# Whole-system tests run the program as users have it; without this they run the one that cargo test builds.
export HALITE_BIN="$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/release/halite"
# A test that hangs fails here, with its name as the last that was seen.
stage tests timeout 45m cargo test --workspace
# What finds CUDA devices, on the emulator of one.
stage "cuda driver" scripts/with-cuda-emulator.sh cargo test --workspace --lib driver::
stage "cuda devices" env HALITE_TEST_DEVICES=cuda scripts/with-cuda-emulator.sh cargo test --workspace --test devices --test latent --test gated
for example in embed embed_vulkan embed_opencl embed_cuda embed_wgpu own_kernel custom_op; do
    stage "example $example" cargo run --release --quiet --example "$example"
done
stage devices scripts/devices.sh ${full:+--full}
stage fuzz scripts/fuzz.sh ${full:+600}
stage documentation env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
stage "no default features" cargo check -p halite --no-default-features
stage "prebuilt kernels" cargo check -p halite --features prebuilt-kernels

if [ -n "$full" ]; then
    shopt -s nullglob
    for script in scripts/full/*.sh; do
        stage "$script" bash "$script"
    done
fi
