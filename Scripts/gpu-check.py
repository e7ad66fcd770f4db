#!/usr/bin/env python3
"""The files and comparisons of Scripts/gpu-check, with nothing but Python's standard library.

    gpu-check.py cache CHECKPOINT FOLDER WxHxF [TOKENS]  a cache of three random samples for CHECKPOINT, with
                                                  texts of TOKENS tokens; default 1024
    gpu-check.py model TINY FOLDER [--small]      LTX-2.3 of random numbers at its real size, from the
                                                  folder of `ltx tiny-model`
    gpu-check.py text-encoder TINY FOLDER [--small]  the same for Gemma 3
    gpu-check.py doctor FILE [--without-ffmpeg]   JSON lines from the output of `ltx doctor --json`
    gpu-check.py compare NAME A B TOLERANCE       compares two runs' metrics.jsonl
    gpu-check.py steps NAME FOLDER LOG            the step times and the peak of a run

Comparisons and steps print one JSON object, and end with status 1 if they fail.
"""
import json
import math
import os
import re
import shutil
import struct
import sys

SIZES = {"BF16": 2, "F32": 4, "F64": 8, "I64": 8}


# --- Files of tensors -------------------------------------------------------------------------------


def header(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length))


def random_bits(byte_count, exponent):
    """Random signs and fractions, with an exponent of two neighbors, as bfloat16; read as float32 they are
    such numbers too. All bits that may differ do, because a GPU draws less power for zeros."""
    random = os.urandom(byte_count)
    signs = bytes(exponent | (value & 0x80) for value in range(256))
    data = bytearray(random)
    data[1::2] = random[1::2].translate(signs)
    return data


def write_tensors(path, tensors, metadata, exponent=0x3C):
    """Writes a safetensors file. A tensor is (shape, dtype), of random numbers, or (shape, dtype, bytes).

    With exponent 0x3C, random numbers have magnitudes between 2^-7 and 2^-5, so that layers of some thousand
    inputs neither grow nor vanish; with 0x3F, between 0.5 and 2."""
    entries, offset = {"__metadata__": metadata}, 0
    order = sorted(tensors, key=lambda name: (-SIZES[tensors[name][1]], name))
    for name in order:
        shape, dtype = tensors[name][:2]
        end = offset + math.prod(shape) * SIZES[dtype]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    block = random_bits(min(offset + offset % 2, 1 << 26), exponent)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for start in range(0, offset, len(block)):
            file.write(block[: min(len(block), offset - start)])
        for name in order:
            if len(tensors[name]) > 2:
                file.seek(8 + len(text) + entries[name]["data_offsets"][0])
                file.write(tensors[name][2])


# --- A cache ----------------------------------------------------------------------------------------


