#!/usr/bin/env python3
"""Makes the reference files that Headlight's numbers are held to.

Every case is a folder as `save_pretrained` of `transformers` writes it
(config.json, model.safetensors) with a `reference.safetensors` beside it: what
`transformers` and `torch` compute from exactly those weights. The models are
tiny and random. Run it with

    python make.py [--out DIR] [--seed N]

It needs torch, transformers, safetensors and tokenizers (see
tests/parity/requirements.txt) and no network. The files in this folder were
made with torch 2.15.0 and transformers 5.24.0; reference.safetensors names the
versions in its metadata.

Tensors of reference.safetensors (sizes: T = 12 tokens, V = vocabulary):

    ids                [2, T]              what the model reads
    logits             [2, T, V]
    attention.{layer}  [2, heads, T, T]    weights after the softmax: [query, key]
    loss               [1]                 mean cross-entropy of ids[:, 1:] from ids[:, :-1]
    gradient.{name}    as the parameter    of that loss, named and laid out as in model.safetensors
    greedy             [10]                what follows ids[0, :4] at temperature zero
    batches            [20, 4, T + 1]      the training batches, one per step
    training.losses    [20]                before each step's update
    training.norms     [20]                global gradient norm, before clipping

The metadata hold `torch`, `transformers`, `seed` and `training` (JSON: the
optimizer's settings). The cases `gpt2-bf16` and `llama-sharded` are about
reading files, and have `ids` and `logits` only.
"""

import argparse
import json
import math
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, OPTConfig, Phi3Config

# One thread: sums in the same order every time, and the machine stays free.
torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

DEFAULT_SEED = 20240
VOCABULARY = 37
CONTEXT = 16
LENGTH = 12
PROMPT_LENGTH = 4
NEW_TOKENS = 10
# Far from zero, so that no term of the computation is too small to be seen.
SPREAD = 0.3
# Greedy decoding is only a fair check where the best token clearly leads.
SMALLEST_LEAD = 1e-3
# Training is only a fair check where rounding does not carry it off: f32 and f64 agree so far.
LARGEST_DRIFT = 1e-4
# nanoGPT's way of training, shortened to 20 steps.
TRAINING = {
    "learning_rate": 2e-2,
    "final_learning_rate": 2e-3,
    "warmup_steps": 4,
    "steps": 20,
    "weight_decay": 0.1,
    "beta_1": 0.9,
    "beta_2": 0.95,
    "gradient_clip": 1.0,
    "decay_vectors": False,
}
EPSILON = 1e-8
BATCH_SIZE = 4

# No special tokens: a padding token would cut its embedding's gradient.
NO_SPECIAL_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


@dataclass(frozen=True)
class Case:
    """How one folder is made: a configuration and how its weights are saved."""

    family: str
    settings: dict
    dtype: torch.dtype = torch.float32
    shard_size: str | None = None
    # Weight decay on biases and norms too (GuppyLM's way); nanoGPT spares them.
    decay_vectors: bool = False
    # False for the cases that are only about reading the file.
    full: bool = True

    def configuration(self, **overrides):
        kind = {"gpt2": GPT2Config, "llama": LlamaConfig, "phi3": Phi3Config, "opt": OPTConfig}[self.family]
        return kind(**{**COMMON[self.family], **self.settings, **overrides})


COMMON = {
    "gpt2": dict(
        vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=16, n_layer=2, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, summary_first_dropout=0.0,
        initializer_range=SPREAD, **NO_SPECIAL_TOKENS,
    ),
    "opt": dict(
        vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, hidden_size=16, num_hidden_layers=2,
        num_attention_heads=4, word_embed_proj_dim=16, do_layer_norm_before=True,
        dropout=0.0, attention_dropout=0.0, layerdrop=0.0, init_std=SPREAD, **NO_SPECIAL_TOKENS,
    ),
    "llama": dict(
        vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, hidden_size=16, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=40, rms_norm_eps=1e-6,
        attention_dropout=0.0, initializer_range=SPREAD, **NO_SPECIAL_TOKENS,
    ),
    "phi3": dict(
        vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, original_max_position_embeddings=CONTEXT,
        hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40, rms_norm_eps=1e-5,
        resid_pdrop=0.0, embd_pdrop=0.0, attention_dropout=0.0, sliding_window=None,
        initializer_range=SPREAD, **NO_SPECIAL_TOKENS,
    ),
}


def rope(theta):
    return {"rope_type": "default", "rope_theta": theta}


GROUPED = dict(num_key_value_heads=2, tie_word_embeddings=False, rope_parameters=rope(10000.0))

