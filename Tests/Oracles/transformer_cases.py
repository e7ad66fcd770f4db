"""Fixtures of the transformer: velocities, RoPE tables, LoRA gradients and sampling."""

import torch
from safetensors.torch import load_file

import reference
import small_cases
from fixtures import MODELS, agree, generator, origin, read_checkpoint, write_case
from second_opinion import diffusers_transformer
from second_opinion import transformer as second_transformer

EQUAL = (
    "every sigma and timestep of both streams is equal: with others, 1.0.0 takes the cross-modal "
    "scale and shift from the other stream's sigma, which later versions do not"
)
RECOMBINED = (
    "unequal sigmas: the modules are 1.0.0's, but the cross-modal scale and shift are given the stream's own "
    "timesteps, as ltx-core does since 1.2.0"
)


def arguments(model: str, *loras: str) -> list[str]:
    args = ["--model", f"{{root}}/models/{model}.safetensors"]
    for lora in loras:
        args += ["--lora", f"{{root}}/models/{lora}"]
    return args


class Draw:
    """Random inputs for a configuration; every draw comes from the case's own generator."""

    def __init__(self, name: str, config: dict, batch: int, grid=(3, 2, 3), audio_frames=11, text=9):
        self.rng, self.batch, self.grid, self.audio_frames, self.text = generator(name), batch, grid, audio_frames, text
        t = config["transformer"]
        self.channels = {"video": t["in_channels"], "audio": t["audio_in_channels"]}
        # 2.0 projects contexts to the streams' widths inside, 2.3 takes them so.
        widths = {"video": t["cross_attention_dim"], "audio": t["audio_cross_attention_dim"]}
        is_projected = t.get("caption_proj_before_connector", False)
        self.context = widths if is_projected else dict.fromkeys(widths, t["caption_channels"])
        self.tokens = {"video": grid[0] * grid[1] * grid[2], "audio": audio_frames}

    def normal(self, *shape):
        return torch.randn(shape, generator=self.rng)

    def positions(self, stream):
        shape = {"video_shape": torch.tensor([self.batch, 1, *self.grid]), "fps": torch.tensor([25.0])}
        shape["audio_frames"] = torch.tensor([self.audio_frames])
        return small_cases.positions(shape)[f"{stream}_positions"].clone()

    def stream(self, stream, sigma, timesteps=None):
        """`sigma` [B]; `timesteps` [B,T], all of them `sigma` when left out."""
        count = self.tokens[stream]
        sigma = torch.tensor(sigma)
        return {
            f"{stream}.latent": self.normal(self.batch, count, self.channels[stream]),
            f"{stream}.timesteps": sigma[:, None].repeat(1, count) if timesteps is None else timesteps,
            f"{stream}.sigma": sigma,
            f"{stream}.positions": self.positions(stream),
            f"{stream}.context": self.normal(self.batch, self.text, self.context[stream]),
        }

    def conditioned(self, stream, sigma):
        """Timesteps of a sample whose tokens are partly conditioned."""
        share = torch.rand(self.batch, self.tokens[stream], generator=self.rng)
        share = torch.where(share < 0.3, torch.zeros(()), torch.where(share > 0.6, torch.ones(()), share))
        return share * torch.tensor(sigma)[:, None]


def checkpoint_of(name: str) -> tuple:
    return read_checkpoint(MODELS / f"{name}.safetensors")


