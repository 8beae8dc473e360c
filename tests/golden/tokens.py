"""Makes tokens/reference.json: what transformers makes of texts with tokenizers in all the ways that their files can be written.

    pip install transformers==5.24    (no torch is needed)
    python tests/golden/tokens.py

A case is a list of changes to one small tokenizer of bytes and five merges: whole parts of tokenizer.json (`tokenizer`), the
files beside it as they are (`files`), whether there is a tokenizer.json at all (`slow`), and the kind of model.
"""

import json
import os
import pathlib
import tempfile

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
from transformers import AutoTokenizer  # noqa: E402

HERE = pathlib.Path(__file__).parent / "tokens"
TEXTS = [
    "", "the other", " the\n\nthe  é😀 ther ", "hello the<|begin|>x <|end|>y", "a <|end|> b<|end|>", "bend end end.end_ end",
    "e\u0301 cafe\u0301", "don't 12345 ... ok ?!\r\n\t x", "a<x>b <y>c", "日本語 the\u00a0the", "<s>a</s><pad>", "a<|endoftext|>b",
]


def symbols():
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in kept else next(others)) for byte in range(256)]


MERGES = [["Ġ", "t"], ["Ġt", "h"], ["Ġth", "e"], ["t", "h"], ["e", "r"]]
VOCAB = {symbol: id for id, symbol in enumerate([*symbols(), *("".join(pair) for pair in MERGES)])}


def added(id, content, special=True, normalized=False, single_word=False, lstrip=False, rstrip=False):
    return dict(id=id, content=content, single_word=single_word, lstrip=lstrip, rstrip=rstrip, normalized=normalized, special=special)


BYTES = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
BEGIN, END = added(261, "<|begin|>"), added(262, "<|end|>")
BASE = dict(
    version="1.0", truncation=None, padding=None, added_tokens=[BEGIN, END], normalizer=None, pre_tokenizer=BYTES,
    post_processor=None, decoder=dict(BYTES, add_prefix_space=True),
    model=dict(
        type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=False,
        byte_fallback=False, ignore_merges=False, vocab=VOCAB, merges=MERGES,
    ),
)


def special(name):
    return {"SpecialToken": {"id": name, "type_id": 0}}


TEXT = {"Sequence": {"id": "A", "type_id": 0}}
PAIR = [TEXT, {"Sequence": {"id": "B", "type_id": 1}}]


def template(*single):
    ids = {"<|begin|>": 261, "<|end|>": 262}
    tokens = {name: dict(id=name, ids=[id], tokens=[name]) for name, id in ids.items()}
    return dict(type="TemplateProcessing", single=list(single), pair=PAIR, special_tokens=tokens)


def split(pattern, behavior="Isolated"):
    return dict(type="Split", pattern=pattern, behavior=behavior, invert=False)


def after(*steps, **last):
    return dict(type="Sequence", pretokenizers=[*steps, dict(BYTES, **last)])


FAST = dict(tokenizer_class="PreTrainedTokenizerFast")
NAMES = dict(FAST, bos_token="<|begin|>", eos_token="<|end|>")
SLOW = dict(tokenizer_class="GPT2Tokenizer")
FIRST = template(special("<|begin|>"), TEXT)
LLAMA = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QUOTED = {"__type": "AddedToken", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}


def case(name, says=NAMES, kind="llama", slow=False, files=None, rows=272, **tokenizer):
    files = {name: json.dumps(value) for name, value in (files or {}).items()}
    if says is not None:
        files["tokenizer_config.json"] = json.dumps(says)
    return dict(name=name, kind=kind, slow=slow, rows=rows, files=files, tokenizer=tokenizer)


