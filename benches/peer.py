#!/usr/bin/env python3
"""The same work as `headlight bench train|sample`, in PyTorch, to be set beside it.

    python peer.py train [--layers L] [--heads H] [--width W] [--context C] [--batch B]
                         [--steps N] [--threads T] [--device cpu|cuda]
    python peer.py sample [--threads T] [--device cpu|cuda]

`train` makes optimizer steps of nanoGPT's network: layer norms without bias before each half, exact GELU, a head tied to
the embedding, AdamW that decays matrices only, the gradient clipped to a norm of 1; eager. `sample` draws tokens
one after the other from an OPT of GuppyLM's shape with `transformers` and its key/value cache. Both print one line
of JSON with the keys of Headlight's: medians, the first ten steps or tokens not counted, and the most memory held.
"""

import argparse
import json
import resource
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional

WARM_UP = 10
VOCABULARY = 65


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.LayerNorm(width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, stream):
        batch, length, width = stream.shape
        joined = self.query_key_value(self.attention_norm(stream))
        query, key, value = joined.view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        stream = stream + self.attention_out(mixed.transpose(1, 2).reshape(batch, length, width))
        return stream + self.down(functional.gelu(self.up(self.mlp_norm(stream))))


class Network(nn.Module):
    def __init__(self, layers, heads, width, context):
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                residual = name.endswith(("attention_out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * layers) ** 0.5 if residual else 0.02)

    def forward(self, ids):
        stream = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        for block in self.blocks:
            stream = block(stream)
        return functional.linear(self.norm(stream), self.tokens.weight)


def wait_for(device):
    """A GPU answers before it is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_ms(count, work, device):
    times = []
    for _ in range(count):
        start = time.perf_counter()
        work()
        wait_for(device)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[WARM_UP:])


def train(options, device):
    network = Network(options.layers, options.heads, options.width, options.context).to(device)
    groups = [
        {"params": [weight for weight in network.parameters() if (weight.dim() > 1) == decayed],
         "weight_decay": 0.1 if decayed else 0.0}
        for decayed in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), eps=1e-8)
    text = torch.randint(VOCABULARY, (200_000,), device=device)
    columns = torch.arange(options.context + 1, device=device)

    def step():
        starts = torch.randint(len(text) - options.context, (options.batch, 1), device=device)
        window = text[starts + columns]
        logits = network(window[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    ms = median_ms(options.steps, step, device)
    return network, {"ms_per_step": ms, "tokens_per_sec": options.batch * options.context * 1e3 / ms}


def sample(_options, device):
    from transformers import OPTConfig, OPTForCausalLM

    context = 128
    config = OPTConfig(
        vocab_size=4096, max_position_embeddings=context, hidden_size=384, word_embed_proj_dim=384, ffn_dim=768,
        num_hidden_layers=6, num_attention_heads=6, activation_function="relu", dropout=0.0,
    )
    network = OPTForCausalLM(config).to(device).eval()
    state = {"ids": torch.randint(config.vocab_size, (1, 1), device=device), "cache": None}

    def token():
        found = network(input_ids=state["ids"], cache=state["cache"], use_cache=True)
        likeliest, which = torch.topk(found.logits[0, -1] / 0.7, 50)
        drawn = which[torch.multinomial(functional.softmax(likeliest, dim=-1), 1)]
        state.update(ids=drawn.view(1, 1), cache=found.cache)
        return drawn.item()

    with torch.inference_mode():
        ms = median_ms(context - 1, token, device)
    return network, {"ms_per_token": ms, "tokens_per_sec": 1e3 / ms}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "sample"), nargs="?", default="train")
    for name, usual in dict(layers=4, heads=4, width=128, context=64, batch=12, steps=110, threads=0).items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", action="store_true", help="as it is anyway")
    options = parser.parse_args()
    if options.steps <= WARM_UP:
        parser.error(f"{options.steps} steps are too few: the first {WARM_UP} are not counted")
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    device = torch.device(options.device)
    network, found = (train if options.what == "train" else sample)(options, device)
    # Linux counts in KiB, macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    card = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    print(json.dumps({
        "engine": f"PyTorch {torch.__version__}{card}",
        "threads": torch.get_num_threads(),
        "parameters": sum(weight.numel() for weight in network.parameters()),
        **{key: round(value, 3) for key, value in found.items()},
        "peak_memory_bytes": peak,
    }))


if __name__ == "__main__":
    main()
