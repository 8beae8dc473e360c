#!/usr/bin/env python3
"""Runs `headlight bench` and its peer in PyTorch in turns and prints medians and ratios as a Markdown table.

compare.sh finds Python and the binary and starts it. Let nothing else run meanwhile: PyTorch suffers from it most.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SMALL = dict(layers=4, heads=4, width=128, context=64, batch=12, steps=110)
LARGE = dict(layers=6, heads=6, width=384, context=256, batch=4, steps=30)
# One thing grows, the rest is this.
GROWN_FROM = dict(layers=4, heads=4, width=128, context=64, batch=4, steps=40)
GROWTH = dict(context=(64, 128, 256, 512, 1024), width=(64, 128, 256, 512), layers=(2, 4, 8))
HEAD_WIDTH = 32
GROWTH_THREADS = (1, 2)


class Program:
    """Something that prints one line of JSON; its memory is what the system counts, the same way for each."""

    def __init__(self, words, options):
        self.words = [str(word) for word in words]
        self.options = options

    def run(self, sizes, threads):
        words = list(self.words)
        for name, value in {**sizes, **self.options, **({"threads": threads} if threads else {})}.items():
            words += [f"--{name}", str(value)]
        # Where Headlight leaves an operation to burn, rayon's threads do it.
        environment = {**os.environ, **({"RAYON_NUM_THREADS": str(threads)} if threads else {})}
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment)
        output = child.stdout.read().decode()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0 or not output.strip():
            sys.exit(f"{' '.join(words)} ended with {child.returncode}")
        found = json.loads(output.strip().splitlines()[-1])
        found["peak"] = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return found


class Medians:
    """The middle of several runs of one program, taken in turns with another's."""

    def __init__(self, runs, key):
        times = [run[key] for run in runs]
        self.ms, self.low, self.high = statistics.median(times), min(times), max(times)
        self.peak = statistics.median(run["peak"] for run in runs)
        self.engine, self.parameters = runs[0]["engine"], runs[0]["parameters"]

    def __str__(self):
        return f"{self.ms:.2f} ({self.low:.2f}–{self.high:.2f})"


def in_turns(ours, theirs, sizes, threads, rounds, key="ms_per_step"):
    pairs = [(ours.run(sizes, threads), theirs.run(sizes, threads)) for _ in range(rounds)]
    return [Medians(runs, key) for runs in zip(*pairs)]


def mebibytes(count):
    return f"{count / 2**20:.0f} MiB"


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def beside(programs, options):
    ours, theirs, our_sampler, their_sampler = programs
    steps = {"steps": options.steps} if options.steps else {}
    shape = "{layers} layers, {heads} heads, width {width}, {batch} × {context} tokens".format
    rows = []
    for name, sizes in (("small", SMALL), ("large", LARGE)):
        found = in_turns(ours, theirs, {**sizes, **steps}, options.threads, options.rounds)
        rows.append((f"a training step, {name}: {shape(**sizes)}", found))
    if their_sampler:
        found = in_turns(our_sampler, their_sampler, {}, options.threads, options.rounds, key="ms_per_token")
        rows.append(("a sampled token, OPT of GuppyLM's shape, context 128", found))
    engines = " beside ".join(found.engine for found in rows[0][1])
    print(f"{engines}: medians of {options.rounds} runs each, in turns; in brackets the quickest and the slowest\n")
    print("| what | weights | Headlight, ms | PyTorch, ms | times as fast | memory | PyTorch's |")
    print("|---|---|---|---|---|---|---|")
    for what, (mine, other) in rows:
        if mine.parameters != other.parameters:
            what += f" (PyTorch's has {other.parameters:,})"
        print(
            f"| {what} | {mine.parameters:,} | {mine} | {other} | {other.ms / mine.ms:.2f} |"
            f" {mebibytes(mine.peak)} | {mebibytes(other.peak)} |"
        )


def growth(programs, options):
    ours, theirs, *_ = programs
    usual = ", ".join(f"{name} {value}" for name, value in GROWN_FROM.items() if name != "steps")
    print(f"\nms a step, Headlight / PyTorch (times as fast): {usual} but for the one that grows\n")
    heading = [f"{threads} thread{'s' if threads > 1 else ''}" for threads in GROWTH_THREADS]
    print("| | " + " | ".join(heading) + " | memory |")
    print("|---|" + "---|" * (len(heading) + 1))
    for name, values in GROWTH.items():
        for value in values:
            sizes = {**GROWN_FROM, name: value, **({"steps": options.steps} if options.steps else {})}
            if name == "width":
                sizes["heads"] = value // HEAD_WIDTH
            cells = []
            for threads in GROWTH_THREADS:
                mine, other = in_turns(ours, theirs, sizes, threads, options.rounds)
                cells.append(f"{mine.ms:.2f} / {other.ms:.2f} ({other.ms / mine.ms:.2f})")
            memory = f"{mebibytes(mine.peak)} / {mebibytes(other.peak)}"
            print(f"| {name} {value} | {' | '.join(cells)} | {memory} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--headlight", type=Path, required=True, help="the binary")
    parser.add_argument("--peer", type=Path, help="another script with the options and keys of `headlight bench train`")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="for each run, instead of its own number")
    parser.add_argument("--threads", type=int, help="for both; all cores otherwise")
    parser.add_argument("--gpu", action="store_true", help="Headlight through wgpu beside eager CUDA")
    parser.add_argument("--growth", action="store_true", help="what a step costs as the model and its context grow, too")
    options = parser.parse_args()
    if not options.headlight.exists():
        parser.error(f"no binary at {options.headlight}: build it with cargo build --release")
    mine, other = [{"device": name} if options.gpu else {} for name in ("gpu", "cuda")]
    peer = HERE / "peer.py"
    sampled = [options.headlight, "bench", "sample", "--preset", "guppy-9m", "--vocabulary", "4096", "--json"]
    programs = (
        Program([options.headlight, "bench", "train", "--json"], mine),
        Program([sys.executable, options.peer or peer], other),
        Program(sampled, mine),
        # Another peer trains only.
        None if options.peer else Program([sys.executable, peer, "sample"], other),
    )
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    print(f"{processor()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}{load}\n")
    beside(programs, options)
    if options.growth:
        growth(programs, options)


if __name__ == "__main__":
    main()
