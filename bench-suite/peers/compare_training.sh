#!/usr/bin/env bash
# Training speed of Halite and PyTorch eager on the CPU, measured in turns in one run.
#
#   bench-suite/peers/compare_training.sh [ROUNDS]        default 5
#
# Each round runs Halite's criterion bench `train_step/small` once and pytorch_moe.py once for each way
# to run the experts, so that whatever else the machine does meets all of them. Prints each round, the
# medians in tokens/s and Halite's ratio to PyTorch's faster variant; above 1 Halite is faster. The ratio
# of the best rounds is printed too: where other programs use the cores, PyTorch's threads wait for one another
# and its median can fall tenfold, so a median ratio far above the best one means an unfit machine.
#
#   PYTHON   the interpreter that has torch (default python3); see README.md
#   THREADS  threads for both sides (default 2)
set -euo pipefail
cd "$(dirname "$0")/../.."

rounds=${1:-5}
python=${PYTHON:-python3}
threads=${THREADS:-2}
[[ $rounds =~ ^[1-9][0-9]*$ ]] || { echo "compare_training.sh: rounds must be 1 or more, got '$rounds'" >&2; exit 2; }
"$python" -c 'import torch' 2>/dev/null ||
    { echo "compare_training.sh: $python cannot import torch; pip install torch, or set PYTHON" >&2; exit 1; }

bench=(cargo bench --quiet -p halite-bench --bench train_step)
estimates=${CARGO_TARGET_DIR:-target}/criterion/train_step/small/new/estimates.json
results=$(mktemp)
trap 'rm -f "$results"' EXIT
"${bench[@]}" --no-run

for ((round = 1; round <= rounds; round++)); do
    # An estimate left by an earlier run must not pass for this one.
    rm -f "$estimates"
    RAYON_NUM_THREADS=$threads "${bench[@]}" -- '^train_step/small$' >&2
    "$python" -c 'import json, sys
seconds = json.load(open(sys.argv[1]))["median"]["point_estimate"] / 1e9
print("halite", 2048 / seconds)' "$estimates" | tee -a "$results"
    for experts in loop sorted; do
        "$python" bench-suite/peers/pytorch_moe.py --experts "$experts" --threads "$threads" --json |
            "$python" -c 'import json, sys
report = json.load(sys.stdin)
print("pytorch-" + report["experts"], report["tokens_per_second"]["median"])' | tee -a "$results"
    done
done

"$python" - "$results" <<'SUMMARY'
import statistics
import sys

rates = {}
for line in open(sys.argv[1]):
    name, rate = line.split()
    rates.setdefault(name, []).append(float(rate))
median = {name: statistics.median(r) for name, r in rates.items()}
for name, r in rates.items():
    print(f"{name:15} median {median[name]:6.0f} tokens/s, min {min(r):.0f}, max {max(r):.0f}, {len(r)} rounds")
best = {name: max(r) for name, r in rates.items()}
for kind, rate in ("medians", median), ("best rounds", best):
    peer = max((n for n in rate if n != "halite"), key=rate.get)
    print(f"halite / {peer}, {kind}: {rate['halite'] / rate[peer]:.3f}")
SUMMARY
