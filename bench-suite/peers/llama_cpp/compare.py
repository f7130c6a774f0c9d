#!/usr/bin/env python3
"""Converts reference models to GGUF with Halite and compares the logits that llama.cpp computes of them.

    compare.py --halite target/release/halite --logits ./logits DIR...

Each DIR is a model folder with reference.safetensors (int64 input_ids.N, f32 logits.N). Prints for each prompt the
largest difference over the standard deviation of the reference's logits.
"""
import argparse
import array
import json
import math
import pathlib
import struct
import subprocess
import sys
import tempfile


def load(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    header.pop("__metadata__", None)

    def tensor(name):
        start, end = header[name]["data_offsets"]
        values = array.array("f" if header[name]["dtype"] == "F32" else "q")
        values.frombytes(body[start:end])
        return values

    return header, tensor


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["failed"])[-1])


def differences(args, folder, place):
    model, ids, out = place / "m.gguf", place / "ids.txt", place / "logits.bin"
    run(args.halite, "convert", "--model", folder, "--out", model)
    header, tensor = load(folder / "reference.safetensors")
    for name in sorted(n for n in header if n.startswith("logits.")):
        prompt = name.removeprefix("logits.")
        ids.write_text(" ".join(map(str, tensor(f"input_ids.{prompt}"))))
        run(args.logits, model, ids, out)
        want, got = tensor(name), array.array("f")
        got.frombytes(out.read_bytes())
        mean = sum(want) / len(want)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in want) / len(want))
        yield f"{prompt}: {max(abs(a - b) for a, b in zip(want, got, strict=True)) / deviation:.1e}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--halite", required=True, type=pathlib.Path)
    parser.add_argument("--logits", required=True, type=pathlib.Path)
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    for folder in args.folders:
        with tempfile.TemporaryDirectory() as place:
            try:
                print(folder.name, *differences(args, folder, pathlib.Path(place)), flush=True)
            except RuntimeError as e:
                print(folder.name, e, flush=True)


if __name__ == "__main__":
    sys.exit(main())
