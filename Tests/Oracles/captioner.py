"""The captioner's language model, tokenizer and answers: cases of `caption-logits`, `caption-generate` and `caption-text`,
and `tokenizer/byte-level.json`. transformers runs the models of `captioner_models.py`.

    python captioner.py      makes all of them; the models must be there
"""

import json
import random

import captioner_models
import torch
from captioner_models import FAMILIES
from fixtures import MODELS, ROOT, generator, origin, write_case
from tokenizers import Tokenizer

SOURCE = origin("transformers")
# A decision that is closer than this, relative to the largest logit, could go the other way elsewhere.
MARGIN = 2e-3
# The same for the choice of experts, in logits of the router.
ROUTER_MARGIN = 0.03


class Prompts:
    """Conversations of drawn text tokens and placeholders of media, padded on the left."""

    def __init__(self, family: str, name: str):
        self.family = family
        config = json.loads((MODELS / FAMILIES[family] / "config.json").read_text())["thinker_config"]
        self.width = config["text_config"]["hidden_size"]
        self.config = config
        self.patch = 6 * config["vision_config"]["patch_size"] ** 2
        self.generator = generator(f"captioner/{family}/{name}")
        self.rows: list[list[int]] = []
        self.image_grids, self.video_grids, self.frames = [], [], []

    def token(self, *names: str) -> int:
        return next(self.config[name] for name in names if name in self.config)

    def text(self, count: int) -> list[int]:
        return torch.randint(0, 300, (count,), generator=self.generator).tolist()

    def image(self, rows: int, columns: int) -> list[int]:
        self.image_grids.append([1, rows, columns])
        return self.vision(self.token("image_token_id", "image_token_index"), rows * columns // 4)

    def video(self, steps: int, rows: int, columns: int) -> list[int]:
        self.video_grids.append([steps, rows, columns])
        return self.vision(self.token("video_token_id", "video_token_index"), steps * rows * columns // 4)

    def vision(self, placeholder: int, count: int) -> list[int]:
        return [self.token("vision_start_token_id")] + [placeholder] * count + [self.token("vision_end_token_id")]

    def audio(self, frames: int) -> list[int]:
        self.frames.append(frames)
        tokens = [self.token("audio_token_id", "audio_token_index")] * self.audio_tokens(frames)
        return [self.token("audio_start_token_id")] + tokens + [self.token("audio_end_token_id")]

    def audio_tokens(self, frames: int) -> int:
        if self.family == "qwen25":
            return ((frames - 1) // 2 + 1 - 2) // 2 + 1
        rest = frames % 100
        for _ in range(3):
            rest = (rest - 1) // 2 + 1 if rest else 0
        return frames // 100 * 13 + rest

    def add(self, *parts: list[int]) -> "Prompts":
        self.rows.append([token for part in parts for token in part])
        return self

    def inputs(self) -> dict[str, torch.Tensor]:
        length = max(map(len, self.rows))
        pad = json.loads((MODELS / FAMILIES[self.family] / "generation_config.json").read_text())["pad_token_id"]
        inputs = {
            "input_ids": torch.tensor([[pad] * (length - len(row)) + row for row in self.rows]),
            "attention_mask": torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in self.rows]),
        }
        if self.image_grids:
            inputs["image_grid_thw"] = torch.tensor(self.image_grids)
        if self.video_grids:
            inputs["video_grid_thw"] = torch.tensor(self.video_grids)
            inputs["video_second_per_grid"] = torch.full((len(self.video_grids),), 1.0)
        return inputs

    def draw(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator)

    def embeddings(self) -> dict[str, torch.Tensor]:
        """Stand-ins for the outputs of the towers."""
        out = {}
        for kind, grids in (("image", self.image_grids), ("video", self.video_grids)):
            if not grids:
                continue
            count = sum(t * h * w // 4 for t, h, w in grids)
            out[f"{kind}_embeds"] = self.draw(count, self.width)
            for layer, _ in enumerate(self.config["vision_config"].get("deepstack_visual_indexes", [])):
                out[f"deepstack.{kind}.{layer}"] = self.draw(count, self.width)
        if self.frames:
            out["audio_embeds"] = self.draw(sum(map(self.audio_tokens, self.frames)), self.width)
            out["audio_frames"] = torch.tensor(self.frames)
        return out

    def media(self) -> dict[str, torch.Tensor]:
        """Stand-ins for the outputs of the processor."""
        out = {}
        for key, grids in (("pixel_values", self.image_grids), ("pixel_values_videos", self.video_grids)):
            if grids:
                out[key] = self.draw(sum(t * h * w for t, h, w in grids), self.patch)
        if self.frames:
            out["input_features"] = self.draw(len(self.frames), 128, max(self.frames)) * 0.5
            out["feature_attention_mask"] = torch.tensor(
                [[1] * n + [0] * (max(self.frames) - n) for n in self.frames]
            )
        return out


def language_model(model, prompts: Prompts, inputs: dict, embeddings: dict) -> tuple[dict, float]:
    """(logits, positions and delta, the smallest distance of a router's decision)."""
    core, ids, mask = model.model, inputs["input_ids"], inputs["attention_mask"]
    hidden = core.get_input_embeddings()(ids).clone()
    kinds = {
        "image": ("image_token_id", "image_token_index"),
        "video": ("video_token_id", "video_token_index"),
        "audio": ("audio_token_id", "audio_token_index"),
    }
    masks = {kind: ids == prompts.token(*names) for kind, names in kinds.items()}
    for kind, places in masks.items():
        if f"{kind}_embeds" in embeddings:
            hidden[places] = embeddings[f"{kind}_embeds"].to(hidden.dtype)
    positions, delta = core.get_rope_index(
        ids, inputs.get("image_grid_thw"), inputs.get("video_grid_thw"), mask, False, embeddings.get("audio_frames"),
        inputs.get("video_second_per_grid"),
    )  # fmt: skip
    options = {}
    visual = masks["image"] | masks["video"]
    if prompts.family == "qwen3":
        options["output_router_logits"] = True
        if visual.any():
            layers = []
            while any(f"deepstack.{kind}.{len(layers)}" in embeddings for kind in ("image", "video")):
                rows = torch.zeros(*ids.shape, prompts.width, dtype=hidden.dtype)
                for kind in ("image", "video"):
                    if (key := f"deepstack.{kind}.{len(layers)}") in embeddings:
                        rows[masks[kind]] = embeddings[key].to(hidden.dtype)
                layers.append(rows[visual])
            options |= {"visual_pos_masks": visual, "deepstack_visual_embeds": layers}
    with torch.no_grad():
        out = core.language_model(inputs_embeds=hidden, attention_mask=mask, position_ids=positions, **options)
        logits = model.lm_head(out.last_hidden_state)
    distance = float("inf")
    for layer in getattr(out, "router_logits", None) or ():
        count = prompts.config["text_config"]["num_experts_per_tok"]
        values = layer.float()[mask.flatten().bool()].sort(-1, descending=True).values
        distance = min(distance, float((values[:, count - 1] - values[:, count]).min()))
    expected = {
        "logits": logits * mask.unsqueeze(-1),
        "position_ids": positions.float() * mask,
        "delta": delta.float(),
    }
    return expected, distance


def logits_cases(family: str) -> None:
    model = captioner_models.load(family)
    args = ["--captioner-model", f"{{root}}/models/{FAMILIES[family]}"]
    exact = ["position_ids", "delta"]

    prompts = Prompts(family, "padded")
    prompts.add(prompts.text(9)).add(prompts.text(15))
    inputs = prompts.inputs()
    expected, _ = language_model(model, prompts, inputs, {})
    # Without media, transformers leaves padding out of the delta, and out of the indices that it is added to.
    expected["delta"] = expected["position_ids"].amax((0, 2))[:, None] + 1 - inputs["input_ids"].shape[1]
    write_case(
        "caption-logits", f"{family}_padded", inputs, expected, source=SOURCE, args=args, exact=exact,
        what="two texts of different lengths",
    )  # fmt: skip

    def mixed(name: str):
        # In bfloat16, an expert that is chosen otherwise changes everything after it.
        for attempt in range(200):
            prompts = Prompts(family, f"{name}/{attempt}")
            prompts.add(
                prompts.text(3), prompts.image(4, 6), prompts.text(2), prompts.video(2, 4, 4), prompts.audio(30),
                prompts.text(4),
            )  # fmt: skip
            inputs, embeddings = prompts.inputs(), prompts.embeddings()
            expected, distance = language_model(model, prompts, inputs, embeddings)
            if distance > ROUTER_MARGIN or name == "mixed":
                return prompts, inputs, embeddings, expected
        raise SystemExit(f"{family}: no prompt whose experts are far from a tie")

    prompts, inputs, embeddings, expected = mixed("mixed")
    write_case(
        "caption-logits", f"{family}_mixed", inputs | embeddings, expected, source=SOURCE, args=args, exact=exact,
        what="an image, a video and audio between text",
    )  # fmt: skip
    prompts, inputs, embeddings, expected = mixed("narrow")
    narrow = captioner_models.load(family, torch.bfloat16)
    if family == "qwen3":
        # The fused experts need widths that are multiples of 8.
        narrow.set_experts_implementation("eager")
    rounded, _ = language_model(narrow, prompts, inputs, embeddings)
    write_case(
        "caption-logits", f"{family}_bf16", inputs | embeddings, rounded, source=SOURCE, args=args, exact=exact,
        dtype="bfloat16", float32=expected, what="the same in bfloat16, with other media",
    )  # fmt: skip
    write_case(
        "caption-logits", f"{family}_8bit", inputs | embeddings, expected, source=SOURCE, args=[*args, "--use-8bit"],
        exact=exact, tolerance={"logits": 0.2 if family == "qwen25" else 0.4}, what="int8 weights",
        why="the expected logits are those of unquantized weights",
    )  # fmt: skip


def generate(model, prompts: Prompts, inputs: dict, steps: int, ends: list[int], penalty: float):
    """(tokens, logits, the smallest margin of a decision)."""
    pad = json.loads((MODELS / FAMILIES[prompts.family] / "generation_config.json").read_text())["pad_token_id"]
    with torch.no_grad():
        out = model.generate(
            **inputs, max_new_tokens=steps, do_sample=False, repetition_penalty=penalty, eos_token_id=ends,
            pad_token_id=pad, output_logits=True, output_scores=True, return_dict_in_generate=True,
        )  # fmt: skip
    tokens = out.sequences[:, inputs["input_ids"].shape[1] :]
    logits, margin = torch.stack(out.logits, 1).float(), float("inf")
    for row in range(tokens.shape[0]):
        for step in range(tokens.shape[1]):
            if step and any(int(t) in ends for t in tokens[row, :step]):
                logits[row, step] = 0
                continue
            best = out.scores[step][row].float().sort(descending=True).values
            margin = min(margin, float((best[0] - best[1]) / best.abs().max()))
    return tokens, logits, margin


def generate_cases(family: str) -> None:
    model = captioner_models.load(family)
    args = ["--captioner-model", f"{{root}}/models/{FAMILIES[family]}"]
    own_ends = json.loads((MODELS / FAMILIES[family] / "generation_config.json").read_text())["eos_token_id"]

    def case(name: str, fill, what: str, steps: int, penalty: float = 1.0, ends=None) -> None:
        for attempt in range(200):
            prompts = Prompts(family, f"{name}/{attempt}")
            fill(prompts)
            inputs = prompts.inputs() | prompts.media()
            # An answer that ends: at the third token of the first prompt.
            chosen = own_ends
            if ends:
                free, _, _ = generate(model, prompts, inputs, steps, own_ends, penalty)
                chosen = [int(free[0, 2]), own_ends[0]]
                if int(free[0, 2]) in free[0, :2] or int(free[0, 2]) in free[1]:
                    continue
            tokens, logits, margin = generate(model, prompts, inputs, steps, chosen, penalty)
            if margin < MARGIN or tokens.shape[1] < steps:
                continue
            extra = {"max_new_tokens": torch.tensor([steps])}
            if penalty != 1:
                extra["repetition_penalty"] = torch.tensor([penalty])
            if ends:
                extra["eos"] = torch.tensor(chosen)
            write_case(
                "caption-generate", f"{family}_{name}", inputs | extra, {"tokens": tokens, "logits": logits},
                source=SOURCE, args=args, exact=["tokens"], what=what,
            )  # fmt: skip
            return
        raise SystemExit(f"{family} {name}: no prompt whose decisions are far from a tie")

    case("image", lambda p: p.add(p.text(3), p.image(4, 4), p.text(4)), "an image, repetition penalty 1.3", 10, 1.3)
    case("clip", lambda p: p.add(p.text(2), p.video(2, 4, 4), p.audio(44), p.text(3)), "a video and its audio", 8)
    case("ends", lambda p: p.add(p.text(5)).add(p.text(9)), "two prompts, the first of which ends early", 6, ends=True)


ANSWERS = {
    '{"combined_caption_english": "A red boat."}': "A red boat.",
    "\n A red boat. \x1c": "A red boat.",
    "It may be a ship.</think>\n\nA boat.": "A boat.",
    "<think>a</think> one <think>b</think> two": "one  two",
    "<think>all of it</think>": "<think>all of it</think>",
    "<think>it never ends": "<think>it never ends",
    "It may be.</think>": "It may be.</think>",
    '```json\n{"combined_caption_english": "A boat\\u2019s bow."}\n```': "A boat\u2019s bow.",
    '{"result": {"combined_caption_english": "Nested."}}': "Nested.",
    '{"combined_caption_english": "Cut in a wo': "Cut in a wo",
    '{"combined_caption_english" : "Cut in an escape \\u00': "Cut in an escape \\u00",
    '{"combined_caption_english": "Cut \\': "Cut",
    '{"combined_caption_english": "a \\"quoted\\" word", "other": [1': 'a "quoted" word',
    '{"combined_caption_english": 7}': '{"combined_caption_english": 7}',
    '{"caption": "another key"}': '{"caption": "another key"}',
    "": "",
}

TEXTS = [
    "A woman says: \"It's far, isn't IT'S?\"\n\n  Then they'll leave.",
    "15 minutes, 3.14 and \u0661\u0662 \u00bd",
    "naïve cafe\u0301 \u212b \u01c4 — 你好世界 🙂👍🏽 ","tabs\tand\r\nline ends \n \n  x", "   leading", "trailing   ", " ", "", "\u00a0nbsp\u2003em\u3000wide",
    "don't DON'T don\u2019t 'x' ''s '\u017f 'LL we'RE", "a_b-c/d\\e (f) [g] {h} <i> !!! ...\n!!\r\n", "<|im_start|>user\nHi<|im_end|>\n<tool_call>{}</tool_call>",
    "<|im_start", "x<|endoftext|>e\u0301", "\u0301alone", "हिन्दी ไทย العربية", "\U0001d518\U0001d52b", "\x00\x01\x7f\x85",
]  # fmt: skip


def text_cases() -> None:
    tokenizer = Tokenizer.from_file(str(MODELS / FAMILIES["qwen25"] / "tokenizer.json"))
    rng = random.Random(5)
    pool = [" ", " ", "\n", "\r", "\t", "'", "s", "T", "re", "a", "Zz", "é", "e\u0301", "7", "\u0663", "-", "...", "\u3000", "你", "🙂", "_"]  # fmt: skip
    texts = TEXTS + ["".join(rng.choices(pool, k=rng.randint(2, 14))) for _ in range(150)]
    cases = []
    for text in texts:
        ids = tokenizer.encode(text).ids
        cases.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)})
    path = ROOT / "tokenizer" / "byte-level.json"
    path.write_text(json.dumps(cases, ensure_ascii=True, separators=(",", ":")) + "\n", encoding="utf-8")

    def write(name: str, request: dict, pairs: list[tuple[str, str]], what: str) -> None:
        def encoded(texts: list[str]) -> torch.Tensor:
            rows = [list(text.encode()) for text in texts]
            longest = max(map(len, rows))
            return torch.tensor([row + [-1] * (longest - len(row)) for row in rows])

        expected = {"text": encoded([a for a, _ in pairs]), "caption": encoded([b for _, b in pairs])}
        args = ["--captioner-model", f"{{root}}/models/{FAMILIES['qwen25']}"]
        write_case("caption-text", name, {}, expected, source=SOURCE, args=args, exact=["text", "caption"], what=what)
        folder = ROOT / "caption-text" / name
        (folder / "inputs.safetensors").unlink()
        (folder / "request.json").write_text(json.dumps(request, indent=1) + "\n", encoding="utf-8")
        case = json.loads((folder / "case.json").read_text())
        case["inputs"] = "request.json"
        (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n", encoding="utf-8")

    write("answers", {"texts": list(ANSWERS)}, list(ANSWERS.items()), "answers in all forms")
    ids = [tokenizer.encode(text).ids for text in (TEXTS[2], TEXTS[11], "cut 🙂")]
    ids.append(ids[2][:-1])  # a character that lacks its last byte
    decoded = [tokenizer.decode(row, skip_special_tokens=True) for row in ids]
    write("decoding", {"ids": ids}, [(text, text.strip()) for text in decoded], "ids to text, one cut in a character")


def make() -> None:
    text_cases()
    for family in FAMILIES:
        logits_cases(family)
        generate_cases(family)


if __name__ == "__main__":
    torch.set_num_threads(1)
    make()
