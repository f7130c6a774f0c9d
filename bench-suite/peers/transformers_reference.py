#!/usr/bin/env python3
"""Makes a tiny random checkpoint with transformers and what that model computes.

  transformers_reference.py DIR --seed N

DIR holds a config.json of a dense or MoE model (`mixtral`, `glm4_moe`, `qwen2`, `qwen2_moe`), from which all
else is made; written beside it:

  model.safetensors      f32, the names of hub checkpoints. In the order of names: matrices N(0, 0.08), norm
                         weights 1 + N(0, 0.1), biases N(0, 0.05), e_score_correction_bias N(-0.8, 0.1)
  reference.safetensors  for each prompt length N: input_ids.N int64 [N]; logits.N f32 [N, vocab];
                         greedy.N int64 [16], the argmax continuation recomputed without a cache, end of
                         sequence ignored
  train.safetensors      train_ids int64 [2, 32]; loss f32 [1]: mean cross-entropy over the 2 x 31 shifted
                         targets, no router loss
  grads.safetensors      gradient of that loss at the initial weights, unclipped, by parameter name
  train.json             20 AdamW steps on that batch: settings, loss before each step and after the last,
                         gradient norms before clipping, final L2 norm of each parameter
  meta.json              versions, and how far everything is from a tie

With a `quantization_config` of fp8 (`deepseek_v3`) or mxfp4 (`gpt_oss`), model.safetensors holds weights of that
kind, as hub checkpoints do, and the model computes with the f32 values that they stand for; there is no training.

Everything is f32 on one CPU thread with eager attention and experts. Prompts and the batch are redrawn
until no routing choice and no greedy choice is near a tie, so that rounding can't change the outcome; with
a seed where that doesn't succeed the script says so and exits 1. "f64" figures run the model's parameters
in float64; transformers still computes its norms and router scores in f32 there. Where a router sends each
token to one expert with renormalised weight, its gradient is exactly 0 here (see `backward`).
"""
import argparse
import copy
import json
import os
import sys
import tempfile

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
import transformers
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

GREEDY_TOKENS, BATCH, TRAIN_TOKENS, STEPS = 16, 2, 32, 20
# Router scores are of order 0.1 to 1 and logits of order 1; f32 noise is near 1e-6 in both.
MIN_ROUTER_GAP, MIN_GREEDY_GAP, MIN_TRAIN_GAP = 5e-4, 1e-2, 5e-5
TRIES = 200
ADAMW = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}


def draw_weights(config, rng):
    """Random tensors under hub names, for the model that `config` describes."""
    weights = hub_tensors(AutoModelForCausalLM.from_config(config, dtype=torch.float32))
    for name in sorted(weights):
        shape = weights[name].shape
        noise = rng.standard_normal(shape, dtype=np.float32)
        if name.endswith("e_score_correction_bias"):
            weights[name] = -0.8 + 0.1 * noise
        elif name.endswith("bias"):
            weights[name] = 0.05 * noise
        elif len(shape) == 1:
            weights[name] = 1 + 0.1 * noise
        else:
            weights[name] = 0.08 * noise
    return weights


def load(directory):
    """The model in `directory`, with every weight taken from the file."""
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager",
        output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[problem]:
            sys.exit(f"{directory}: {problem}: {sorted(info[problem])}")
    return model.eval()


