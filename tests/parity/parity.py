#!/usr/bin/env python3
"""Compares a Headlight binary with `transformers` on freshly made random models.

tests/golden holds fixed reference files; this suite makes new ones on every run
(with tests/golden/make.py), drives the command line of the given binary, and
holds every number against what `transformers` computes from the same weights:
import, logits, attention, greedy decoding, export and import again, gradients,
training, and the tokenizer. run.sh sets up what it needs and starts it:

    tests/parity/run.sh [target/release/headlight] [--seed N] [--json]

or, with the packages of requirements.txt at hand,

    python parity.py --headlight PATH [--seed N] [--json]

It prints a Markdown table and a last line with the counts, and exits with 1
when a check is past its bound, or could not be made.
"""

import argparse
import json
import math
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "golden"))

import make
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

BOUND = 1e-4
# Sequences of these lengths are read: the shortest, some between, the whole context.
LENGTHS = (1, 2, 7, make.CONTEXT)
# A command on a tiny model takes far less; one that hangs must not hang the suite.
TIMEOUT_SECONDS = 300
OF_THE_PROGRAM = ("logits", "attention", "loss", "gradients", "greedy", "training")


class Failure(Exception):
    """A check that could not be made, with the reason to show."""


class Headlight:
    """The binary's commands, as functions."""

    def __init__(self, binary):
        self.binary = Path(binary).resolve()

    def run(self, *words, accept_failure=False):
        words = [str(word) for word in words]
        try:
            done = subprocess.run(
                [self.binary, *words], capture_output=True, text=True, encoding="utf-8",
                stdin=subprocess.DEVNULL, timeout=TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise Failure(f"`headlight {' '.join(words)}` took over {TIMEOUT_SECONDS} s") from None
        if done.returncode != 0 and not (accept_failure and done.stdout.strip().startswith("{")):
            raise Failure(
                f"`headlight {' '.join(words)}` ended with {done.returncode}:"
                f" {done.stderr.strip() or done.stdout.strip() or 'no output'}"
            )
        return done.stdout

    def json(self, *words, **options):
        output = self.run(*words, "--json", **options)
        try:
            return json.loads(output)
        except json.JSONDecodeError as error:
            raise Failure(f"`headlight {words[0]}` printed no JSON ({error}): {output[:200]!r}") from None

    def load(self, folder, run):
        self.run("import", folder, "--out", run)
        return run

    def logits(self, run, ids):
        return self.json("logits", run, "--ids", ",".join(map(str, ids)))["logits"]

    def attention(self, run, ids):
        return self.json("attention", run, "--ids", ",".join(map(str, ids)))["weights"]

    def greedy(self, run, prompt, count):
        # Without a tokenizer, a model's text is its token numbers.
        text = " ".join(map(str, prompt))
        output = self.run("sample", run, "--prompt", text, "--tokens", count, "--temperature", 0)
        return [int(number) for number in re.findall(r"\d+", output)]

    def export(self, run, family, folder):
        self.run("export", run, "--format", "hf", "--family", family, "--out", folder)
        return folder


class Report:
    """All rows of the table."""

    def __init__(self):
        self.rows = []

    def add(self, case, check, worst, bound, detail="", passed=None):
        # Written so that not-a-number and a missing number fail.
        within = worst is not None and worst <= bound
        passed = within if passed is None else passed and within
        self.rows.append(
            {"case": case, "check": check, "worst": worst, "bound": bound, "passed": passed, "detail": detail}
        )

    def measure(self, case, check, bound, function):
        """Runs one check; `function` returns its largest error, or that and a detail."""
        try:
            result = function()
        except Exception as error:  # one check that breaks must not hide the others
            name = "" if isinstance(error, Failure) else f"{type(error).__name__}: "
            self.add(case, check, None, bound, f"{name}{error}")
            return
        worst, detail = result if isinstance(result, tuple) else (result, "")
        self.add(case, check, worst, bound, detail)

    def failed(self):
        return [row for row in self.rows if not row["passed"]]

    def print_markdown(self):
        print("| case | check | largest error | bound |")
        print("|---|---|---:|---:|")
        for row in self.rows:
            worst = "none" if row["worst"] is None else f"{row['worst']:.1e}"
            mark = "" if row["passed"] else " **FAILED**"
            print(f"| {row['case']} | {row['check']} | {worst}{mark} | {row['bound']:.0e} |")
        for row in self.failed():
            print(f"\n{row['case']}, {row['check']}: {row['detail'] or 'past its bound'}")
        print(f"\n{len(self.rows) - len(self.failed())} passed, {len(self.failed())} failed")


def distance(found, wanted):
    """The largest absolute difference; a wrong shape is a failure, not a distance."""
    found, wanted = torch.as_tensor(found, dtype=torch.float32), wanted.detach().float()
    if found.shape != wanted.shape:
        raise Failure(f"shape {list(found.shape)} where {list(wanted.shape)} was expected")
    return (found - wanted).abs().max().item()


def different(found, wanted):
    """How many tokens differ, with both lists as the detail."""
    count = sum(a != b for a, b in zip(found, wanted)) + abs(len(found) - len(wanted))
    return float(count), f"{found} where {wanted} was expected" if count else ""


def worst_of(values):
    """The largest value, and not-a-number when there is one (`max` would lose it)."""
    values = list(values)
    return math.nan if any(math.isnan(value) for value in values) else max(values)


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0]