@torch.no_grad()
def make_transformer() -> None:
    models = ("ltx2_transformer", "ltx2_interleaved", "ltx23_transformer", "ltx23_bias_free")
    checkpoints = {name: checkpoint_of(name) for name in models}

    def case(name, inputs, model="ltx2_transformer", loras=(), follow=False, dtype="float32", second=False, what=""):
        tensors, config = checkpoints[model]
        pairs = [(load_file(MODELS / file), strength) for file, strength in loras]
        tensors = reference.add_loras(tensors, pairs)
        results = {}
        for kind in {"float32", dtype}:
            module = reference.load_transformer((tensors, config), reference.DTYPES[kind])
            if follow:
                module = reference.follow_1_2_0(module)
            results[kind] = reference.transformer(module, inputs, reference.DTYPES[kind])
        opinion = None
        if second:
            scale = config["transformer"]["timestep_scale_multiplier"]
            other = second_transformer(diffusers_transformer(tensors, config), inputs, scale)
            opinion = agree(f"transformer/{name}", "diffusers", other, results["float32"], 1e-4)
        options = {"dtype": dtype, "float32": results["float32"]} if dtype == "bfloat16" else {"tolerance": 1e-4}
        args = arguments(model, *(f"{file}:{strength}" for file, strength in loras))
        write_case(
            "transformer", name, inputs, results[dtype], args=args, source=origin("ltx-core"),
            what=what or (RECOMBINED if follow else ""), second_opinion=opinion, **options,
        )  # fmt: skip

    def both(name, model="ltx2_transformer", sigma=(0.7, 0.25), batch=2, **shape):
        draw = Draw(f"transformer/{name}", checkpoints[model][1], batch, **shape)
        return draw, draw.stream("video", list(sigma)) | draw.stream("audio", list(sigma))

    config = checkpoints["ltx2_transformer"][1]
    draw = Draw("transformer/video_only", config, 2)
    timesteps = draw.conditioned("video", [0.8, 0.35])
    video_only = draw.stream("video", [0.8, 0.35], timesteps)
    case("video_only", video_only, what="timesteps differ by token")

    draw = Draw("transformer/audio_only", config, 2)
    case("audio_only", draw.stream("audio", [0.6, 0.9], draw.conditioned("audio", [0.6, 0.9])))

    case("joint", both("joint")[1], second=True, what=EQUAL)
    case("interleaved_joint", both("interleaved_joint", "ltx2_interleaved")[1], "ltx2_interleaved", second=True, what=EQUAL)
    case("few_tokens", both("few_tokens", batch=1, sigma=(0.4,), grid=(1, 1, 1), audio_frames=1, text=1)[1], what=EQUAL)

    draw, inputs = both("masks")
    for stream in reference.STREAMS:
        lengths = torch.tensor([[9], [4]])
        inputs[f"{stream}.context_mask"] = (torch.arange(9)[None] < lengths).long()
    soft = torch.rand(2, 18, 18, generator=draw.rng)
    soft = torch.where(soft < 0.3, torch.zeros(()), torch.where(soft > 0.7, torch.ones(()), soft))
    soft.diagonal(dim1=1, dim2=2).fill_(1)
    inputs["video.self_attention_mask"] = soft
    case("masks", inputs, what=f"context masks, and a soft self-attention mask with zeros; {EQUAL}")

    draw, inputs = both("audio_disabled")
    case("audio_disabled", inputs | {"audio.enabled": torch.tensor([0])}, what=EQUAL)
    draw, inputs = both("video_disabled")
    case("video_disabled", inputs | {"video.enabled": torch.tensor([0])}, what=EQUAL)

    draw, inputs = both("skip_self_attention_row1")
    skip = {"skip.video_self_attn": [0, 2], "skip.audio_self_attn": [1], "skip.rows": [0, 1]}
    case("skip_self_attention_row1", inputs | {k: torch.tensor(v) for k, v in skip.items()}, what=EQUAL)
    draw, inputs = both("skip_cross")
    skip = {"skip.a2v": [0, 1], "skip.v2a": [1, 2]}
    case("skip_cross", inputs | {k: torch.tensor(v) for k, v in skip.items()}, what=EQUAL)

    case("lora", both("lora")[1], loras=[("lora_all.safetensors", 0.75)], what=f"one LoRA; {EQUAL}")

    draw = Draw("transformer/joint_unequal", config, 2)
    inputs = draw.stream("video", [0.7, 0.25], draw.conditioned("video", [0.7, 0.25]))
    inputs |= draw.stream("audio", [0.4, 0.9], draw.conditioned("audio", [0.4, 0.9]))
    case("joint_unequal_sigmas", inputs, follow=True)
    draw = Draw("transformer/interleaved_unequal", checkpoints["ltx2_interleaved"][1], 1, grid=(2, 3, 2))
    inputs = draw.stream("video", [0.55], draw.conditioned("video", [0.55])) | draw.stream("audio", [0.95])
    case("interleaved_unequal_sigmas", inputs, "ltx2_interleaved", follow=True)

    def unequal(name, model):
        draw = Draw(f"transformer/{name}", checkpoints[model][1], 2)
        inputs = draw.stream("video", [0.7, 0.25], draw.conditioned("video", [0.7, 0.25]))
        return inputs | draw.stream("audio", [0.4, 0.9], draw.conditioned("audio", [0.4, 0.9]))

    case("ltx23_joint", both("ltx23_joint", "ltx23_transformer")[1], "ltx23_transformer", what=EQUAL)
    case("ltx23_unequal_sigmas", unequal("ltx23_unequal_sigmas", "ltx23_transformer"), "ltx23_transformer", follow=True)
    only = unequal("ltx23_only", "ltx23_transformer")
    for stream in reference.STREAMS:
        inputs = {key: value for key, value in only.items() if key.startswith(stream)}
        case(f"ltx23_{stream}_only", inputs, "ltx23_transformer")
    draw, inputs = both("ltx23_skip", "ltx23_transformer")
    skip = {"skip.video_self_attn": [1], "skip.audio_self_attn": [0], "skip.a2v": [0], "skip.v2a": [1], "skip.rows": [1, 0]}
    inputs |= {k: torch.tensor(v) for k, v in skip.items()}
    case("ltx23_skip", inputs, "ltx23_transformer", what=f"skipped attention is gated all the same; {EQUAL}")
    case("ltx23_bias_free", unequal("ltx23_bias_free", "ltx23_bias_free"), "ltx23_bias_free", follow=True,
         what="feed-forward layers without biases: 1.0.0 with biases of zero")  # fmt: skip
    case("ltx23_joint_bf16", both("ltx23_joint_bf16", "ltx23_transformer")[1], "ltx23_transformer", dtype="bfloat16", what=EQUAL)

    case("joint_bf16", both("joint_bf16")[1], dtype="bfloat16", what=EQUAL)
    case("video_only_bf16", video_only, dtype="bfloat16")