CASES = [
    case("plain"),
    case("begin", post_processor=FIRST),
    case("begin and end", post_processor=template(special("<|begin|>"), TEXT, special("<|end|>"))),
    case("end twice", post_processor=template(TEXT, special("<|end|>"), special("<|end|>"))),
    case("sequence", post_processor=dict(type="Sequence", processors=[dict(BYTES, trim_offsets=False), FIRST])),
    case("empty sequence", post_processor=dict(type="Sequence", processors=[])),
    case("bytes", post_processor=BYTES),
    case("roberta", post_processor=dict(type="RobertaProcessing", sep=["<|end|>", 262], cls=["<|begin|>", 261], trim_offsets=True, add_prefix_space=False)),
    case("bert", post_processor=dict(type="BertProcessing", sep=["<|end|>", 262], cls=["<|begin|>", 261])),
    # With a tokenizer.json these two switches mean nothing.
    case("switches beside a whole file", says=dict(NAMES, add_bos_token=True, add_eos_token=True)),
    case("switched off beside a whole file", says=dict(NAMES, add_bos_token=False), post_processor=FIRST),
    case("no words beside it", says=None, post_processor=FIRST),
    case("llama's class", says=dict(NAMES, tokenizer_class="LlamaTokenizerFast"), post_processor=FIRST),
    case("truncated and padded", truncation=dict(direction="Right", max_length=2, strategy="LongestFirst", stride=0),
         padding=dict(strategy={"Fixed": 9}, direction="Right", pad_to_multiple_of=None, pad_id=262, pad_type_id=0, pad_token="<|end|>")),
    case("a gap", added_tokens=[added(261, "<|begin|>"), added(270, "<|end|>")]),
    case("out of order", added_tokens=[added(262, "<|end|>"), added(261, "<|begin|>")]),
    case("strips", says=FAST, added_tokens=[BEGIN, added(262, "<|end|>", lstrip=True, rstrip=True)]),
    case("strips left", added_tokens=[BEGIN, added(262, "<|end|>", lstrip=True)]),
    case("strips right", says=FAST, added_tokens=[BEGIN, added(262, "<|end|>", rstrip=True)]),
    case("single word", says=FAST, added_tokens=[BEGIN, added(262, "end", single_word=True)]),
    case("normalized", says=FAST, normalizer=dict(type="NFC"), added_tokens=[added(261, "e\u0301", special=False, normalized=True), added(262, "cafe\u0301")]),
    case("not special", says=FAST, added_tokens=[BEGIN, added(262, "<|end|>", special=False, normalized=True)]),
    case("one is a token of the vocabulary", says=FAST, added_tokens=[added(259, "th"), added(261, "<|begin|>")]),
    case("empty normalizer", normalizer=dict(type="Sequence", normalizers=[])),
    case("normalizer in a sequence", normalizer=dict(type="Sequence", normalizers=[dict(type="NFC"), dict(type="Sequence", normalizers=[dict(type="NFC")])])),
    case("normalizers that change nothing", normalizer=dict(type="Sequence", normalizers=[
        dict(type="Strip", strip_left=False, strip_right=False),
        dict(type="Replace", pattern={"String": "a"}, content="a")])),
    case("sequence of one step", pre_tokenizer=after()),
    case("empty sequences", pre_tokenizer=after(dict(type="Sequence", pretokenizers=[]))),
    case("llama's pattern", pre_tokenizer=after(split({"Regex": LLAMA}), use_regex=False)),
    case("a pattern of its own", pre_tokenizer=after(split({"Regex": r"[A-Za-z]+|[^A-Za-z]{1,2}"}), use_regex=False)),
    case("merged with what is before", pre_tokenizer=after(split({"String": "e"}, "MergedWithPrevious"))),
    case("digits and punctuation", pre_tokenizer=after(dict(type="Digits", individual_digits=True), dict(type="Punctuation", behavior="Isolated"))),
    case("fused decoder", decoder=dict(type="Sequence", decoders=[BASE["decoder"], dict(type="Fuse")])),
    case("no decoder", decoder=None),
    case("falls back to bytes that are all there", model=dict(BASE["model"], byte_fallback=True, unk_token="a")),
    case("merges as lines", model=dict(BASE["model"], merges=[" ".join(pair) for pair in MERGES])),
    case("ignores merges", model=dict(BASE["model"], ignore_merges=True)),
    case("space before", pre_tokenizer=dict(BYTES, add_prefix_space=True)),
    case("space before, in words alone", says=dict(NAMES, add_prefix_space=True)),
    case("new names", says=dict(FAST, bos_token="<s>", eos_token="</s>", pad_token="<pad>"), rows=280),
    case("names with flags", says=dict(FAST, eos_token=dict(QUOTED, content="</s>", lstrip=True), pad_token=dict(QUOTED, content="<pad>")), rows=280),
    case("extra names", says=dict(NAMES, additional_special_tokens=["<x>", "<y>"]), rows=280),
    case("extra names, newer", says=dict(NAMES, extra_special_tokens=["<y>"], image_token="<x>"), rows=280),
    case("listed with flags", says=dict(NAMES, added_tokens_decoder={
        "262": dict(content="<|end|>", special=True, lstrip=True, rstrip=False, normalized=False, single_word=False),
        "270": dict(content="<x>", special=True, lstrip=False, rstrip=False, normalized=False, single_word=False),
        "265": dict(content="<y>", special=False, lstrip=True, rstrip=False, normalized=True, single_word=False)}), rows=280),
    case("map of special tokens", says=FAST, files={"special_tokens_map.json": dict(bos_token="<s>", eos_token=dict(content="</s>", lstrip=False, rstrip=True, normalized=False, single_word=False))}, rows=280),
    case("added tokens beside", files={"added_tokens.json": {"<y>": 264, "<x>": 263}}, rows=280),
    case("gpt2 by kind", kind="gpt2", says=None, added_tokens=[added(261, "<|endoftext|>")]),
    case("gpt2 by kind, a gap", kind="gpt2", says=None, added_tokens=[added(270, "<|endoftext|>")]),
    case("gpt2 by kind, out of order", kind="gpt2", says=None, added_tokens=[added(270, "<x>"), added(261, "<|begin|>"), added(265, "<y>")], rows=280),
    case("gpt2, out of order", kind="gpt2", says=SLOW, added_tokens=[END, BEGIN]),
    case("gpt2, one number twice", kind="gpt2", says=SLOW, added_tokens=[BEGIN, added(261, "<|end|>")]),
    case("gpt2 by kind, unnamed", kind="gpt2", says=None, added_tokens=[]),
    case("gpt2, space in the file alone", kind="gpt2", says=None, added_tokens=[], pre_tokenizer=dict(BYTES, add_prefix_space=True)),
    case("gpt2, space in words", kind="gpt2", says=dict(SLOW, add_prefix_space=True)),
    case("slow", kind="gpt2", slow=True, says=SLOW),
    case("slow, no words", kind="gpt2", slow=True, says=None),
    case("slow, space", kind="gpt2", slow=True, says=dict(SLOW, add_prefix_space=True)),
    case("slow, begin", kind="gpt2", slow=True, says=dict(SLOW, add_bos_token=True)),
    case("slow, both", kind="gpt2", slow=True, says=dict(SLOW, add_bos_token=True, add_eos_token=True, bos_token="<s>", eos_token="</s>")),
    case("slow, opt", kind="opt", slow=True, says=dict(
        SLOW, add_bos_token=True, add_prefix_space=False, errors="replace", pad_token=dict(QUOTED, content="<pad>"),
        **{name: dict(QUOTED, content="</s>") for name in ["bos_token", "eos_token", "unk_token"]})),
    case("slow, nothing is special", kind="gpt2", slow=True, says=dict(SLOW, bos_token=None, eos_token=None, unk_token=None)),
    case("slow, map and added", kind="gpt2", slow=True, says=SLOW, files={
        "special_tokens_map.json": dict(bos_token="<s>", pad_token="<pad>"), "added_tokens.json": {"<x>": 262}}, rows=280),
]