def sequences(model, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(model.config.vocab_size, (n,), generator=generator).tolist() for n in LENGTHS]


def fair_prompt(model, seed):
    """A prompt and its greedy continuation on which the best token always clearly leads."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(200):
        prompt = torch.randint(model.config.vocab_size, (make.PROMPT_LENGTH,), generator=generator)
        continuation, lead = make.greedy(model, prompt, make.NEW_TOKENS)
        if lead > make.SMALLEST_LEAD:
            return prompt.tolist(), continuation.tolist()
    raise Failure("no prompt with a clear greedy continuation")


def check_logits(headlight, run, model, inputs):
    return worst_of(distance(headlight.logits(run, ids), logits_of(model, ids)) for ids in inputs)


def check_attention(headlight, run, model, ids):
    with torch.no_grad():
        wanted = model(torch.tensor([ids]), output_attentions=True, use_cache=False).attentions
    return distance(headlight.attention(run, ids), torch.cat(wanted))


def open_exported(folder):
    """Opens an export as any user of `transformers` would, and insists on a perfect fit."""
    model, information = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
    )
    poor = {kind: sorted(map(str, names)) for kind, names in information.items() if names}
    if poor:
        raise Failure(f"transformers reports {poor}")
    return model.eval()


def check_generate(model, prompt, wanted):
    """Greedy `generate`; an end token in the export's configuration must not cut it short."""
    model.generation_config.eos_token_id = None
    inputs = torch.tensor([prompt])
    output = model.generate(
        inputs, attention_mask=torch.ones_like(inputs), do_sample=False,
        max_new_tokens=len(wanted), pad_token_id=0,
    )
    return different(output[0].tolist(), prompt + wanted)


def check_export(report, headlight, name, run, family, model, inputs, prompt, wanted, work):
    folder = work / "exported"
    opened = {}

    def export_and_open():
        headlight.export(run, family, folder)
        opened["model"] = open_exported(folder)
        return 0.0

    def opened_model():
        if "model" not in opened:
            raise Failure("the export did not load")
        return opened["model"]

    report.measure(name, "export loads in transformers", 0.0, export_and_open)
    report.measure(
        name, "export, logits in transformers", BOUND,
        lambda: worst_of(distance(logits_of(opened_model(), ids), logits_of(model, ids)) for ids in inputs),
    )
    report.measure(
        name, "export, greedy in transformers", 0.0, lambda: check_generate(opened_model(), prompt, wanted)
    )
    report.measure(
        name, "export imported again, logits", BOUND,
        lambda: check_logits(headlight, headlight.load(folder, work / "again"), model, inputs),
    )


def check_by_program(report, headlight, name, folder):
    """The comparison that the program makes itself, which covers gradients and training."""
    wanted = OF_THE_PROGRAM if make.CASES[name].full else ("logits",)
    try:
        checks = headlight.json("parity", folder, accept_failure=True)["checks"]
        found = {check["check"]: check for check in checks}
    except (Failure, KeyError, TypeError) as error:
        report.add(name, "headlight parity", None, BOUND, str(error))
        return
    # A check that the program leaves out is one that failed.
    for kind in [*wanted, *(kind for kind in found if kind not in wanted)]:
        check = found.get(kind)
        if check is None:
            report.add(name, f"parity: {kind}", None, BOUND, "the program did not make this check")
        else:
            report.add(
                name, f"parity: {kind}", check["worst"], check["bound"], check.get("detail", ""), check["passed"]
            )


def check_case(report, headlight, name, seed, work):
    case, folder = make.CASES[name], work / "model"
    make.write_case(name, folder, seed)
    model = make.load(folder)
    inputs = sequences(model, seed)
    prompt, wanted = fair_prompt(model, seed)
    run = work / "run"

    report.measure(name, "import", 0.0, lambda: headlight.load(folder, run) and 0.0)
    report.measure(name, "logits", BOUND, lambda: check_logits(headlight, run, model, inputs))
    report.measure(name, "attention", BOUND, lambda: check_attention(headlight, run, model, inputs[-1]))
    report.measure(
        name, "greedy", 0.0,
        lambda: different(headlight.greedy(run, prompt, len(wanted)), prompt + wanted),
    )
    check_export(report, headlight, name, run, case.family, model, inputs, prompt, wanted, work)
    check_by_program(report, headlight, name, folder)