def make_rope() -> None:
    why = (
        "phases reach thousands of radians, where one float32 unit is 1e-3: a grid rounded in another place moves "
        "the highest frequencies by that much"
    )
    for model in ("ltx2_transformer", "ltx2_interleaved"):
        config = checkpoint_of(model)[1]
        draw = Draw(f"rope/{model}", config, 2, grid=(4, 3, 5), audio_frames=17)
        for stream, name, positions in (
            (0, "video", draw.positions("video")),
            (1, "audio", draw.positions("audio")),
            (2, "cross", draw.positions("video")[:1, :1]),
        ):
            inputs = {"positions": positions, "stream": torch.tensor([stream])}
            expected = reference.rope(config, inputs)
            write_case(
                "rope", f"{model.removeprefix('ltx2_')}_{name}", inputs, expected, args=arguments(model),
                source=origin("ltx-core"), tolerance=2e-3, why=why,
            )  # fmt: skip


def make_lora_gradients() -> None:
    checkpoint = checkpoint_of("ltx2_transformer")

    def case(name, lora, strength, inputs, dtype="float32", follow=False, what=""):
        results = {}
        for kind in {"float32", dtype}:
            model = reference.load_transformer(checkpoint, reference.DTYPES[kind])
            if follow:
                model = reference.follow_1_2_0(model)
            weights = load_file(MODELS / f"{lora}.safetensors")
            results[kind] = reference.lora_gradients(model, weights, strength, inputs, reference.DTYPES[kind])
        options = {"dtype": dtype, "float32": results["float32"]} if dtype == "bfloat16" else {"tolerance": 1e-4}
        args = arguments("ltx2_transformer", f"{lora}.safetensors:{strength:g}")
        write_case(
            "lora-gradients", name, inputs, results[dtype], args=args, source=origin("ltx-core", "peft"),
            what=what, **options,
        )  # fmt: skip

    def with_target(draw, inputs, stream, count=None):
        count = count or draw.tokens[stream]
        mask = (torch.rand(draw.batch, draw.tokens[stream], generator=draw.rng) > 0.25).long()
        mask[:, -1] = 1
        target = draw.normal(draw.batch, count, draw.channels[stream])
        return inputs | {f"{stream}.target": target, f"{stream}.loss_mask": mask}

    def video_only(name, count=None):
        draw = Draw(f"lora-gradients/{name}", checkpoint[1], 2)
        inputs = draw.stream("video", [0.8, 0.35], draw.conditioned("video", [0.8, 0.35]))
        inputs["video.context_mask"] = torch.ones(2, draw.text, dtype=torch.long)
        return with_target(draw, inputs, "video", count)

    def joint(name, video, audio):
        draw = Draw(f"lora-gradients/{name}", checkpoint[1], 2)
        inputs = draw.stream("video", video) | draw.stream("audio", audio)
        return with_target(draw, with_target(draw, inputs, "video"), "audio")

    case("video_only", "lora_video", 1.0, video_only("video_only"))
    case("video_only_reference", "lora_video", 1.0, video_only("video_only_reference", 12),
         what="a target shorter than the sequence: the loss takes the last tokens")  # fmt: skip
    case("joint", "lora_all", 2.0, joint("joint", [0.6, 0.3], [0.6, 0.3]), what=EQUAL)
    case("joint_unequal_sigmas", "lora_all", 1.0, joint("joint_unequal_sigmas", [0.6, 0.3], [0.9, 0.15]),
         follow=True, what=RECOMBINED)  # fmt: skip
    case("video_only_bf16", "lora_video", 1.0, video_only("video_only_bf16"), dtype="bfloat16")


