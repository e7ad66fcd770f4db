"""Fixtures of the video VAE."""

import torch

import vae_reference
from fixtures import MODELS, agree, generator, origin, read_checkpoint, write_case
from second_opinion import diffusers_vae


def arguments(model: str) -> list[str]:
    return ["--model", f"{{root}}/models/{model}.safetensors"]


TILED = "tiles on the latent grid as ltx-core makes them since 1.2.0, put together from the pieces of 1.0.0"


def pixels(name: str, *shape: int) -> torch.Tensor:
    """Smooth in time and space with some noise, in [-1, 1]: what a clip looks like to the encoder."""
    rng = generator(f"pixels/{name}")
    coarse = torch.randn(shape[0], shape[1], (shape[2] + 7) // 4, shape[3] // 8, shape[4] // 8, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, size=shape[2:], mode="trilinear", align_corners=True)
    return (0.6 * smooth + 0.2 * torch.randn(shape, generator=rng)).clamp(-1, 1)


@torch.no_grad()
def make() -> None:
    checkpoints = {name: read_checkpoint(MODELS / f"{name}.safetensors") for name in ("ltx2_vae", "ltx23_vae", "vae_variants")}
    second = diffusers_vae(*checkpoints["ltx2_vae"])

    def encode(name, shape, tile=None, dtype="float32", model="ltx2_vae"):
        checkpoint = checkpoints[model]
        inputs = {"pixels": pixels(name, *shape)}
        if tile is not None:
            inputs["tile"] = torch.tensor(tile)
        expected = vae_reference.encode(checkpoint, inputs, torch.float32)
        opinion = None
        if model == "ltx2_vae" and tile is None and (shape[2] - 1) % 8 == 0:
            other = {"latent": second.encode(inputs["pixels"])}
            opinion = agree(f"video-vae-encode/{name}", "diffusers", other, expected, 2e-5)
        options = {"tolerance": 2e-5}
        if dtype == "bfloat16":
            options = {"float32": expected, "dtype": dtype}
            expected, opinion = vae_reference.encode(checkpoint, inputs, torch.bfloat16), None
        write_case(
            "video-vae-encode", name, inputs, expected, args=arguments(model), source=origin("ltx-core"),
            second_opinion=opinion, what=TILED if tile else "", **options,
        )  # fmt: skip

    def decode(name, shape, tile=None, dtype="float32", model="ltx2_vae"):
        checkpoint = checkpoints[model]
        inputs = {"latent": torch.randn(shape, generator=generator(f"latent/{name}"))}
        if tile is not None:
            inputs["tile"] = torch.tensor(tile)
        expected = vae_reference.decode(checkpoint, inputs, torch.float32)
        opinion = None
        if model == "ltx2_vae" and tile is None:
            other = {"pixels": second.decode(inputs["latent"])}
            opinion = agree(f"video-vae-decode/{name}", "diffusers", other, expected, 2e-5)
        options = {"tolerance": 2e-5}
        if dtype == "bfloat16":
            options = {"float32": expected, "dtype": dtype}
            expected, opinion = vae_reference.decode(checkpoint, inputs, torch.bfloat16), None
        write_case(
            "video-vae-decode", name, inputs, expected, args=arguments(model), source=origin("ltx-core"),
            second_opinion=opinion, what=TILED if tile else "", **options,
        )  # fmt: skip

    encode("image", (2, 3, 1, 32, 64))
    encode("9x32x64", (1, 3, 9, 32, 64))
    encode("11_frames_cropped_to_9", (1, 3, 11, 32, 32))
    encode("image_bf16", (1, 3, 1, 64, 64), dtype="bfloat16")
    encode("tiled_space", (1, 3, 1, 160, 128), tile=[[24, 16], [128, 64], [96, 64]])
    encode("tiled_time", (1, 3, 33, 32, 32), tile=[[24, 16], [96, 64], [96, 64]])

    decode("image", (2, 6, 1, 2, 3))
    decode("9x64x64", (1, 6, 2, 2, 2))
    decode("image_bf16", (1, 6, 1, 2, 2), dtype="bfloat16")
    decode("tiled_space", (1, 6, 1, 4, 3), tile=[[24, 8], [96, 32], [64, 32]])
    decode("tiled_time", (1, 6, 3, 2, 2), tile=[[16, 8], [96, 32], [96, 32]])

    def decode_with_noise(name, shape, timestep=None):
        rng = generator(f"latent/{name}")
        inputs = {"latent": torch.randn(shape, generator=rng)}
        if timestep is not None:
            inputs["timestep"] = torch.tensor([timestep])
        expected = vae_reference.decode_with_noise(checkpoints["vae_variants"], inputs, rng)
        write_case(
            "video-vae-decode", name, inputs, expected, args=arguments("vae_variants"), source=origin("ltx-core"),
            tolerance=2e-5, what="timestep-conditioned and causal, with noise between the layers",
        )  # fmt: skip

    encode("ltx23_9x32x64", (1, 3, 9, 32, 64), model="ltx23_vae")
    encode("variants_17x32x64", (1, 3, 17, 32, 64), model="vae_variants")
    decode("ltx23_one_row", (2, 6, 2, 1, 2), model="ltx23_vae")
    decode("ltx23_image_bf16", (1, 6, 1, 2, 2), dtype="bfloat16", model="ltx23_vae")
    decode_with_noise("timestep", (2, 6, 2, 2, 3))
    decode_with_noise("timestep_0.4_image", (1, 6, 1, 1, 2), 0.4)