def check_control(report, headlight, seed, work):
    """A suite that cannot fail proves nothing: the program must notice a spoiled reference."""
    name, folder = "gpt2-tanh", work / "model"
    tensors, metadata = make.write_case(name, folder, seed)
    spoiled = {key: tensor.detach().clone() for key, tensor in tensors.items()}
    for key, tensor in spoiled.items():
        if key == "greedy":
            tensor[-1] = (tensor[-1] + 1) % make.VOCABULARY
        elif tensor.is_floating_point():
            tensor.view(-1)[-1] += 0.05
    make.write_safetensors(folder / "reference.safetensors", spoiled, metadata)

    def unnoticed():
        checks = headlight.json("parity", folder, accept_failure=True)["checks"]
        failed = {check["check"] for check in checks if not check["passed"]}
        missed = [kind for kind in OF_THE_PROGRAM if kind not in failed]
        return float(len(missed)), f"not noticed: {missed}" if missed else ""

    report.measure("control", "spoiled reference is noticed", 0.0, unnoticed)


def check_tokenizer(report, headlight, seed, work):
    name, folder, run, exported = "tokenizer", work / "model", work / "run", work / "exported"
    case = make.CASES["gpt2-tanh"]
    make.write_tokenizers(work)
    # The embedding is padded, as trainers do; the context is long enough for the texts.
    make.save(case, make.build(case, seed, vocab_size=384, n_positions=96), folder)
    (folder / "tokenizer.json").write_bytes((work / "tokenizer.json").read_bytes())
    model = make.load(folder)
    original = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    # A zero byte cannot be an argument of a command, and an empty prompt has no logits.
    texts = [text for text in make.TEXTS if text and "\0" not in text]

    def encode(tokenizer, text):
        return tokenizer.encode(text, add_special_tokens=False)

    def text_logits():
        # `=`, because a text may begin with a dash.
        return worst_of(
            distance(
                headlight.json("logits", run, f"--prompt={text}")["logits"],
                logits_of(model, encode(original, text)),
            )
            for text in texts
        )

    def exported_ids():
        headlight.export(run, case.family, exported)
        written = PreTrainedTokenizerFast(tokenizer_file=str(exported / "tokenizer.json"))
        wrong = [text for text in make.TEXTS if encode(written, text) != encode(original, text)]
        return float(len(wrong)), f"other ids for {wrong}" if wrong else ""

    def refused():
        other = work / "other"
        make.save(case, make.build(case, seed), other)
        # Without the tokenizer it must import, or the refusal is about something else.
        headlight.load(other, work / "accepted")
        (other / "tokenizer.json").write_bytes((work / "wordlevel.json").read_bytes())
        try:
            headlight.load(other, work / "refused")
        except Failure as failure:
            # A refusal is a message, not a crash.
            return float("panicked" in str(failure)), str(failure)
        return 1.0, "a word-level tokenizer was imported"

    report.measure(name, "import", 0.0, lambda: headlight.load(folder, run) and 0.0)
    report.measure(name, "logits of texts", BOUND, text_logits)
    report.measure(name, "exported tokenizer.json, ids in transformers", 0.0, exported_ids)
    report.measure(
        name, "export, logits in transformers", BOUND,
        lambda: worst_of(
            distance(logits_of(open_exported(exported), ids), logits_of(model, ids))
            for ids in (encode(original, text) for text in texts[:3])
        ),
    )
    report.measure(name, "another kind is refused", 0.0, refused)


def main():
    parser = argparse.ArgumentParser(description="Compares a Headlight binary with transformers.")
    parser.add_argument("--headlight", type=Path, required=True, help="the binary")
    parser.add_argument("--seed", type=int, help="a fresh one when not given")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    arguments = parser.parse_args()
    if not arguments.headlight.is_file():
        parser.error(f"no such binary: {arguments.headlight}")
    seed = random.randrange(10**8) if arguments.seed is None else arguments.seed

    headlight, report = Headlight(arguments.headlight), Report()
    with tempfile.TemporaryDirectory(prefix="headlight-parity-") as temporary:
        groups = [
            *((name, lambda at, work, name=name: check_case(report, headlight, name, at, work)) for name in make.CASES),
            ("tokenizer", lambda at, work: check_tokenizer(report, headlight, at, work)),
            ("control", lambda at, work: check_control(report, headlight, at, work)),
        ]
        for number, (name, check) in enumerate(groups):
            print(f"{name} ...", file=sys.stderr, flush=True)
            work = Path(temporary) / name
            work.mkdir()
            check(seed + 1000 * number, work)

    versions = {"seed": seed, "torch": torch.__version__, "transformers": make.transformers.__version__}
    if arguments.json:
        counts = {"passed": len(report.rows) - len(report.failed()), "failed": len(report.failed())}
        print(json.dumps({**versions, "rows": report.rows, **counts}, indent=2))
    else:
        print(", ".join(f"{key} {value}" for key, value in versions.items()), end="\n\n")
        report.print_markdown()
    sys.exit(1 if report.failed() else 0)


if __name__ == "__main__":
    main()