CASES = {
    "gpt2-tanh": Case("gpt2", dict(activation_function="gelu_new")),
    "gpt2-erf": Case("gpt2", dict(activation_function="gelu", n_inner=40)),
    "gpt2-untied": Case("gpt2", dict(tie_word_embeddings=False, n_inner=24)),
    "opt-relu": Case("opt", dict(activation_function="relu", ffn_dim=40), decay_vectors=True),
    "llama-grouped": Case("llama", GROUPED),
    "llama-tied": Case(
        "llama",
        dict(
            num_key_value_heads=4, tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
            rope_parameters=rope(500.0),
        ),
    ),
    "phi3": Case("phi3", {**GROUPED, "rope_parameters": {**rope(10000.0), "partial_rotary_factor": 1.0}}),
    "llama-sharded": Case("llama", GROUPED, shard_size="8KB", full=False),
    "gpt2-bf16": Case("gpt2", {}, dtype=torch.bfloat16, full=False),
}


def is_norm(name):
    return "norm" in name or ".ln_" in name


def build(case, seed, **overrides):
    """A model with every parameter random: norm weights around one, all others around zero."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(case.configuration(**overrides), attn_implementation="eager")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            center = 1.0 if is_norm(name) and name.endswith("weight") else 0.0
            parameter.copy_(center + SPREAD * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def save(case, model, directory):
    if directory.exists():
        shutil.rmtree(directory)
    sharding = {"max_shard_size": case.shard_size} if case.shard_size else {}
    model.to(case.dtype).save_pretrained(directory, **sharding)
    (directory / "generation_config.json").unlink(missing_ok=True)


def load(directory):
    """What `transformers` reads from the folder, always computed in f32."""
    return AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    ).eval()


def stored_names(directory):
    """The names of the tensors in the folder's weights, over all shards."""
    names = set()
    for path in directory.glob("model*.safetensors"):
        with open(path, "rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            names |= set(json.loads(file.read(size)))
    return names - {"__metadata__"}


def mean_loss(model, inputs, targets):
    logits = model(inputs, use_cache=False).logits
    return cross_entropy(logits.flatten(0, 1), targets.flatten())


def greedy(model, prompt, count):
    """The `count` likeliest tokens one after another, and the smallest lead of a winner."""
    ids, lead = prompt.reshape(1, -1), math.inf
    for _ in range(count):
        with torch.no_grad():
            best = model(ids, use_cache=False).logits[0, -1].topk(2)
        lead = min(lead, (best.values[0] - best.values[1]).item())
        ids = torch.cat([ids, best.indices[:1].reshape(1, 1)], dim=1)
    return ids[0, prompt.numel():], lead


def learning_rate(step, settings):
    """nanoGPT's schedule: a linear warmup, then half a cosine; `step` counts from zero."""
    peak, final = settings["learning_rate"], settings["final_learning_rate"]
    warmup, steps = settings["warmup_steps"], settings["steps"]
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = (step - warmup) / (steps - warmup)
    return final + 0.5 * (1.0 + math.cos(math.pi * progress)) * (peak - final)


def train(model, batches, settings):
    """Trains the model in place; returns each step's loss and gradient norm."""
    # `parameters()` gives a tied weight once, so it counts once in the norm too.
    parameters = list(model.parameters())
    decayed = [p for p in parameters if p.dim() >= 2 or settings["decay_vectors"]]
    spared = [p for p in parameters if p.dim() < 2 and not settings["decay_vectors"]]
    groups = [
        {"params": decayed, "weight_decay": settings["weight_decay"]},
        {"params": spared, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings["learning_rate"],
        betas=(settings["beta_1"], settings["beta_2"]),
        eps=EPSILON,
    )
    losses, norms = [], []
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        loss = mean_loss(model, batch[:, :-1], batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings["gradient_clip"])
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm.item())
    return torch.tensor(losses), torch.tensor(norms)


def reference(case, directory, seed):
    """The reference's tensors and metadata, or None where this seed makes a poor test."""
    model = load(directory)
    size = model.config.vocab_size
    generator = torch.Generator().manual_seed(seed + 1)
    ids = torch.randint(size, (2, LENGTH), generator=generator)
    metadata = {"torch": torch.__version__, "transformers": transformers.__version__, "seed": str(seed)}
    with torch.no_grad():
        output = model(ids, output_attentions=True, use_cache=False)
    tensors = {"ids": ids, "logits": output.logits}
    if not case.full:
        return tensors, metadata

    for layer, weights in enumerate(output.attentions):
        tensors[f"attention.{layer}"] = weights

    tensors["greedy"], lead = greedy(model, ids[0, :PROMPT_LENGTH], NEW_TOKENS)
    # A continuation that repeats one token would hide a wrong position.
    if lead <= SMALLEST_LEAD or tensors["greedy"].unique().numel() < 4:
        return None

    loss = mean_loss(model, ids[:, :-1], ids[:, 1:])
    loss.backward()
    tensors["loss"] = loss.detach().reshape(1)
    for name, parameter in model.named_parameters():
        tensors[f"gradient.{name}"] = parameter.grad.clone()
    named = {name for name, _ in model.named_parameters()}
    assert named == stored_names(directory), named ^ stored_names(directory)
    model.zero_grad()

    settings = {**TRAINING, "decay_vectors": case.decay_vectors}
    batches = torch.randint(size, (settings["steps"], BATCH_SIZE, LENGTH + 1), generator=generator)
    losses, norms = train(model, batches, settings)
    exact = train(load(directory).double(), batches, settings)
    if max((losses - exact[0]).abs().max(), (norms - exact[1]).abs().max()) > LARGEST_DRIFT:
        return None
    # Both branches of the clipping must be seen.
    clipped = (norms > settings["gradient_clip"]).sum().item()
    if not 2 <= clipped <= settings["steps"] - 2:
        return None
    tensors |= {"batches": batches, "training.losses": losses, "training.norms": norms}
    metadata["training"] = json.dumps(settings)
    return tensors, metadata


def write_safetensors(path, tensors, metadata):
    """Writes the file in a fixed order: the library's own metadata come in any order."""
    header, blobs, position = {"__metadata__": metadata}, [], 0
    for name in sorted(tensors):
        array = tensors[name].detach().contiguous().numpy()
        kind = {"int64": "I64", "float32": "F32"}[str(array.dtype)]
        blob = array.astype(array.dtype.newbyteorder("<")).tobytes()
        header[name] = {
            "dtype": kind, "shape": list(array.shape), "data_offsets": [position, position + len(blob)]
        }
        blobs.append(blob)
        position += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def write_case(name, directory, seed):
    """Writes one case's folder; returns the reference's tensors and metadata."""
    case, directory = CASES[name], Path(directory)
    for attempt in range(seed, seed + 500):
        save(case, build(case, attempt), directory)
        made = reference(case, directory, attempt)
        if made is not None:
            write_safetensors(directory / "reference.safetensors", *made)
            return made
    raise SystemExit(f"{name}: no seed from {seed} on makes a fair test")


# ---------------------------------------------------------------- tokenizers

END_OF_TEXT = "<|endoftext|>"
TOKENIZER_VOCABULARY = 320

CORPUS = """\
The lighthouse keeper climbed the stairs every evening and lit the lamp before the ships came in.
"It's late," she said, "and they're still out there." The fog didn't lift until the morning of the 23rd.
In 1984 the old lamp was replaced; the new one is brighter, cheaper and needs only 60 watts.

A model reads a text token by token and guesses what comes next. It guesses badly at first, then better.
Every token is a number, every number is a row of a table, and the rows are what the model learns.
\tfor step in range(100):
\t\tloss = model(inputs, targets)

Le phare était éclairé toute l'année, même en été; le café près du quai était fermé.
Маяк стоял на скале, и море шумело внизу. Маяк видел корабли, и корабли видели маяк.
☃ is a snowman, 🚢 is a ship, and 🌊🌊 is the sea.
"""

TEXTS = [
    "",
    "The lighthouse keeper lit the lamp.",
    " leading space",
    "trailing space ",
    "  two spaces   three spaces  ",
    "one line\nanother line\n\nafter a blank line\n",
    "\n\n\n",
    "\tfor step in range(100):\n\t\tloss = 0\r\n",
    "It's late, they're here, we'll go, I'd stay, she's DON'T",
    "In 1984 there were 60 ships, 23rd of 007.",
    "café été naïve e\u0301",
    "Маяк видел корабли.",
    "☃ and 🚢🌊 and 👩\u200d🚀",
    "灯台の光",
    f"first{END_OF_TEXT}second",
    f"{END_OF_TEXT}{END_OF_TEXT} \n{END_OF_TEXT}",
    "<|endoftext|",
    "no-break\u00a0space and zero\u0000byte",
    "!?!?... --- ((()))",
]


def write_tokenizers(directory):
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENIZER_VOCABULARY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS.splitlines(keepends=True), trainer)
    tokenizer.save(str(directory / "tokenizer.json"))

    texts = []
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        # Every byte is in the alphabet, so nothing may be lost.
        assert tokenizer.decode(ids, skip_special_tokens=False) == text, text
        texts.append({"text": text, "ids": ids})
    lines = ",\n".join("  " + json.dumps(entry, ensure_ascii=False) for entry in texts)
    (directory / "reference.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")

    # Another kind of tokenizer, which a byte-level reader must refuse.
    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator(
        CORPUS.splitlines(),
        trainers.WordLevelTrainer(vocab_size=40, special_tokens=["<unk>"], show_progress=False),
    )
    words.save(str(directory / "wordlevel.json"))


def main():
    parser = argparse.ArgumentParser(description="Makes the reference files.")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED)
    arguments = parser.parse_args()

    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    for number, name in enumerate(CASES):
        tensors, metadata = write_case(name, arguments.out / name, arguments.seed + 1000 * number)
        report = f"{name}: seed {metadata['seed']}"
        if CASES[name].full:
            losses, norms = tensors["training.losses"], tensors["training.norms"]
            report += (
                f", loss {losses[0]:.3f} -> {losses[-1]:.3f}, norm {norms.min():.3f} to {norms.max():.3f},"
                f" clipped {(norms > TRAINING['gradient_clip']).sum()} of {len(norms)} steps,"
                f" greedy {tensors['greedy'].tolist()}"
            )
        print(report, flush=True)
    write_tokenizers(arguments.out / "tokenizer")


if __name__ == "__main__":
    main()
