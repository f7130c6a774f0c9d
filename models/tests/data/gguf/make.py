"""Makes the vocabularies of this folder out of llama.cpp's.

    pip install gguf tokenizers
    python make.py LLAMA_CPP/models SMOLLM2.gguf

llama.cpp has, for each of `models/ggml-vocab-NAME.gguf`, texts (`.gguf.inp`) and the ids that the model's own
tokenizer gives (`.gguf.out`). For SmolLM2 they come from its tokenizer as its own `tokenizer.json` describes it. Kept are the tokens that are part of one of the texts, single bytes, and tokens that
aren't normal; what is left is tokenized as before, with other ids.
"""

import json
import re
import sys
from pathlib import Path

from gguf import GGUFReader

NAMES = ["gpt-2", "qwen2", "falcon", "phi-3"]


def metadata(path):
    """All of a file's metadata under `tokenizer.`, without that prefix."""
    fields = GGUFReader(path).fields
    return {k.removeprefix("tokenizer."): f.contents() for k, f in fields.items() if k.startswith("tokenizer.")}


def samples(path):
    """The texts of llama.cpp's test, with their ids."""
    texts = Path(f"{path}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    ids = Path(f"{path}.out").read_text(encoding="utf-8").splitlines()
    pairs = [(t, [int(i) for i in line.split()]) for t, line in zip(texts, ids)]
    assert len(pairs) == len(ids), path
    return pairs


def byte_chars():
    """GPT-2's characters for bytes."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in keep]
    return {**{b: chr(b) for b in keep}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def parts(texts, spm):
    """Whether a token is a part of one of the texts."""
    chars = byte_chars()
    if spm:
        text = "\0".join("▁" + t.replace(" ", "▁") for t in texts)
    else:
        text = "\0".join("".join(chars[b] for b in t.encode()) for t in texts)
    return lambda token: token in text


def vocabulary(meta, whole=False, texts=()):
    """The fields of `GgufVocab`, and new ids by old."""
    spm = meta["ggml.model"] == "llama"
    tokens, types = meta["ggml.tokens"], meta["ggml.token_type"]
    part = parts(texts, spm)
    keep = [i for i, t in enumerate(tokens) if whole or types[i] not in (1, 5) or len(t) == 1 or part(t)]
    if not whole and len(keep) > 300:
        # Hundreds of control tokens say no more than a few.
        control = [i for i in keep if types[i] not in (1, 5, 6)]
        named = {meta.get(f"ggml.{k}_token_id") for k in ("bos", "eos", "unknown", "padding")}
        drop = {i for i in control[8:] if i not in named}
        keep = [i for i in keep if i not in drop and (types[i] != 1 or len(tokens[i]) > 1 or not spm or part(tokens[i]))]
    ids = {old: new for new, old in enumerate(keep)}
    kept = {tokens[i] for i in keep}
    split = [(m, re.match(r"(.[^ ]*) (.*)", m, re.S).groups()) for m in meta.get("ggml.merges", [])]
    special = {f"{k}_id": meta.get(f"ggml.{n}_token_id") for k, n in
               [("bos", "bos"), ("eos", "eos"), ("eot", "eot"), ("unk", "unknown"), ("pad", "padding")]}
    return {
        "model": meta["ggml.model"],
        "pre": meta.get("ggml.pre"),
        "tokens": [tokens[i] for i in keep],
        "token_types": [types[i] for i in keep],
        "merges": [m for m, (a, b) in split if a in kept and b in kept and a + b in kept],
        "scores": [meta["ggml.scores"][i] for i in keep] if spm else [],
        **{k: ids.get(v) for k, v in special.items()},
        "add_bos": meta.get("ggml.add_bos_token"),
        "add_eos": meta.get("ggml.add_eos_token"),
        "add_space_prefix": meta.get("ggml.add_space_prefix"),
    }, ids


def smollm(path, texts):
    """SmolLM2's vocabulary from any of its GGUF files, and ids by the `tokenizers` package."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    meta = metadata(path)
    tokens = meta["ggml.tokens"]
    merges = [tuple(m.split(" ")) for m in meta["ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    special = [t for t, kind in zip(tokens, meta["ggml.token_type"]) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    vocab, ids = vocabulary(meta, texts=texts)
    encoded = [(t, tokenizer.encode(t, add_special_tokens=False).ids) for t in texts]
    return {"vocab": vocab, "samples": [{"text": t, "ids": [ids[i] for i in line]} for t, line in encoded]}


def fixture(path, whole=False):
    pairs = samples(path)
    vocab, ids = vocabulary(metadata(path), whole, [t for t, _ in pairs])
    return {"vocab": vocab, "samples": [{"text": t, "ids": [ids[i] for i in line]} for t, line in pairs]}


def write(name, data):
    path = Path(__file__).with_name(f"{name}.json")
    path.write_text(json.dumps(data, ensure_ascii=False) + "\n", encoding="utf-8")
    print(name, len(data["vocab"]["tokens"]), "tokens,", len(data["samples"]), "texts")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name in NAMES:
        write(name, fixture(folder / f"ggml-vocab-{name}.gguf"))
    chats = ["<|im_start|>user\nHi there!<|im_end|>\n<|im_start|>assistant\n", "<repo_name>x<file_sep>"]
    write("smollm", smollm(sys.argv[2], [t for t, _ in samples(folder / "ggml-vocab-gpt-2.gguf")] + chats))