def main():
    HERE.mkdir(exist_ok=True)
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            put = lambda name, text: pathlib.Path(folder, name).write_text(text, encoding="utf-8")  # noqa: E731
            put("config.json", json.dumps(dict(model_type=case["kind"], vocab_size=case["rows"])))
            for name, text in case["files"].items():
                put(name, text)
            if case["slow"]:
                put("vocab.json", json.dumps(VOCAB))
                put("merges.txt", "#version: 0.2\n" + "".join(f"{' '.join(pair)}\n" for pair in MERGES))
            else:
                put("tokenizer.json", json.dumps({**BASE, **case["tokenizer"]}))
            tokenizer = AutoTokenizer.from_pretrained(folder)
            case["texts"] = [
                dict(text=text, ids=tokenizer(text)["input_ids"], plain=tokenizer(text, add_special_tokens=False)["input_ids"])
                for text in TEXTS
            ]
        # Said once, in the base.
        if case["tokenizer"].get("model"):
            case["tokenizer"]["model"] = {key: value for key, value in case["tokenizer"]["model"].items() if key != "vocab"}
    text = json.dumps(dict(base=BASE, cases=CASES), ensure_ascii=False, separators=(",", ":"))
    (HERE / "reference.json").write_text(text.replace('{"name":', '\n{"name":') + "\n", encoding="utf-8")


main()