@torch.no_grad()
def make_denoise() -> None:
    checkpoints = {name: checkpoint_of(name) for name in ("ltx2_transformer", "ltx23_transformer")}

    def case(name, inputs, follow=False, dtype="float32", what="", model="ltx2_transformer"):
        checkpoint, results = checkpoints[model], {}
        for kind in {"float32", dtype}:
            module = reference.load_transformer(checkpoint, reference.DTYPES[kind])
            if follow:
                module = reference.follow_1_2_0(module)
            results[kind] = reference.denoise(module, inputs, reference.DTYPES[kind])
        options = {"dtype": dtype, "float32": results["float32"]} if dtype == "bfloat16" else {"tolerance": 1e-4}
        write_case(
            "denoise", name, inputs, results[dtype], args=arguments(model),
            source=origin("ltx-core"), what=what, **options,
        )  # fmt: skip

    def start(name, *streams, steps=4, batch=1, model="ltx2_transformer", **numbers):
        draw = Draw(f"denoise/{name}", checkpoints[model][1], batch)
        inputs = small_cases.sigmas({"kind": torch.tensor([0]), "steps": torch.tensor([steps])})
        for s in streams:
            inputs |= {
                f"{s}.noise": draw.normal(batch, draw.tokens[s], draw.channels[s]),
                f"{s}.positions": draw.positions(s),
                f"{s}.context": draw.normal(batch, draw.text, draw.context[s]),
                f"{s}.negative_context": draw.normal(batch, draw.text, draw.context[s]),
            }
            for key, value in numbers.items():
                inputs[f"{s}.{key}"] = torch.tensor([value])
        return draw, inputs

    def condition(draw, inputs, stream, strength):
        """The first frame's tokens are given, with `strength`."""
        first = draw.grid[1] * draw.grid[2] if stream == "video" else 3
        mask = torch.ones(draw.batch, draw.tokens[stream])
        mask[:, :first] = 1 - strength
        clean = torch.zeros_like(inputs[f"{stream}.noise"])
        clean[:, :first] = draw.normal(draw.batch, first, draw.channels[stream])
        return inputs | {f"{stream}.clean": clean, f"{stream}.denoise_mask": mask}

    case("video_cfg", start("video_cfg", "video", cfg=3.0)[1])
    case("video_cfg_batch", start("video_cfg_batch", "video", steps=2, batch=2, cfg=4.0, rescale=0.5)[1],
         what="the rescale factor is taken over the whole batch")  # fmt: skip
    draw, inputs = start("video_image_stg", "video", cfg=2.5, stg=1.0, rescale=0.7)
    inputs["stg_blocks"] = torch.tensor([1])
    case("video_image_stg", condition(draw, inputs, "video", 0.9), what="a given first frame at strength 0.9")

    def full_guidance(name, model, blocks):
        guidance = {"stg": 1.0, "modality": 3.0, "rescale": 0.7}
        draw, inputs = start(name, "video", "audio", model=model, **guidance)
        cfg = {"video.cfg": torch.tensor([3.0]), "audio.cfg": torch.tensor([7.0])}
        return draw, inputs | cfg | {"stg_blocks": torch.tensor(blocks)}

    alike = "both streams share sigma, nothing is conditioned: 1.0.0 is as later versions"
    case("joint_full_guidance", full_guidance("joint_full_guidance", "ltx2_transformer", [0, 2])[1], what=alike)
    name, model = "ltx23_joint_full_guidance", "ltx23_transformer"
    case(name, full_guidance(name, model, [1])[1], what=alike, model=model)
    name = "ltx23_joint_image_full_guidance"
    draw, inputs = full_guidance(name, model, [0])
    inputs = condition(draw, condition(draw, inputs, "video", 0.9), "audio", 1.0)
    case(name, inputs, follow=True, what=RECOMBINED, model=model)
    draw, inputs = start("joint_image", "video", "audio", steps=3, cfg=3.0)
    case("joint_image", condition(draw, inputs, "video", 1.0), follow=True, what=RECOMBINED)
    case("video_cfg_bf16", start("video_cfg_bf16", "video", steps=3, cfg=2.0)[1], dtype="bfloat16")
