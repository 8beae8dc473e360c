#!/usr/bin/env python3
"""Kills the program in the middle of its jobs: tests/kills.py BINARY [--rounds N] [--seed S].

Each round starts a job, kills it (SIGKILL) at a moment drawn at random from the job's usual time, and looks at what is left:
the run that it read still answers, what it made is not there or whole, a run that trained goes on and ends in the same bits, and
after the next start nothing hidden is left beside.
"""

import argparse
import hashlib
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

PRESET = "first-light"


class Failed(Exception):
    pass


def need(holds, words):
    if not holds:
        raise Failed(words)


class Lab:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder

    def start(self, *arguments):
        command = [self.binary, *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=self.folder)

    def ask(self, *arguments):
        """The job's output; it must end well."""
        done = subprocess.run([self.binary, *map(str, arguments)], cwd=self.folder, capture_output=True, timeout=600)
        need(done.returncode == 0, f"{' '.join(map(str, arguments))}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode()

    def hidden(self):
        return [str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.name.endswith(".part")]


def tensors(run):
    """A digest of a checkpoint's numbers; the header holds the time that training took."""
    data = (run / "checkpoint/last.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode() + data[8 + length :]).hexdigest()


def main():
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("binary", type=pathlib.Path)
    parse.add_argument("--rounds", type=int, default=40)
    parse.add_argument("--seed", type=int, default=1)
    arguments = parse.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="headlight-kills-") as folder:
        folder = pathlib.Path(folder).resolve()
        lab = Lab(arguments.binary.resolve(), folder)
        train = ["train", "--preset", PRESET, "--steps", 60, "--device", "cpu", "--out"]
        began = time.monotonic()
        lab.ask(*train, "whole")
        usual = {"train": time.monotonic() - began}
        whole = tensors(folder / "whole")
        kept = sorted(int(path.stem.split("-")[1]) for path in (folder / "whole/snapshots").iterdir())
        step = kept[len(kept) // 2]
        lab.ask("export", "whole", "--format", "hf", "--out", "model")
        jobs = {
            "train": [*train, "made"],
            "fork": ["fork", "whole", "--step", step, "--out", "made"],
            "prune": ["prune", "whole", "--heads", "1.1", "--out", "made"],
            "import": ["import", "model", "--out", "made"],
            "export hf": ["export", "whole", "--format", "hf", "--out", "made"],
            "export safetensors": ["export", "whole", "--format", "safetensors", "--out", "made"],
            "export checkpoint": ["export", "whole", "--format", "checkpoint", "--out", "made"],
            "page": ["page", "whole", "--prompt", "The", "--out", "made.html"],
        }
        outcomes = {name: {"killed": 0, "ended": 0, "nothing": 0, "whole": 0} for name in jobs}
        for number in range(arguments.rounds):
            name = list(jobs)[number % len(jobs)]
            made = folder / ("made.html" if name == "page" else "made")
            began = time.monotonic()
            if name not in usual:
                lab.ask(*jobs[name])
                usual[name] = time.monotonic() - began
                remove(made)
            job = lab.start(*jobs[name])
            time.sleep(draw.uniform(0, 1.1) * usual[name])
            job.send_signal(signal.SIGKILL)
            said = job.communicate()[1].decode(errors="replace")
            outcome = outcomes[name]
            outcome["killed" if job.returncode == -signal.SIGKILL else "ended"] += 1
            need(job.returncode in (0, -signal.SIGKILL), f"{name} ended with {job.returncode}: {said}")
            try:
                look(lab, name, made, jobs, whole, outcome)
            except Failed as fault:
                sys.exit(f"round {number + 1}, {name}: {fault}\nleft in {sorted(str(p) for p in folder.iterdir())}")
            remove(made)
        # What is left of killed jobs is gone after the next start.
        lab.ask("export", "whole", "--format", "hf", "--out", "last")
        need(not lab.hidden(), f"left over: {lab.hidden()}")
        need(tensors(folder / "whole") == whole, "the run that was read has other weights")
        for name, outcome in outcomes.items():
            print(f"{name:20} {outcome}")
        print(f"{arguments.rounds} rounds: nothing lost, nothing left")


def remove(path):
    if path.is_dir():
        subprocess.run(["rm", "-r", str(path)], check=True)
    elif path.exists():
        path.unlink()


def look(lab, name, made, jobs, whole, outcome):
    if not made.exists():
        outcome["nothing"] += 1
        return
    if name == "train":
        # A run folder without a checkpoint has not begun; else it goes on.
        if (made / "recipe.ron").exists():
            lab.ask("resume", "made", "--device", "cpu")
            need(tensors(made) == whole, "the resumed run ends in other weights")
            outcome["whole"] += 1
        else:
            outcome["nothing"] += 1
            lab.ask(*jobs["train"])
        need(not [path for path in made.rglob("*.part")], "a file that was not whole is left in the run folder")
        return
    outcome["whole"] += 1
    if name == "page":
        text = made.read_text()
        need(text.rstrip().endswith("</html>"), "half a page")
    elif name in ("export hf",):
        remove(lab.folder / "back")
        lab.ask("import", "made", "--out", "back")
        remove(lab.folder / "back")
    elif name == "export safetensors":
        need({"config.json", "model.safetensors"} <= {path.name for path in made.iterdir()}, "half an export")
    else:
        lab.ask("logits", "made", "--prompt", "The", "--json")


if __name__ == "__main__":
    main()
