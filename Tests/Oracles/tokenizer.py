"""Makes Tests/Fixtures/tokenizer: a small tokenizer in the form of Gemma 3's, and what Hugging Face's makes of texts.

    python Tests/Oracles/tokenizer.py

Needs tokenizers and transformers. Writes

    tokenizer.json  byte-pair encoding with byte fallback, trained on the sentences below
    cases.json      texts with their ids and decoded forms, and prompts as the LTX-2 reference encodes them
    variants.json   tiny tokenizers for the other options of the format, each with cases of its own
"""

import json
import random
from pathlib import Path

import tokenizers
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

SEED = 20260
OUT = Path(__file__).resolve().parent.parent / "Fixtures" / "tokenizer"

CORPUS = """
A woman in a red coat walks slowly across a wooden bridge while snow falls around her.
The camera pans left to reveal a quiet harbour, fishing boats rocking gently on the water.
Close-up of an old man's hands carving a small bird out of pale wood; shavings fall on the table.
A golden retriever runs through tall grass toward the viewer, its ears flapping in the wind.
Two children laugh and throw pebbles into a lake at sunset; the water shimmers in orange light.
The video shows a busy street at night, neon signs reflected in puddles, people holding umbrellas.
"Where are you going?" she asks. He answers quietly: "Home." A piano plays in the background.
A time-lapse of clouds moving over snow-covered mountains, the light changing from blue to gold.
Low-angle shot of a cyclist climbing a steep hill, breathing heavily, wheels turning slowly.
The scene is filmed with a handheld camera, shallow depth of field, 24 frames per second.
Steam rises from a cup of coffee beside an open book; rain taps against the window.
An astronaut floats through a narrow corridor and pushes off the wall with one hand.
Кошка сидит на подоконнике и смотрит на улицу, где идёт снег.
猫が窓辺に座って、雪の降る通りを眺めている。
一只猫坐在窗台上，看着外面下雪的街道。
고양이가 창가에 앉아 눈 내리는 거리를 바라보고 있다.
قطة تجلس على حافة النافذة وتنظر إلى الشارع المغطى بالثلج.
חתול יושב על אדן החלון ומביט ברחוב המושלג.
Une chatte est assise près de la fenêtre ; l'été dernier, elle était déjà là.
Über den Dächern von Köln fliegt ein großer Vogel, langsam und würdevoll.
😀 🎬 🐈 👍 🌧 def main(): return {"a": [1, 2, 3.5]} // comment <b>bold</b>
""".strip().split("\n")

TEXTS = [
    "", " ", "  ", "\n", "\n\n", "\n\n\n \n\n", "\r\n", "\t", "\t\t\t", " \t\n ", "\0", "a\0b", "\x01\x02\x1b[0m", "\x7f",
    "\x1c\x1d\x1e\x1f", "\x85", "\x0b\x0c", "a\x1cb", "\u00a0", "\u3000x\u3000", "\u200b", "\u200d", "\ufeff", "\ufeffBOM",
    "▁", "▁▁", "▁▁▁", "a▁b", "a ▁ b", "▁ ▁", " ▁", "▁ ", "a  b", "a   b", "a" + " " * 29 + "b", "a" + " " * 40 + "b",
    "▁" * 8, "▁" * 9, "▁" * 40, "\n" * 8, "\n" * 40, " \n" * 5, "\n ▁\n",
    "<bos>", "<eos>", "<pad>", "<unk>", "<bos><bos>", "<bos>text<eos>", "a<bos>b", " <bos> ", "<bos", "bos>", "<BOS>", "<<bos>>",
    "<mask>", "a<mask>b [multimodal] c", "<unused0><unused5>", "<unused99>", "<start_of_turn>user\nhi<end_of_turn>\n",
    "<start_of_image><image_soft_token><end_of_image>", "<image_soft_token", "<table><td>x</td></table>", "<h1 >", "< h1>",
    "<0x00>", "<0x0A>", "<0xFF>", "<0xff>", "a<0x41>b", "<0x", "<0xE2><0x96><0x81>", "<s>", "</s>",
    "A", "z", "A cat", "a cat walks across the room.", "The camera pans left.", "Hello, world!", "UPPER lower MiXeD CamelCase",
    "  leading and trailing  ", "line one\nline two\n\npara\n\n\nend", "tabs\tand\t\ttabs", "1234567890 3.14159 1e-5", "snake_case kebab-case",
    "\\n \\t \\\\ \" ' ` ~ ^ | & % $ # @ !", "https://example.org/a?b=c&d=%20#e", "{\"a\": [1, null, true]}",
    "café", "cafe\u0301", "naïve résumé", "Å \u212b A\u030a", "ﬁ ligature", "ß ẞ ſ", "İ ı i̇", "Ω \u2126", "K \u212a", "\u1e9b\u0323",
    "한국어", "\u1112\u1161\u11ab\u1100\u116e\u11a8", "が か\u3099", "猫が窓辺で眠っている。", "一只猫坐在窗台上", "繁體中文", "Кошка спит", "Ελληνικά",
    "مرحبا بالعالم", "שלום עולם", "\u202eright to left\u202c", "a\u200fb\u200ec", "हिन्दी में एक वाक्य", "ไทยไม่มีวรรค", "தமிழ்", "བོད་", "ខ្មែរ", "አማርኛ",
    "😀", "👍🏽", "🇺🇸🇩🇪", "👨‍👩‍👧‍👦", "🏳️‍🌈", "❤️", "❤", "☃️\u20e3", "1️⃣", "🧑🏿‍🚀 floats", "emoji😀in😀text", "\U0001f9ec𓀀𝕌𝕟𝕚",
    "e" + "\u0301" * 30, "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳", "\U0010ffff", "\ufffd", "\ufffe\uffff", "\ue000\uf8ff", "\ud7ff\ue000",
    "\u2028\u2029", "soft\u00adhyphen", "zero\u200bwidth\u2060joiner", "“curly” ‘single’ — – …", "∑∫√π ≈ ≤ → ∞", "①②③ Ⅳ ½ ²",
    "x" * 200, "ab" * 100, "the " * 50, "aaaaabaaaab" * 9, "é" * 50, "😀" * 40, "walkwalkingwalkedwalker", "\u180e\u2000\u200a\u202f\u205f x",
    "word " * 3000, "a very long prompt about a woman walking in the snow, " * 300,
]

