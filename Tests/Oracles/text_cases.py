"""Fixtures of the text side: Gemma 3 with the 2.0 feature extractor, and the connectors."""

import torch

import text_reference
from checkpoints import GEMMA_WIDTH
from fixtures import MODELS, agree, generator, origin, read_checkpoint, write_case
from second_opinion import diffusers_connector

MODEL = ["--model", "{root}/models/ltx2_transformer.safetensors"]
GEMMA = MODEL + ["--text-encoder", "{root}/models/gemma3"]


def mask(lengths: list[int], size: int) -> torch.Tensor:
    """Left-padded rows of these lengths."""
    return (torch.arange(size) >= size - torch.tensor(lengths)[:, None]).long()


@torch.no_grad()
def make_text_encoder() -> None:
    checkpoint = read_checkpoint(MODELS / "ltx2_transformer.safetensors")

    def case(name, lengths, size, dtype="float32", what=""):
        rng = generator(f"text-encoder/{name}")
        valid = mask(lengths, size)
        ids = torch.randint(3, 290, valid.shape, generator=rng) * valid
        for row, length in enumerate(lengths):
            ids[row, size - length] = 2  # <bos>
        inputs = {"ids": ids, "mask": valid}
        results = {}
        for kind in {torch.float32, torch.bfloat16 if dtype == "bfloat16" else torch.float32}:
            gemma = text_reference.load_gemma(MODELS / "gemma3", kind)
            processor = text_reference.load_processor(checkpoint, kind, features=True)
            results[kind] = text_reference.text_encoder(gemma, processor, inputs)
        options = {"tolerance": 1e-4}
        if dtype == "bfloat16":
            options = {"dtype": dtype, "float32": results[torch.float32]}
        expected = results[torch.bfloat16 if dtype == "bfloat16" else torch.float32]
        source = origin("transformers", "ltx-core")
        write_case("text-encoder", name, inputs, expected, args=GEMMA, source=source, what=what, **options)

    case("batch", [40, 23, 9], 48, what="longer than the window of 16; three lengths")
    case("no_padding", [37], 37, what="longer than the window, not a multiple of anything")
    case("one_token", [1], 24, what="an empty prompt: <bos> alone")
    case("batch_bf16", [40, 12], 40, dtype="bfloat16")


@torch.no_grad()
def make_connectors() -> None:
    checkpoint = read_checkpoint(MODELS / "ltx2_transformer.safetensors")
    float32 = text_reference.load_processor(checkpoint, torch.float32, features=False)
    bfloat16 = text_reference.load_processor(checkpoint, torch.bfloat16, features=False)
    seconds = {s: diffusers_connector(*checkpoint, stream=s) for s in ("video", "audio")}

    def case(name, valid, dtype="float32", audio=False, what=""):
        rng = generator(f"connectors/{name}")
        shape = (*valid.shape, GEMMA_WIDTH)
        inputs = {"video_features": torch.randn(shape, generator=rng), "mask": valid}
        if audio:
            inputs["audio_features"] = torch.randn(shape, generator=rng)
        expected = text_reference.connectors(float32, inputs, torch.float32)
        additive = (valid - 1).float() * 1e9
        features = {"video": inputs["video_features"], "audio": inputs.get("audio_features", inputs["video_features"])}
        other = {f"{s}_context": seconds[s](features[s], additive[:, None, None])[0] for s in seconds}
        opinion = agree(f"connectors/{name}", "diffusers", other, expected, 1e-4)
        options = {"tolerance": 1e-4}
        if dtype == "bfloat16":
            options, opinion = {"dtype": dtype, "float32": expected}, None
            expected = text_reference.connectors(bfloat16, inputs, torch.bfloat16)
        write_case(
            "connectors", name, inputs, expected, args=MODEL, source=origin("ltx-core"), what=what,
            exact=["context_mask"], second_opinion=opinion, **options,
        )  # fmt: skip

    case("batch", mask([90, 17, 1], 128), what="left-padded rows of three lengths")
    case("two_rounds_of_registers", mask([150], 256))
    case("no_padding", mask([128], 128), audio=True, what="no register is used; audio has features of its own")
    case("right_padding", mask([44, 101], 128).flip(1), what="1.0.0 expects left padding: its rows were moved there")
    case("batch_bf16", mask([77, 128], 128), dtype="bfloat16")
