"""Times GGUF files in llama.cpp and in Halite, in turns, and prints medians and ratios as a table.

    python3 speed.py LLAMA_BENCH HALITE ROUNDS FILE.gguf...

A prompt of 512 tokens and a generation of 64, two threads, on the CPU.
"""

import json
import os
import statistics
import subprocess
import sys


def llama(program, file):
    command = [program, "-m", file, "-t", "2", "-p", "512", "-n", "64", "-r", "2", "-o", "json"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {"pp" if t["n_prompt"] else "tg": t["avg_ts"] for t in json.loads(out)}


def halite(program, file):
    command = [program, "bench", "model", "--model", file, "--device", "cpu", "--threads", "2", "-p", "512"]
    command += ["-n", "64", "--batch-size", "0", "--samples", "2", "--no-conformance", "--json"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {"pp" if t["n_prompt"] else "tg": t["avg_ts"] for t in json.loads(out)}


def main():
    peer, own, rounds, files = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
    print("| weights | test | llama.cpp | Halite | ratio |\n|---|---|---|---|---|")
    for file in files:
        runs = [(llama(peer, file), halite(own, file)) for _ in range(rounds)]
        for test in ("pp", "tg"):
            a, b = ([run[i][test] for run in runs] for i in (0, 1))
            ratio = statistics.median(y / x for x, y in zip(a, b))
            name = os.path.basename(file)
            print(f"| {name} | {test} | {statistics.median(a):.0f} | {statistics.median(b):.0f} | {ratio:.2f} |")


main()
