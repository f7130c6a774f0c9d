#!/usr/bin/env python3
"""Does a checkpoint written by Halite mean the same in transformers?

  check_export.py MODEL --make-ids IDS.safetensors [--prompt TEXT]
  halite inspect logits --model MODEL --ids-from IDS.safetensors --out OUT.safetensors
  check_export.py MODEL --ids IDS.safetensors --logits OUT.safetensors

The first call writes random prompts (int64 `input_ids.N` of N tokens) and, with --prompt, the encoded text;
the last one computes their logits in transformers (f32, eager) and compares them with Halite's f32
`logits.N` [N, vocab]. Without --logits the checkpoint is only loaded and --prompt continued greedily.

Exit status 1: the largest error is above 5e-5 of the standard deviation of the logits, or a tensor is
missing, misshapen or not finite, or the checkpoint does not load with exactly the weights it holds.
"""
import argparse
import os
import sys

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

TOLERANCE = 5e-5
LENGTHS = [1, 7, 33, 129]
CONTINUATION = 32


def load_model(directory):
    """The model, refused unless file and architecture have the same tensors. Experts run eagerly because
    transformers' default, grouped_mm, can't take widths that aren't a multiple of 4."""
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager",
        output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[problem]:
            sys.exit(f"{directory}: {problem.replace('_', ' ')}: {', '.join(map(str, sorted(info[problem])))}")
    return model.eval()


def load_tokenizer(directory):
    """The tokenizer, or None for a folder that holds none."""
    if not os.path.exists(os.path.join(directory, "tokenizer.json")):
        return None
    return AutoTokenizer.from_pretrained(directory)


def encode(tokenizer, text):
    if tokenizer is None:
        sys.exit("--prompt needs a tokenizer.json in the model folder")
    ids = tokenizer.encode(text, add_special_tokens=False)
    if not ids:
        sys.exit(f"the prompt {text!r} encodes to no tokens")
    back = tokenizer.decode(ids)
    print(f"tokenizer: {len(ids)} tokens, decodes {'to the same text' if back == text else f'to {back!r}'}")
    return ids


def make_ids(directory, path, text, seed):
    """Writes random prompts that fit the model, and the encoded text if there is one."""
    config = AutoConfig.from_pretrained(directory)
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(0, config.vocab_size, n) for n in LENGTHS if n <= config.max_position_embeddings]
    if text is not None:
        prompts.append(np.array(encode(load_tokenizer(directory), text)))
    # The text's ids come last, so they replace random ones of the same length.
    save_file({f"input_ids.{len(p)}": p.astype(np.int64) for p in prompts}, path)
    print(f"{path}: prompts of {', '.join(str(len(p)) for p in prompts)} tokens")


@torch.no_grad()
def compare(model, ids_path, logits_path):
    """Prints one line for each prompt; whether all agree."""
    prompts, ours = load_file(ids_path), load_file(logits_path)
    lengths = sorted(int(name.split(".")[1]) for name in prompts if name.startswith("input_ids."))
    if not lengths:
        sys.exit(f"{ids_path}: no input_ids.N")
    good = True
    for n in lengths:
        want = model(torch.tensor(prompts[f"input_ids.{n}"])[None]).logits[0].double().numpy()
        got = ours.get(f"logits.{n}")
        if got is None or got.dtype != np.float32 or got.shape != want.shape or not np.isfinite(got).all():
            found = "is missing" if got is None else f"is {got.dtype} {list(got.shape)}, finite: {np.isfinite(got).all()}"
            print(f"logits.{n}: FAIL: {found}; f32 {list(want.shape)} is wanted")
            good = False
            continue
        error = np.abs(got - want).max()
        ok = error <= TOLERANCE * want.std()
        same = (got.argmax(-1) == want.argmax(-1)).mean()
        print(f"logits.{n}: {'ok' if ok else 'FAIL'}: max-abs error {error:.2e}, over the logits' std "
              f"{error / want.std():.2e}, argmax agrees at {same:.1%}")
        good &= bool(ok)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoint folder")
    parser.add_argument("--make-ids", metavar="IDS", help="write prompts and stop")
    parser.add_argument("--ids", help="prompts to run")
    parser.add_argument("--logits", metavar="OUT", help="Halite's logits of those prompts")
    parser.add_argument("--prompt", help="text to encode")
    parser.add_argument("--seed", type=int, default=0, help="of the random prompts")
    args = parser.parse_args()
    if (args.ids is None) != (args.logits is None):
        parser.error("--ids and --logits go together")

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if args.make_ids:
        make_ids(args.model, args.make_ids, args.prompt, args.seed)
        return
    model, tokenizer = load_model(args.model), load_tokenizer(args.model)
    print(f"transformers {transformers.__version__}: {type(model).__name__}, "
          f"{sum(p.numel() for p in model.parameters()):,} parameters, "
          f"{'no tokenizer' if tokenizer is None else f'{len(tokenizer)} tokens in the tokenizer'}")
    if args.prompt is not None:
        ids = torch.tensor([encode(tokenizer, args.prompt)])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0,
                             max_new_tokens=CONTINUATION)
        print(f"greedy: {tokenizer.decode(out[0])!r}")
    if args.logits and not compare(model, args.ids, args.logits):
        sys.exit(1)


if __name__ == "__main__":
    main()