def hub_tensors(model):
    """The model's tensors as it saves them: hub names, one tensor per expert, tied weights once."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(os.path.join(folder, "model.safetensors"))


def hub_gradients(model):
    """Gradients under hub names; zeros where a parameter took no part."""
    holder = copy.deepcopy(model)
    with torch.no_grad():
        for place, parameter in zip(holder.parameters(), model.parameters()):
            place.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    # The selection bias is a buffer: saved with the rest, but not trained.
    return {name: t for name, t in hub_tensors(holder).items() if not name.endswith("e_score_correction_bias")}


def fp8(weights, block):
    """Projections of layers as float8_e4m3fn with a scale for each block of rows and columns, under the names of
    DeepSeek's checkpoints; and all weights as the f32 values that they stand for."""
    stored, meant = {}, {}
    for name, weight in weights.items():
        w = torch.tensor(weight)
        stored[name], meant[name] = w, w
        if not name.endswith("_proj.weight") and not name.endswith("_with_mqa.weight"):
            continue
        rows, columns = [-(-n // b) for n, b in zip(w.shape, block)]
        scale, values = torch.empty(rows, columns), torch.empty_like(w)
        for i in range(rows):
            for j in range(columns):
                part = np.s_[i * block[0]:(i + 1) * block[0], j * block[1]:(j + 1) * block[1]]
                scale[i, j] = w[part].abs().max() / 448
                values[part] = w[part] / scale[i, j]
        stored[name] = values.to(torch.float8_e4m3fn)
        stored[name + "_scale_inv"] = scale
        wide = scale.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)
        meant[name] = stored[name].float() * wide[:w.shape[0], :w.shape[1]]
    return stored, meant


def mxfp4(weights):
    """Experts' matrices as blocks of 32 four-bit floats with a power of two, as in gpt-oss' checkpoints, which have
    the sum's axis last; and all weights as the f32 values that transformers reads from that."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors
    levels = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    stored, meant = {}, {}
    for name, weight in weights.items():
        w = torch.tensor(weight)
        stored[name], meant[name] = w, w
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            continue
        del stored[name]
        blocks = w.transpose(1, 2).unflatten(-1, (-1, 32))
        exponent = (blocks.abs().amax(-1).log2().floor() - 2).clamp(-127, 127)
        values = blocks / torch.exp2(exponent)[..., None]
        code = (values.abs()[..., None] - levels).abs().argmin(-1) + 8 * (values < 0)
        packed = (code[..., 0::2] | code[..., 1::2] << 4).to(torch.uint8)
        scales = (exponent + 127).to(torch.uint8)
        stored[name + "_blocks"], stored[name + "_scales"] = packed, scales
        meant[name] = convert_moe_packed_tensors(packed, scales, dtype=torch.float32)
    return stored, meant


class RouterGaps:
    """Watches the routers: the smallest distance between a score just chosen and the best one left out."""

    def __init__(self, model):
        self.smallest = float("inf")
        self.used = set()
        for number, layer in enumerate(model.model.layers):
            gate = getattr(layer.mlp, "gate", None) or getattr(layer.mlp, "router", None)
            if gate is not None:
                gate.register_forward_hook(lambda gate, _, out, number=number: self.see(number, gate, out))

    def see(self, layer, gate, out):
        logits, _, chosen = out
        self.used.update((layer, expert) for expert in chosen.flatten().tolist())
        if not hasattr(gate, "e_score_correction_bias"):
            self.note(logits.detach().softmax(-1), gate.top_k)
            return
        scores = logits.detach().sigmoid() + gate.e_score_correction_bias
        groups = scores.view(len(scores), gate.num_group, -1)
        group_scores = groups.topk(2, dim=-1)[0].sum(-1)
        if gate.topk_group < gate.num_group:
            self.note(group_scores, gate.topk_group)
        kept = group_scores.topk(gate.topk_group, dim=-1)[1]
        self.note(groups.gather(1, kept[..., None].expand(-1, -1, groups.shape[-1])).flatten(1), gate.top_k)

    def note(self, scores, k):
        if k < scores.shape[-1]:
            best = scores.topk(k + 1, dim=-1)[0]
            self.smallest = min(self.smallest, (best[:, k - 1] - best[:, k]).min().item())

    def take(self):
        """The smallest gap since the last call."""
        smallest, self.smallest = self.smallest, float("inf")
        return smallest


@torch.no_grad()
def run_prompt(model, gaps, ids):
    """Logits, greedy continuation, smallest router gap, smallest distance between the two best logits."""
    gaps.take()
    logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    text, greedy_gap = list(ids), float("inf")
    last = logits[-1]
    for _ in range(GREEDY_TOKENS):
        first, second = last.topk(2)[0].tolist()
        greedy_gap = min(greedy_gap, first - second)
        text.append(last.argmax().item())
        last = model(torch.tensor([text]), use_cache=False).logits[0, -1]
    return logits, text[len(ids):], gaps.take(), greedy_gap


def generate_cached(model, ids):
    """The greedy continuation by `generate`, through the key-value cache."""
    model.generation_config.eos_token_id = None
    prompt = torch.tensor([ids])
    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, use_cache=True,
                         max_new_tokens=GREEDY_TOKENS, pad_token_id=0)
    return out[0, len(ids):].tolist()


def make_prompts(model, double, gaps, vocab, lengths, rng):
    """reference.safetensors and its part of meta.json."""
    tensors, meta = {}, {}
    for n in lengths:
        for tries in range(1, TRIES + 1):
            ids = rng.integers(0, vocab, n).tolist()
            logits, greedy, router_gap, greedy_gap = run_prompt(model, gaps, ids)
            if router_gap >= MIN_ROUTER_GAP and greedy_gap >= MIN_GREEDY_GAP:
                break
        else:
            sys.exit(f"prompt of {n}: near a tie in all of {TRIES} tries; use another seed")
        tensors |= {f"input_ids.{n}": np.array(ids, np.int64), f"logits.{n}": logits.numpy(),
                    f"greedy.{n}": np.array(greedy, np.int64)}
        with torch.no_grad():
            exact = double(torch.tensor([ids]), use_cache=False).logits[0]
        meta[str(n)] = {
            "logits_std": logits.std().item(),
            "min_topk_gap": router_gap,
            "min_greedy_gap": greedy_gap,
            "tries": tries,
            "f32_vs_f64_max_abs": (logits - exact).abs().max().item(),
            "cached_generate_agrees": generate_cached(model, ids) == greedy,
        }
    return tensors, meta


def batch_loss(model, ids):
    """Mean cross-entropy of the next token."""
    logits = model(ids, use_cache=False).logits[:, :-1]
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))


def backward(model, loss):
    """Fills the gradients. One expert per token with renormalised weight has weight 1 whatever the router
    says, so the router's gradient is 0; autograd leaves rounding noise there, which AdamW would scale up to
    whole steps, so the exact value is put in."""
    loss.backward()
    if getattr(model.config, "num_experts_per_tok", None) == 1 and getattr(model.config, "norm_topk_prob", True):
        for layer in model.model.layers:
            if hasattr(layer.mlp, "gate"):
                layer.mlp.gate.weight.grad.zero_()


def train(model, ids):
    """20 steps on a copy of `model`; its losses, gradient norms, gaps and final weights."""
    model = copy.deepcopy(model)
    gaps = RouterGaps(model)
    optimizer = torch.optim.AdamW(model.parameters(), **ADAMW)
    losses, norms, step_gaps = [], [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = batch_loss(model, ids)
        backward(model, loss)
        losses.append(loss.item())
        step_gaps.append(gaps.take())
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        optimizer.step()
    with torch.no_grad():
        losses.append(batch_loss(model, ids).item())
    step_gaps.append(gaps.take())
    return losses, norms, step_gaps, hub_tensors(model)


def make_training(model, double, vocab, rng):
    """Tensors of train.safetensors and grads.safetensors, train.json, and its part of meta.json."""
    for tries in range(1, TRIES + 1):
        ids = torch.tensor(rng.integers(0, vocab, (BATCH, TRAIN_TOKENS)))
        losses, norms, gaps, final = train(model, ids)
        if min(gaps) >= MIN_TRAIN_GAP:
            break
    else:
        sys.exit(f"training batch: near a tie in all of {TRIES} tries; use another seed")
    losses64, norms64, _, _ = train(double, ids)
    gradients = []
    for m in (model, double):
        m = copy.deepcopy(m)
        watch = RouterGaps(m)
        backward(m, batch_loss(m, ids))
        gradients.append(hub_gradients(m))
    norm = sum(float(np.square(g, dtype=np.float64).sum()) for g in gradients[0].values()) ** 0.5
    if abs(norm - norms[0]) > 1e-5 * norm:
        sys.exit(f"the gradients under hub names have norm {norm}, the model's {norms[0]}")
    unused = [k for k, g in gradients[0].items() if not g.any()]
    record = {
        "optimizer": "torch.optim.AdamW",
        **{k: list(v) if isinstance(v, tuple) else v for k, v in ADAMW.items()},
        "max_grad_norm": 1.0,
        "steps": STEPS,
        "weight_decay_on": "all parameters incl. norms and embeddings",
        "loss": f"mean cross-entropy over {BATCH}*{TRAIN_TOKENS - 1} shifted targets, no router aux loss",
        "train_ids": ids.tolist(),
        "loss_initial": losses[0],
        "grad_norm_initial": norms[0],
        "loss_curve": losses,
        "grad_norm_curve": norms,
        "note": f"loss_curve[i] = loss before optimizer step i+1; loss_curve[{STEPS}] = loss after step {STEPS}; "
                "grad_norm before clipping",
        "loss_curve_f64": losses64,
        "grad_norm_curve_f64": norms64,
        "min_topk_gap_per_step": gaps,
        "grad_f32_vs_f64_max_abs": max(float(np.abs(g - gradients[1][k]).max()) for k, g in gradients[0].items()),
        "params_without_grad": unused,
        "final_param_l2": {k: float(np.linalg.norm(final[k].astype(np.float64))) for k in sorted(gradients[0])},
    }
    meta = {
        "loss0": losses[0],
        f"loss{STEPS}": losses[-1],
        "tries": tries,
        "max_f32_f64_curve_diff": max(abs(a - b) for a, b in zip(losses, losses64)),
        "min_gap_step0": gaps[0],
        "min_gap_all_steps": min(gaps),
        "experts_used_step0": len(watch.used),
    }
    tensors = {"train_ids": ids.numpy(), "loss": np.array([losses[0]], np.float32)}
    return tensors, gradients[0], record, meta


def contiguous(tensors):
    return {name: t.contiguous() for name, t in tensors.items()}


def write_json(path, value):
    """Writes a value; an infinite distance, where there is no router, as null."""
    text = json.dumps(value, indent=1).replace("Infinity", "null")
    with open(path, "w") as file:
        file.write(text + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", help="folder with config.json")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--prompts", type=int, nargs="+", default=[5, 19, 40], help="prompt lengths")
    args = parser.parse_args()

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    path = lambda name: os.path.join(args.directory, name)
    rng = np.random.default_rng(args.seed)
    config = AutoConfig.from_pretrained(args.directory)
    quantization = getattr(config, "quantization_config", None)
    if quantization is None:
        save_file(draw_weights(config, rng), path("model.safetensors"), metadata={"format": "pt"})
        model = load(args.directory)
    else:
        del config.quantization_config
        weights = draw_weights(config, rng)
        kind = quantization["quant_method"]
        stored, meant = fp8(weights, quantization["weight_block_size"]) if kind == "fp8" else mxfp4(weights)
        safetensors.torch.save_file(contiguous(stored), path("model.safetensors"), metadata={"format": "pt"})
        with tempfile.TemporaryDirectory() as folder:
            config.save_pretrained(folder)
            safetensors.torch.save_file(
                contiguous(meant), os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
            model = load(folder)
    double = copy.deepcopy(model).double()
    gaps = RouterGaps(model)
    reference, prompts = make_prompts(model, double, gaps, config.vocab_size, args.prompts, rng)
    save_file(reference, path("reference.safetensors"))
    meta = {
        "model_type": config.model_type,
        "seed": args.seed,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "attn": "eager",
        "experts": "eager",
        "params": sum(p.numel() for p in model.parameters()),
        "prompts": prompts,
    }
    if quantization is None:
        # Copies of a hooked model would go on reporting to the original's watcher.
        batch, gradients, record, meta["train"] = make_training(
            load(args.directory), double, config.vocab_size, rng)
        save_file(batch, path("train.safetensors"))
        save_file(gradients, path("grads.safetensors"))
        write_json(path("train.json"), record)
    write_json(path("meta.json"), meta)
    print(json.dumps(meta, indent=1))


if __name__ == "__main__":
    main()
