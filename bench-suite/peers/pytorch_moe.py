#!/usr/bin/env python3
"""Training speed of a Mixtral-like model in PyTorch eager on the CPU.

What is compared: whole training steps (forward, cross-entropy, backward, gradient clipping at norm 1,
AdamW) in f32 on one fixed random batch, for the same shape as Halite's `train_step` benchmark `small`:
d_model 256, 6 layers, 4 heads of 64 (no grouping), RMSNorm, RoPE, 8 SwiGLU experts of width 512 with the
best 2 used (softmax over all experts, the chosen two renormalised), vocabulary 4096 with its own head,
sequence 256, batch 8 = 2048 tokens a step.

How: plain eager code as one would write it by hand, no compilation. Attention is
`F.scaled_dot_product_attention`; gate and up projections are one matrix product. Each expert has its own
parameters, so that backward writes each gradient once (indexing a stacked [experts, ...] parameter would
build a zero-filled gradient of the whole stack for every expert). The experts run in one of two ways:

  loop    for each expert: its tokens by index_select, its output by index_add
  sorted  tokens are sorted by expert once, experts take contiguous segments, one index_add at the end

AdamW takes PyTorch's default for the device (on the CPU one parameter after another) or, with
`--fused`, its fused kernel.
"""
import argparse
import json
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

D_MODEL, LAYERS, HEADS, HEAD_DIM = 256, 6, 4, 64
EXPERTS, TOP_K, WIDTH = 8, 2, 512
VOCAB, SEQUENCE, BATCH = 4096, 256, 8
ROPE_THETA, EPS = 10000.0, 1e-5


def rotate(x, cos, sin):
    """Rotary embedding of [batch, heads, sequence, head_dim], halves layout."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(D_MODEL, 3 * HEADS * HEAD_DIM, bias=False)
        self.out = nn.Linear(HEADS * HEAD_DIM, D_MODEL, bias=False)

    def forward(self, x, cos, sin):
        batch, sequence, _ = x.shape
        q, k, v = self.qkv(x).view(batch, sequence, 3, HEADS, HEAD_DIM).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, sequence, HEADS * HEAD_DIM))


class Expert(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_up = nn.Linear(D_MODEL, 2 * WIDTH, bias=False)
        self.down = nn.Linear(WIDTH, D_MODEL, bias=False)

    def forward(self, x):
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Moe(nn.Module):
    def __init__(self, order):
        super().__init__()
        self.order = order
        self.router = nn.Linear(D_MODEL, EXPERTS, bias=False)
        self.experts = nn.ModuleList(Expert() for _ in range(EXPERTS))

    def forward(self, x):
        flat = x.reshape(-1, D_MODEL)
        weights, chosen = self.router(flat).softmax(-1).topk(TOP_K, dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        y = self.loop(flat, weights, chosen) if self.order == "loop" else self.sorted(flat, weights, chosen)
        return y.view_as(x)

    def loop(self, x, weights, chosen):
        y = torch.zeros_like(x)
        for e, expert in enumerate(self.experts):
            token, slot = torch.where(chosen == e)
            out = expert(x.index_select(0, token)) * weights[token, slot, None]
            y = y.index_add_(0, token, out)
        return y

    def sorted(self, x, weights, chosen):
        order = chosen.flatten().argsort(stable=True)
        counts = chosen.flatten().bincount(minlength=EXPERTS).tolist()
        token = order // TOP_K
        segments = x.index_select(0, token).split(counts)
        out = torch.cat([expert(s) for expert, s in zip(self.experts, segments)])
        out = out * weights.flatten().index_select(0, order)[:, None]
        return torch.zeros_like(x).index_add_(0, token, out)


class Block(nn.Module):
    def __init__(self, order):
        super().__init__()
        self.attention_norm, self.attention = nn.RMSNorm(D_MODEL, eps=EPS), Attention()
        self.moe_norm, self.moe = nn.RMSNorm(D_MODEL, eps=EPS), Moe(order)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.attention_norm(x), cos, sin)
        return x + self.moe(self.moe_norm(x))


class Model(nn.Module):
    def __init__(self, order):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, D_MODEL)
        self.blocks = nn.ModuleList(Block(order) for _ in range(LAYERS))
        self.norm = nn.RMSNorm(D_MODEL, eps=EPS)
        self.head = nn.Linear(D_MODEL, VOCAB, bias=False)
        frequency = ROPE_THETA ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        angle = torch.arange(SEQUENCE)[:, None] * frequency
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.head(self.norm(x))


def step(model, optimizer, inputs, targets):
    """One training step; returns the loss before it."""
    optimizer.zero_grad()
    loss = F.cross_entropy(model(inputs).view(-1, VOCAB), targets.view(-1))
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experts", choices=["loop", "sorted"], default="sorted")
    parser.add_argument("--fused", action="store_true", help="use AdamW's fused kernel")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=3, help="steps before the timed ones")
    parser.add_argument("--steps", type=int, default=10, help="timed steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    if args.steps < 1:
        parser.error("--steps must be at least 1")

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = Model(args.experts)
    # None leaves the choice to PyTorch.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1,
                                  fused=True if args.fused else None)
    tokens = torch.randint(VOCAB, (BATCH, SEQUENCE + 1))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    seconds, losses = [], []
    for _ in range(args.warmup + args.steps):
        start = time.perf_counter()
        losses.append(step(model, optimizer, inputs, targets))
        seconds.append(time.perf_counter() - start)
    rates = [BATCH * SEQUENCE / s for s in seconds[args.warmup:]]
    report = {
        "torch": torch.__version__,
        "experts": args.experts,
        "fused_adamw": args.fused,
        "threads": args.threads,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens_per_step": BATCH * SEQUENCE,
        "steps": args.steps,
        "tokens_per_second": {"median": statistics.median(rates), "min": min(rates), "max": max(rates)},
        "loss_first": losses[0],
        "loss_last": losses[-1],
        # Linux counts ru_maxrss in KiB.
        "peak_resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    if args.json:
        print(json.dumps(report))
        return
    rate = report["tokens_per_second"]
    print(f"torch {report['torch']}, experts {args.experts}, {args.threads} threads, "
          f"{report['parameters']:,} parameters, {args.steps} steps of {report['tokens_per_step']} tokens")
    print(f"tokens/s: median {rate['median']:.0f}, min {rate['min']:.0f}, max {rate['max']:.0f}")
    print(f"loss: {losses[0]:.4f} -> {losses[-1]:.4f}; peak resident {report['peak_resident_bytes'] / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
