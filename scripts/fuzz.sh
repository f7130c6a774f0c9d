#!/usr/bin/env bash
# Fuzzes the readers of other people's files: GGUF, safetensors, tokenizer.json, chat templates. An input that fails is
# left in fuzz/artifacts/, and what was found to lead further in fuzz/corpus/.
#
#   scripts/fuzz.sh [SECONDS]   for each of them; 60 if not given
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/beside.sh

seconds=${1:-60}
if [ $# -gt 1 ] || ! [[ $seconds =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: scripts/fuzz.sh [SECONDS]" >&2
    exit 2
fi

if ! cargo fuzz --version >/dev/null 2>&1 && ! cargo install --locked cargo-fuzz; then
    echo "cargo-fuzz is missing and can't be installed: cargo install --locked cargo-fuzz" >&2
    exit 1
fi

# cargo-fuzz passes flags that only nightly compilers take; the code itself is that of stable ones.
export RUSTC_BOOTSTRAP=1
# Another run for each commit, and the same one for the same commit.
seed=$(git rev-parse HEAD 2>/dev/null | cksum | cut -d ' ' -f 1)
# The versions that everything else is built with.
cp Cargo.lock fuzz/Cargo.lock
cargo fuzz build --sanitizer none

logs=$(mktemp -d)
trap 'beside_none; rm -rf "$logs"' EXIT
# Prints all it has to say when it is through.
fuzz() {
    local target=$1 failed=
    mkdir -p "fuzz/corpus/$target"
    cargo fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -seed="$seed" -max_total_time="$seconds" -rss_limit_mb=1024 -timeout=20 -print_final_stats=1 \
        >"$logs/$target" 2>&1 || failed=1
    printf '\n== %s: %s s\n' "$target" "$seconds"
    cat "$logs/$target"
    [ -z "$failed" ]
}
for target in gguf safetensors tokenizer template; do beside fuzz "$target"; done
beside_all
