"""`ltx probe video-vae-encode` and `video-vae-decode`, carried out by ltx-core 1.0.0."""

import itertools
from unittest import mock

import torch
from ltx_core.model.video_vae.model_configurator import (
    VAE_DECODER_COMFY_KEYS_FILTER,
    VAE_ENCODER_COMFY_KEYS_FILTER,
    VideoDecoderConfigurator,
    VideoEncoderConfigurator,
)
from ltx_core.model.video_vae.tiling import (
    DEFAULT_MAPPING_OPERATION,
    DEFAULT_SPLIT_OPERATION,
    Tile,
    compute_trapezoidal_mask_1d,
    create_tiles,
)
from ltx_core.model.video_vae.video_vae import (
    make_mapping_operation,
    map_spatial_interval_to_pixel,
    map_temporal_interval_to_frame,
    split_temporal_latents,
    split_with_symmetric_overlaps,
)
from ltx_core.types import VIDEO_SCALE_FACTORS as SCALE

from reference import load_module, renamed

UNUSED = {f"per_channel_statistics.{k}" for k in ("channel", "mean-of-stds", "mean-of-stds_over_std-of-means")}


def load(checkpoint: tuple, configurator, rules, dtype: torch.dtype) -> torch.nn.Module:
    tensors, config = checkpoint
    with torch.device("meta"):
        module = configurator.from_config(config)
    state = {k: v for k, v in renamed(tensors, rules).items() if k not in UNUSED}
    return load_module(module, state, dtype)


def tiles(inputs: dict, latent_shape: tuple) -> list[Tile]:
    """Tiles cut on the latent grid, each axis with its own size; `in_coords` are latents, `out_coords` pixels.

    The pieces are 1.0.0's. It shrinks the tile of the shorter side itself and cuts pixels when encoding; sizes per
    axis and the same latent grid in both directions are what ltx-core does since 1.2.0.
    """
    (time, time_overlap), *space = inputs["tile"].tolist()
    splitters, mappers = [DEFAULT_SPLIT_OPERATION] * 5, [DEFAULT_MAPPING_OPERATION] * 5
    splitters[2] = split_temporal_latents(time // SCALE.time, time_overlap // SCALE.time)
    mappers[2] = make_mapping_operation(map_temporal_interval_to_frame, scale=SCALE.time)
    for axis, (size, overlap), scale in zip((3, 4), space, (SCALE.height, SCALE.width)):
        splitters[axis] = split_with_symmetric_overlaps(size // scale, overlap // scale)
        mappers[axis] = make_mapping_operation(map_spatial_interval_to_pixel, scale=scale)
    return create_tiles(latent_shape, splitters, mappers)


def latent_masks(tile_inputs: dict, latent_shape: tuple) -> list[torch.Tensor]:
    """The blending masks of the same tiles on the latent grid, in the order of `tiles`."""
    (time, time_overlap), *space = tile_inputs["tile"].tolist()
    axes = [split_temporal_latents(time // SCALE.time, time_overlap // SCALE.time)(latent_shape[2])]
    for length, (size, overlap), scale in zip(latent_shape[3:], space, (SCALE.height, SCALE.width)):
        axes.append(split_with_symmetric_overlaps(size // scale, overlap // scale)(length))
    masks = []
    for axis, cut in enumerate(axes):
        columns = zip(cut.starts, cut.ends, cut.left_ramps, cut.right_ramps)
        masks.append([compute_trapezoidal_mask_1d(e - s, left, right, axis == 0) for s, e, left, right in columns])
    return [t[:, None, None] * h[None, :, None] * w for t, h, w in itertools.product(*masks)]


def encode(checkpoint: tuple, inputs: dict, dtype: torch.dtype) -> dict:
    encoder = load(checkpoint, VideoEncoderConfigurator, VAE_ENCODER_COMFY_KEYS_FILTER, dtype)
    pixels = inputs["pixels"].to(dtype)
    if "tile" not in inputs:
        return {"latent": encoder(pixels)}
    batch, _, frames, height, width = pixels.shape
    shape = (batch, encoder.latent_channels, 1 + (frames - 1) // SCALE.time, height // SCALE.height, width // SCALE.width)
    total, weight = torch.zeros(shape), torch.zeros(shape)
    for tile, mask in zip(tiles(inputs, shape), latent_masks(inputs, shape), strict=True):
        part = encoder(pixels[tile.out_coords]).float()
        total[tile.in_coords] += part * mask
        weight[tile.in_coords] += mask
    return {"latent": total / weight}


class GivenNoise:
    """Stands in for `torch.randn`: gives the case's noise, or draws and keeps it where the case has none yet."""

    def __init__(self, inputs: dict, rng: torch.Generator):
        self.inputs, self.rng, self.injected, self.randn = inputs, rng, 0, torch.randn

    def __call__(self, *size, dtype=None, **_):
        shape = tuple(size[0]) if len(size) == 1 else size
        name = "noise"
        if len(shape) != 5:
            name = f"inject_noise.{self.injected}"
            self.injected += 1
        if name not in self.inputs:
            self.inputs[name] = self.randn(shape, generator=self.rng)
        return self.inputs[name].to(dtype)


def decode_with_noise(checkpoint: tuple, inputs: dict, rng: torch.Generator) -> dict:
    """`inputs` get the noise that was drawn. `timestep` is optional."""
    decoder = load(checkpoint, VideoDecoderConfigurator, VAE_DECODER_COMFY_KEYS_FILTER, torch.float32)
    timestep = inputs["timestep"].expand(inputs["latent"].shape[0]) if "timestep" in inputs else None
    with mock.patch("torch.randn", GivenNoise(inputs, rng)):
        return {"pixels": decoder(inputs["latent"], timestep=timestep)}


def decode(checkpoint: tuple, inputs: dict, dtype: torch.dtype) -> dict:
    decoder = load(checkpoint, VideoDecoderConfigurator, VAE_DECODER_COMFY_KEYS_FILTER, dtype)
    latent = inputs["latent"].to(dtype)
    if "tile" not in inputs:
        return {"pixels": decoder(latent)}
    decoder._prepare_tiles = lambda latent, config: tiles(inputs, latent.shape)
    return {"pixels": torch.cat(list(decoder.tiled_decode(latent)), dim=2)}