STRIPS = [
    "\x1c a \x1f", "\x85a\x85", "\u00a0a\u00a0", "\u1680a\u1680", "\u180ea\u180e", "\u2007a\u2007", "\u200ba\u200b", "\u2028a\u2029", "\u202fa\u205f",
    "\u3000a\u3000", "\ufeffa\ufeff", "\x0b\x0ca\x0b", "\0 a \0", "\r\na\r\n", " ▁a▁ ", "\n\n<bos>\n\n", " \u0301a", "a \u0301", "\t\t", " \x1c\x85\u3000 ",
    # Swift sees one Character in each of these: a space or line end with a mark or joiner upon it.
    "\n\u0301a\n\u0301", " \u200da \u200d", "a\r\n\u200d",
]


def gemma_like() -> dict:
    """A tokenizer.json with Gemma 3's parts and order of ids."""
    head = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "[multimodal]"] + [f"<unused{i}>" for i in range(6)]
    turns = ["<start_of_turn>", "<end_of_turn>"]
    lines = ["\n" * n for n in range(1, 32)]
    spaces = ["▁" * n for n in range(2, 32)]
    tags = ["<table>", "<td>", "</td>", "</table>", "<h1>", "<code>", "</code>", "<strong>"]
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    images = ["<start_of_image>", "<end_of_image>"]
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    trained.normalizer = normalizers.Replace(" ", "▁")
    # Words with the space in front of them, as SentencePiece learns them.
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=1100, show_progress=False, initial_alphabet=list("abcdefghijklmnopqrstuvwxyz\n\t"))
    trained.train_from_iterator(CORPUS, trainer)
    learned = json.loads(trained.to_str())["model"]
    added = head + turns + lines + spaces + tags
    vocab = {}
    for token in added + bytes_ + sorted(learned["vocab"], key=learned["vocab"].get) + ["Å", "\u212b", "Ω"] + images:
        vocab.setdefault(token, len(vocab))
    # Runs merge too, as they do in Gemma's file; the added tokens come first where both could apply.
    merges = [["▁" * a, "▁" * b] for n in range(2, 32) for a in range(n - 1, 0, -1) for b in [n - a] if a in (1, n - 1, n // 2)]
    merges += [["\n" * a, "\n" * (n - a)] for n in range(2, 32) for a in sorted({n - 1, n // 2})] + learned["merges"]
    special = set(head[:4] + turns + images + ["<image_soft_token>"])

    def entry(token, id_):
        return {"id": id_, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                "special": token in special}

    bos = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [entry(t, vocab[t]) for t in added + images] + [entry("<image_soft_token>", len(vocab))],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [bos, {"Sequence": {"id": "A", "type_id": 0}}, bos, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": vocab, "merges": merges},
    }


def random_texts(rng: random.Random, pieces: list[str], count: int) -> list[str]:
    ranges = [(0x20, 0x7E), (0, 0x1F), (0x80, 0x24F), (0x300, 0x36F), (0x370, 0x7FF), (0x900, 0xFFF), (0x2000, 0x20FF), (0x3040, 0x9FFF),
              (0xAC00, 0xD7A3), (0xE000, 0xFFFF), (0x1F300, 0x1FAFF), (0x10000, 0x10FFFF)]

    def scalar():
        return chr(rng.randint(*rng.choice(ranges)))

    texts = []
    for _ in range(count):
        parts = [rng.choice([scalar, lambda: rng.choice(pieces), lambda: rng.choice([" ", "\n", "▁", "\u200d", "<", ">"]) * rng.randint(1, 12)])()
                 for _ in range(rng.randint(1, 25))]
        texts.append("".join(parts))
    return texts


def case(tokenizer: Tokenizer, text: str) -> dict:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    found = {"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)}
    skipped = tokenizer.decode(ids, skip_special_tokens=True)
    return found if skipped == found["decoded"] else found | {"skipped": skipped}


def prompt_case(tokenizer, text: str, length: int) -> dict:
    """Strip, encode with truncation, pad on the left: the reference's form of a prompt."""
    encoded = tokenizer(text.strip(), padding="max_length", truncation=True, max_length=length)
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    used = sum(mask)
    assert mask == [0] * (length - used) + [1] * used
    return {"text": text, "length": length, "used": used, "ids": ids[length - used:], "pad": ids[0] if used < length else 0}


def tiny(added=(), merges=(("a", "b"), ("ab", "c"), ("▁", "ab"), ("b", "c")), vocab=(), **changes) -> dict:
    """A tokenizer of a few letters; `changes` replace its parts, or the model's options."""
    tokens = ["<unk>", *"abcdx▁ ", "ab", "abc", "bc", "▁ab", *vocab]
    table = {t: i for i, t in enumerate(dict.fromkeys(tokens))}
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": table, "merges": [list(m) for m in merges]}
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [
        {"id": table.get(content, len(table) + i), "content": content, **{f: f in on for f in flags}} for i, (content, on) in enumerate(added)],
        "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None, "model": model}
    for key, value in changes.items():
        (whole if key in whole else model)[key] = value
    return whole


def split(behavior, pattern=" ", invert=False):
    return {"type": "Split", "pattern": {"String": pattern}, "behavior": behavior, "invert": invert}


def variants() -> dict:
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    named = {f"split {b}{' inverted' if i else ''}": tiny(pre_tokenizer=split(b, invert=i), ignore_merges=True, vocab=["ab ", " ab", "  "])
             for b in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous") for i in (False, True)}
    words = [("[w]", ["single_word"]), ("<l>", ["lstrip"]), ("<r>", ["rstrip"]), ("<lr>", ["lstrip", "rstrip", "special"]), ("x", ["single_word"]),
             ("  ", [])]
    a_b = {"SpecialToken": {"id": "x", "type_id": 0}}
    byte = [f"<0x{b:02X}>" for b in range(256)]
    named |= {
        "added flags": tiny(words, normalizer=replace),
        "added normalized": tiny([("a c", ["normalized"]), ("d d", []), ("▁▁", ["normalized", "special"]), (" x", ["normalized", "lstrip"])],
                                 normalizer=replace),
        "added twice": tiny([("ab", ["special"]), ("ab", ["rstrip"]), ("dd", []), ("dd", ["special"])]),
        "legacy merges": tiny(merges=()) | {"model": tiny()["model"] | {"merges": ["#version: 0.2", "a b", "ab c", "▁ ab", "b c"]}},
        "merge listed twice": tiny(merges=(("a", "b"), ("b", "c"), ("ab", "c"), ("a", "b"))),
        "fused unknown": tiny(fuse_unk=True),
        "no unknown": tiny(unk_token=None),
        "some bytes": tiny(vocab=["<0xC3>", "<0xA9>", "<0x0A>", "é!"], byte_fallback=True),
        "some bytes, fused": tiny(vocab=["<0xC3>", "<0xA9>", "<0x0A>"], byte_fallback=True, fuse_unk=True),
        "byte merges": tiny(vocab=[*byte, "<0xC3><0xA9>"], merges=(("<0xC3>", "<0xA9>"), ("a", "b")), byte_fallback=True,
                            decoder={"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}),
        "odd bytes": tiny([("<0xc3>", []), ("<0xa9>", []), ("<0x+A>", []), ("<0xG1>", []), ("<0x-1>", [])], decoder={"type": "ByteFallback"}),
        "two normalizers": tiny(normalizer={"type": "Sequence", "normalizers": [
            replace, {"type": "Replace", "pattern": {"String": "dd"}, "content": "d"}, {"type": "Replace", "pattern": {"String": "x"}, "content": ""}]}),
        "two splits": tiny(pre_tokenizer={"type": "Sequence", "pretokenizers": [split("Isolated", "c"), split("Removed", "a")]}),
        "template around": tiny(post_processor={
            "type": "TemplateProcessing", "single": [a_b, {"Sequence": {"id": "A", "type_id": 0}}, a_b, a_b],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"x": {"id": "x", "ids": [1, 5], "tokens": ["a", "x"]}}}),
    }
    texts = ["", " ", "ab", "abc", "abcabc", "aabbcc", "  ab", "ab  ", " ab  abc   d ", "a b c", "x", "xx", "x x", "axb", " x ", "x\u0301", "éa", "ééa", "é!é",
             "\n", "a\né\0b", "a[w]b", "a [w] b", "[w][w]", "é[w]", "_[w]_", "1[w]1", "-[w]-", "\u200d[w]", "a <l> b", "a   <l>", "a<l>\u3000<l>", "<r>   a",
             "a <r>\n\u2003 <r> b", "<lr>   <lr>", " <lr> ", "a   <lr>   b", "<r>     <l>", "<r>  a", "<r>  ", "  <l>  ", "d d", "a c", "a▁c", "a  c", "d▁d", "   x",
             "▁▁", "▁ ", " ▁", "dd", "ddd", "dddd", "ab ab dd dd", "<0xc3><0xa9>", "<0xc3>a<0xa9>", "<0x+A>", "<0xG1><0x-1>", "\u00c3\u00a9", "é<0xC3>", "ccabaab",
             "\x1c<l>\x1c", "<r>\x85a", "cacacaabca"]
    rng = random.Random(SEED + 1)
    texts += ["".join(rng.choice(["a", "b", "c", "d", "x", " ", "▁", "é", "日", "<r>", "<l>", "<lr>", "[w]", "\n", "  "]) for _ in range(rng.randint(2, 14)))
              for _ in range(40)]
    result = []
    for name, parts in named.items():
        tokenizer = Tokenizer.from_str(json.dumps(parts))
        extra = [tokenizer.decode([i], skip_special_tokens=False) for i in range(tokenizer.get_vocab_size())]
        cases = []
        for text in texts:
            cases.append(case(tokenizer, text))
        result.append({"name": name, "tokenizer": parts, "size": tokenizer.get_vocab_size(), "each": extra, "cases": cases,
                       "framed": tokenizer.encode("ab").ids})
    return {"variants": result}


def main() -> None:
    rng = random.Random(SEED)
    OUT.mkdir(parents=True, exist_ok=True)
    parts = gemma_like()
    (OUT / "tokenizer.json").write_text(json.dumps(parts, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    tokenizer = Tokenizer.from_file(str(OUT / "tokenizer.json"))
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(OUT / "tokenizer.json")), bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>",
        add_bos_token=True, add_eos_token=False, padding_side="left", clean_up_tokenization_spaces=False)
    pieces = list(parts["model"]["vocab"]) + ["<image_soft_token>"] + CORPUS
    texts = TEXTS + STRIPS + random_texts(rng, pieces, 160)
    prompts = [prompt_case(fast, text, length) for text in texts for length in ([24] if len(text) < 5000 else [24, 1024])]
    # Sequences of ids that no text gives: broken runs of bytes, ids that are no token.
    size = tokenizer.get_vocab_size()
    first = parts["model"]["vocab"]["<0x00>"]
    decoded = []
    for _ in range(60):
        ids = [rng.choice([rng.randrange(size + 5), first + rng.choice([0xC3, 0xA9, 0xE7, 0x8C, 0xAB, 0xF0, 0x9F, 0x98, 0x80, 0x41])]) for _ in range(rng.randint(1, 12))]
        decoded.append({"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False), "skipped": tokenizer.decode(ids, skip_special_tokens=True)})
    about = {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__, "seed": SEED}
    for name, content in {
        "cases.json": about | {"size": size, "cases": [case(tokenizer, t) for t in texts if len(t) < 5000], "prompts": prompts, "decoded": decoded},
        "variants.json": about | variants(),
    }.items():
        (OUT / name).write_text(json.dumps(content, ensure_ascii=True, separators=(",", ":")), encoding="utf-8")
    for path in sorted(OUT.iterdir()):
        print(path.name, path.stat().st_size)
    print(len(texts), "texts")


if __name__ == "__main__":
    main()