def make_cache(checkpoint, folder, size, tokens=1024):
    tokens = int(tokens)
    width, height, frames = map(int, size.split("x"))
    config = json.loads(header(checkpoint)["__metadata__"]["config"])["transformer"]
    grid = ((frames - 1) // 8 + 1, height // 32, width // 32)
    steps = max(1, frames * 25 // 24)
    widths = {
        "video": config["num_attention_heads"] * config["attention_head_dim"],
        "audio": config["audio_num_attention_heads"] * config["audio_attention_head_dim"],
    }
    number = lambda value: ([1], "I64", struct.pack("<q", value))
    seconds = lambda value: ([1], "F64", struct.pack("<d", value))
    for name in ("latents", "audio_latents", "conditions"):
        os.makedirs(f"{folder}/{name}", exist_ok=True)
    for index in range(3):
        file = f"clip-{index}.safetensors"
        latents = {
            "latents": ((config["in_channels"],) + grid, "BF16"), "num_frames": number(grid[0]),
            "height": number(grid[1]), "width": number(grid[2]), "fps": seconds(24.0),
        }
        write_tensors(f"{folder}/latents/{file}", latents, {}, exponent=0x3F)
        audio = {
            "latents": ((config["audio_in_channels"] // 16, steps, 16), "F32"), "num_time_steps": number(steps),
            "frequency_bins": number(16), "duration": seconds(steps / 25),
        }
        write_tensors(f"{folder}/audio_latents/{file}", audio, {}, exponent=0x3F)
        text = {f"{modality}_prompt_embeds": ((tokens, width), "BF16") for modality, width in widths.items()}
        text["prompt_attention_mask"] = ((tokens,), "I64", struct.pack(f"<{tokens}q", *[1] * tokens))
        write_tensors(f"{folder}/conditions/{file}", text, {}, exponent=0x3F)


# --- A model ----------------------------------------------------------------------------------------


class Sizes:
    """The sizes of LTX-2.3 and Gemma 3, or small ones for a dry run. `heads` and `width` multiply the tiny
    model's number of heads and their width."""

    def __init__(self, small, tiny):
        self.heads, self.width = (1, 2) if small else (8, 4)
        self.blocks, self.connector_blocks = (2, 1) if small else (48, 8)
        self.latent_channels, self.vae_channels = (tiny["in_channels"], 8) if small else (128, 128)
        self.audio_channels = tiny["audio_in_channels"] if small else 128
        self.features = None if small else 188160  # 49 hidden states of Gemma 3, 3840 wide
        self.gemma = dict(
            hidden_size=3840, intermediate_size=15360, num_attention_heads=16, num_hidden_layers=48,
            num_key_value_heads=8, head_dim=256, query_pre_attn_scalar=256, vocab_size=262208, sliding_window=1024)
        if small:
            self.gemma.update(hidden_size=64, intermediate_size=128, num_attention_heads=2, num_hidden_layers=2,
                              num_key_value_heads=1, head_dim=32, query_pre_attn_scalar=32)

    @property
    def factor(self):
        return self.heads * self.width


def transformer_shape(key, shape, sizes):
    """The shape of a tensor whose shape in the tiny model is `shape`."""
    factor, rest = sizes.factor, shape[1:]
    if "text_embedding_projection" in key:
        return [shape[0] * factor] + ([sizes.features or shape[1]] if rest else [])
    if "to_gate_logits" in key:  # one row per head
        return [shape[0] * sizes.heads] + ([shape[1] * factor] if rest else [])
    if "learnable_registers" in key or "table" in key:
        return [shape[0], shape[1] * factor]
    channels = sizes.audio_channels if "audio_" in key else sizes.latent_channels
    if "patchify_proj" in key:
        return [shape[0] * factor] + ([channels] if rest else [])
    if re.search(r"(^|[._])proj_out\.", key) and "blocks" not in key:
        return [channels] + ([shape[1] * factor] if rest else [])
    if "linear_1.weight" in key:  # from the embedding of a timestep, whose width is fixed
        return [shape[0] * factor, shape[1]]
    return [extent * factor for extent in shape]


def transformer(tiny, sizes):
    tensors = {}
    for key, entry in tiny.items():
        if not key.startswith(("model.diffusion_model", "text_embedding")):
            continue
        shape = transformer_shape(key, entry["shape"], sizes)
        match = re.match(r"(.*(transformer_blocks|transformer_1d_blocks)\.)(\d+)(\..*)", key)
        if not match:
            tensors[key] = (shape, entry["dtype"])
        elif match[3] == "0":  # every block has the shapes of the first
            count = sizes.blocks if match[2] == "transformer_blocks" else sizes.connector_blocks
            for index in range(count):
                tensors[f"{match[1]}{index}{match[4]}"] = (shape, entry["dtype"])
    return tensors


ENCODER = [("res_x", 4), ("compress_space_res", 2), ("res_x", 6), ("compress_time_res", 2), ("res_x", 4),
           ("compress_all_res", 2), ("res_x", 2), ("compress_all_res", 1), ("res_x", 2)]
DECODER = [("res_x", 4), ("compress_space", 2), ("res_x", 6), ("compress_time", 2), ("res_x", 4),
           ("compress_all", 1), ("res_x", 2), ("compress_all", 2), ("res_x", 2)]
CELLS = {"space": 4, "time": 2, "all": 8}


def video_vae(sizes):
    """The tensors of the video VAE of LTX-2.3; blocks are listed from the pixels to the latent."""
    tensors = {}

    def convolution(name, outputs, inputs):
        tensors[f"{name}.conv.weight"] = ([outputs, inputs, 3, 3, 3], "BF16")
        tensors[f"{name}.conv.bias"] = ([outputs], "BF16")

    def residual(name, count, width):
        for layer in range(count):
            for index in (1, 2):
                convolution(f"{name}.res_blocks.{layer}.conv{index}", width, width)

    latent = width = sizes.latent_channels  # the encoder's first features have as many channels
    ones = struct.pack(f"<{latent}f", *[1.0] * latent)
    tensors["vae.per_channel_statistics.mean-of-means"] = ([latent], "F32")
    tensors["vae.per_channel_statistics.std-of-means"] = ([latent], "F32", ones)
    convolution("vae.encoder.conv_in", width, 48)
    for index, (kind, value) in enumerate(ENCODER):
        name = f"vae.encoder.down_blocks.{index}"
        if kind == "res_x":
            residual(name, value, width)
        else:
            convolution(f"{name}.conv", width * value // CELLS[kind.split("_")[1]], width)
            width *= value
    convolution("vae.encoder.conv_out", latent + 1, width)
    width = 8 * sizes.vae_channels
    convolution("vae.decoder.conv_in", width, latent)
    for index, (kind, value) in enumerate(reversed(DECODER)):
        name = f"vae.decoder.up_blocks.{index}"
        if kind == "res_x":
            residual(name, value, width)
        else:
            convolution(f"{name}.conv", CELLS[kind.split("_")[1]] * width // value, width)
            width //= value
    convolution("vae.decoder.conv_out", 48, width)
    return tensors


def gemma(c):
    width, inner, head = c["hidden_size"], c["intermediate_size"], c["head_dim"]
    queries, keys = c["num_attention_heads"] * head, c["num_key_value_heads"] * head
    layer = {
        "mlp.down_proj": [width, inner], "mlp.gate_proj": [inner, width], "mlp.up_proj": [inner, width],
        "self_attn.k_norm": [head], "self_attn.q_norm": [head], "self_attn.k_proj": [keys, width],
        "self_attn.v_proj": [keys, width], "self_attn.q_proj": [queries, width], "self_attn.o_proj": [width, queries],
    }
    for name in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
        layer[f"{name}_layernorm"] = [width]
    tensors = {
        "language_model.model.embed_tokens.weight": ([c["vocab_size"], width], "BF16"),
        "language_model.model.norm.weight": ([width], "BF16"),
    }
    for index in range(c["num_hidden_layers"]):
        for name, shape in layer.items():
            tensors[f"language_model.model.layers.{index}.{name}.weight"] = (shape, "BF16")
    return tensors


def make_model(tiny_folder, folder, small):
    tiny = header(f"{tiny_folder}/ltx-2.3-tiny.safetensors")
    metadata = tiny.pop("__metadata__")
    config = json.loads(metadata["config"])
    c = config["transformer"]
    sizes = Sizes(small, c)
    for key in c:
        if key.endswith("num_attention_heads"):
            c[key] *= sizes.heads
        elif key.endswith("attention_head_dim"):
            c[key] *= sizes.width
        elif key.endswith("cross_attention_dim"):
            c[key] *= sizes.factor
    c.update(num_layers=sizes.blocks, connector_num_layers=sizes.connector_blocks)
    c.update(in_channels=sizes.latent_channels, out_channels=sizes.latent_channels)
    c.update(audio_in_channels=sizes.audio_channels, audio_out_channels=sizes.audio_channels)
    if not small:
        c["caption_channels"] = sizes.gemma["hidden_size"]
    options = lambda kind, value: {"num_layers": value} if kind == "res_x" else {"multiplier": value}
    config["vae"].update(
        latent_channels=sizes.latent_channels, encoder_base_channels=sizes.latent_channels,
        decoder_base_channels=sizes.vae_channels,
        encoder_blocks=[[kind, options(kind, value)] for kind, value in ENCODER],
        decoder_blocks=[[kind, options(kind, value)] for kind, value in DECODER])
    for key in ("audio_vae", "vocoder"):
        config.pop(key, None)
    os.makedirs(folder, exist_ok=True)
    write_tensors(f"{folder}/ltx-2.3.safetensors", {**transformer(tiny, sizes), **video_vae(sizes)},
                  {"config": json.dumps(config), "model_version": metadata["model_version"]})


def make_text_encoder(tiny_folder, folder, small):
    tiny = json.loads(header(f"{tiny_folder}/ltx-2.3-tiny.safetensors")["__metadata__"]["config"])
    sizes = Sizes(small, tiny["transformer"])
    source = f"{tiny_folder}/gemma-3-tiny"
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(source):
        if "safetensors" not in name:
            shutil.copy(f"{source}/{name}", f"{folder}/{name}")
    with open(f"{folder}/config.json") as file:
        config = json.load(file)
    text = config.get("text_config", config)
    if small:
        sizes.gemma["vocab_size"] = text["vocab_size"]
    text.update(sizes.gemma)
    with open(f"{folder}/config.json", "w") as file:
        json.dump(config, file)
    write_tensors(f"{folder}/model.safetensors", gemma(sizes.gemma), {"format": "pt"})


# --- Results ----------------------------------------------------------------------------------------


def metrics(folder):
    with open(f"{folder}/metrics.jsonl") as file:
        lines = [json.loads(line) for line in file if line.strip()]
    return {line["step"]: line for line in lines if "loss" in line}


def finish(result):
    print(json.dumps(result))
    sys.exit(0 if result["ok"] else 1)


def compare(name, a, b, tolerance):
    """Every step of `b` must have the loss and the gradient norm of `a`; norms may differ 20 times as much,
    as in the tests."""
    a, b, tolerance = metrics(a), metrics(b), float(tolerance)
    differences = {}
    for key, factor in (("loss", 1), ("gradient_norm", 20)):
        differences[key] = max(abs(a[step][key] - b[step][key]) / abs(a[step][key]) / factor for step in b)
    ok = len(b) > 0 and all(difference <= tolerance for difference in differences.values())
    finish({"measurement": name, "ok": ok, "steps": len(b), "loss_difference": differences["loss"],
            "gradient_norm_difference": 20 * differences["gradient_norm"], "tolerance": tolerance})


def steps(name, folder, log):
    times = [line["seconds"] for line in metrics(folder).values()]
    losses = [line["loss"] for line in metrics(folder).values()]
    with open(log) as file:
        peak = re.search(r"peak GPU memory ([\d.]+) GB", file.read())
    ok = len(times) > 2 and peak is not None and all(math.isfinite(loss) for loss in losses)
    later = sorted(times[2:])  # the first steps allocate memory and choose kernels
    finish({"measurement": name, "ok": ok, "steps": len(times), "first_step_seconds": times[0] if times else None,
            "step_seconds": later[len(later) // 2] if later else None,
            "peak_bytes": round(float(peak[1]) * 1e9) if peak else None})


def doctor(path, without_ffmpeg):
    with open(path) as file:
        checks = json.load(file)["checks"]
    ok = True
    for check in checks:
        if check["name"] == "FFmpeg" and without_ffmpeg:
            continue
        print(json.dumps({"measurement": "doctor", **check}))
        ok = ok and check["status"] != "problem"
    sys.exit(0 if ok else 1)


def main(command, *arguments):
    flags = {argument for argument in arguments if argument.startswith("--")}
    arguments = [argument for argument in arguments if argument not in flags]
    if command == "cache":
        make_cache(*arguments)
    elif command == "model":
        make_model(*arguments, small="--small" in flags)
    elif command == "text-encoder":
        make_text_encoder(*arguments, small="--small" in flags)
    elif command == "doctor":
        doctor(*arguments, without_ffmpeg="--without-ffmpeg" in flags)
    elif command == "compare":
        compare(*arguments)
    elif command == "steps":
        steps(*arguments)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
