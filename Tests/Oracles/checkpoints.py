"""Small random checkpoints in the layout of the published LTX-2 (2.0) files.

Every parameter is random, norms, tables, biases and registers included, so that nothing can be left out
unnoticed. Widths, head counts, channels, theta and maximal positions are unlike the published ones.
"""

import json

import torch
from ltx_core.model.transformer.model_configurator import LTXModelConfigurator
from ltx_core.model.video_vae.model_configurator import VideoDecoderConfigurator, VideoEncoderConfigurator
from ltx_core.text_encoders.gemma.embeddings_connector import (
    AudioEmbeddings1DConnectorConfigurator,
    Embeddings1DConnectorConfigurator,
)
from safetensors.torch import save_file

from fixtures import MODELS, generator
from recipes import write_recipe

GEMMA_WIDTH, GEMMA_LAYERS = 40, 7

TRANSFORMER = {
    "_class_name": "AVTransformer3DModel",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_type": "default",
    "double_self_attention": False,
    "dropout": 0.0,
    "norm_elementwise_affine": False,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "num_embeds_ada_norm": 1000,
    "num_vector_embeds": None,
    "only_cross_attention": False,
    "cross_attention_norm": True,
    "upcast_attention": False,
    "use_linear_projection": False,
    "qk_norm": "rms_norm",
    "standardization_norm": "rms_norm",
    "positional_embedding_type": "rope",
    "positional_embedding_theta": 10000.0,
    "positional_embedding_max_pos": [20, 2048, 2048],
    "timestep_scale_multiplier": 1000,
    "av_ca_timestep_scale_multiplier": 1000.0,
    "causal_temporal_positioning": True,
    "use_audio_video_cross_attention": True,
    "share_ff": False,
    "audio_positional_embedding_max_pos": [20],
    "av_cross_ada_norm": True,
    "use_embeddings_connector": True,
    "connector_positional_embedding_max_pos": [4096],
    "connector_num_learnable_registers": 128,
    "connector_norm_output": True,
    "use_middle_indices_grid": True,
    "rope_type": "split",
    "frequencies_precision": "float64",
    "num_layers": 3,
    # Width 50: 8 frequencies on each of 3 axes, so one of the 25 phases is padding.
    "num_attention_heads": 5,
    "attention_head_dim": 10,
    "cross_attention_dim": 50,
    "in_channels": 12,
    "out_channels": 12,
    "caption_channels": GEMMA_WIDTH,
    "audio_num_attention_heads": 5,
    "audio_attention_head_dim": 6,
    "audio_cross_attention_dim": 30,
    "audio_in_channels": 48,
    "audio_out_channels": 48,
    "connector_attention_head_dim": 10,
    "connector_num_attention_heads": 4,
    "connector_num_layers": 3,
}

INTERLEAVED = TRANSFORMER | {
    "rope_type": "interleaved",
    "frequencies_precision": "float32",
    "positional_embedding_theta": 5000.0,
    "positional_embedding_max_pos": [16, 1024, 1536],
    "audio_positional_embedding_max_pos": [24],
    "av_ca_timestep_scale_multiplier": 250.0,
    "num_layers": 2,
    # Width 56: 9 frequencies on each axis, so two of the 56 columns are padding. Streams differ in their heads.
    "num_attention_heads": 4,
    "attention_head_dim": 14,
    "cross_attention_dim": 56,
    "in_channels": 10,
    "out_channels": 10,
    "caption_channels": 24,
    "audio_num_attention_heads": 3,
    "audio_attention_head_dim": 10,
    "audio_cross_attention_dim": 30,
    "audio_in_channels": 32,
    "audio_out_channels": 32,
    "connector_attention_head_dim": 12,
    "connector_num_attention_heads": 2,
    "connector_num_layers": 1,
}


# 2.3: gates, text cross-attention that is modulated too, text projected to the streams' widths before the connectors.
LTX23 = TRANSFORMER | {
    "num_layers": 2,
    # Width 32: 5 frequencies on each of 3 axes, so one of the 16 phases is padding.
    "num_attention_heads": 4,
    "attention_head_dim": 8,
    "cross_attention_dim": 32,
    "in_channels": 10,
    "out_channels": 10,
    "audio_num_attention_heads": 4,
    "audio_attention_head_dim": 6,
    "audio_cross_attention_dim": 24,
    "audio_in_channels": 32,
    "audio_out_channels": 32,
    "connector_attention_head_dim": 8,
    "connector_num_attention_heads": 4,
    "audio_connector_attention_head_dim": 6,
    "audio_connector_num_attention_heads": 4,
    "connector_num_layers": 1,
    "apply_gated_attention": True,
    "connector_apply_gated_attention": True,
    "caption_projection_first_linear": False,
    "caption_projection_second_linear": False,
    "caption_proj_input_norm": False,
    "connector_learnable_registers_std": 1,
    "caption_proj_before_connector": True,
    "cross_attention_adaln": True,
    "text_encoder_norm_type": "per_token_rms",
}

# What later versions call it: feed-forward layers without biases. 1.0.0 does without the key; zeros do the same.
BIAS_FREE = LTX23 | {"num_layers": 1, "ff_bias": False, "audio_ff_bias": False}


def _res(layers: int) -> list:
    return ["res_x", {"num_layers": layers}]


def _res_decoder(layers: int) -> list:
    return ["res_x", {"num_layers": layers, "inject_noise": False}]


VAE = {
    "_class_name": "CausalVideoAutoencoder",
    "dims": 3,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 6,
    "encoder_blocks": [
        _res(1),
        ["compress_space_res", {"multiplier": 2}],
        _res(2),
        ["compress_time_res", {"multiplier": 2}],
        _res(1),
        ["compress_all_res", {"multiplier": 1}],
        _res(1),
        ["compress_all_res", {"multiplier": 2}],
        _res(1),
    ],
    "decoder_blocks": [
        _res_decoder(1),
        ["compress_all", {"residual": True, "multiplier": 2}],
        _res_decoder(2),
        ["compress_all", {"residual": True, "multiplier": 2}],
        _res_decoder(1),
        ["compress_all", {"residual": True, "multiplier": 2}],
        _res_decoder(1),
    ],
    "scaling_factor": 1.0,
    "norm_layer": "pixel_norm",
    "patch_size": 4,
    "latent_log_var": "uniform",
    "use_quant_conv": False,
    "causal_decoder": False,
    "timestep_conditioning": False,
    "normalize_latent_channels": False,
    "encoder_base_channels": 6,
    "decoder_base_channels": 4,
}


# 2.3: space and time widened one after the other, zeros around pictures everywhere.
VAE23 = VAE | {
    "encoder_blocks": [
        _res(1),
        ["compress_space_res", {"multiplier": 2}],
        _res(1),
        ["compress_time_res", {"multiplier": 2}],
        _res(1),
        ["compress_all_res", {"multiplier": 1}],
        _res(1),
        ["compress_all_res", {"multiplier": 1}],
        _res(1),
    ],
    "decoder_blocks": [
        _res(2),
        ["compress_space", {"multiplier": 2}],
        _res(1),
        ["compress_time", {"multiplier": 2}],
        _res(1),
        ["compress_all", {"multiplier": 1}],
        _res(1),
        ["compress_all", {"multiplier": 2}],
        _res(1),
    ],
    "spatial_padding_mode": "zeros",
}

# What the format knows besides: strided convolutions, blocks that change the width, noise, timesteps, a causal decoder.
VAE_VARIANTS = VAE | {
    "encoder_blocks": [
        ["res_x", 1],
        ["compress_time", {}],
        ["res_x_y", {"multiplier": 2}],
        ["compress_space", {}],
        ["compress_all", {}],
        ["compress_all_x_y", {"multiplier": 2}],
        _res(1),
    ],
    "decoder_blocks": [
        ["res_x", {"num_layers": 1, "inject_noise": True}],
        ["compress_all", {"residual": True, "multiplier": 2}],
        ["res_x_y", {"multiplier": 2}],
        ["compress_time", {"multiplier": 1}],
        _res_decoder(1),
        ["compress_space", {"multiplier": 2}],
        ["res_x", {"num_layers": 2, "inject_noise": True}],
    ],
    "latent_log_var": "per_channel",
    "causal_decoder": True,
    "timestep_conditioning": True,
    "spatial_padding_mode": "replicate",
}


def random_parameter(key: str, shape: torch.Size, rng: torch.Generator) -> torch.Tensor:
    draw = torch.randn(shape, generator=rng)
    if key.endswith("std-of-means"):
        return 0.5 + torch.rand(shape, generator=rng)
    if key.endswith("timestep_scale_multiplier"):
        return torch.tensor(900.0)
    if "registers" in key:
        return torch.rand(shape, generator=rng) * 2 - 1
    if key.endswith("norm.weight") or "layernorm.weight" in key or "_norm.weight" in key:
        return 1 + 0.3 * draw
    if "scale_shift_table" in key:
        return 0.4 * draw
    if key.endswith("bias"):
        return 0.1 * draw
    if draw.ndim >= 2:
        return draw / (shape[1:].numel() ** 0.5)
    return 0.3 * draw


def randomise(shapes: dict[str, torch.Size], seed: str) -> dict[str, torch.Tensor]:
    rng = generator(seed)
    return {key: random_parameter(key, shapes[key], rng) for key in sorted(shapes)}


def shapes_of(module: torch.nn.Module, prefix: str) -> dict[str, torch.Size]:
    return {prefix + key: value.shape for key, value in module.state_dict().items()}


def save_checkpoint(
    name: str, shapes: dict, config: dict, dtype: torch.dtype, given: dict | None = None, scales: dict | None = None
) -> None:
    """`given` takes the place of random tensors, `scales` multiplies them."""
    drawn = randomise(shapes, f"models/{name}") | (given or {})
    tensors = {k: (v * (scales or {}).get(k, 1)).to(dtype).contiguous() for k, v in drawn.items()}
    MODELS.mkdir(parents=True, exist_ok=True)
    save_file(tensors, MODELS / f"{name}.safetensors", metadata={"config": json.dumps(config, sort_keys=True)})
    write_recipe(name, fixed=set(given or {}), scales=scales)
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    print(f"  models/{name}: {len(tensors)} tensors, {size / 1e6:.2f} MB")


def transformer_shapes(config: dict) -> dict:
    with torch.device("meta"):
        transformer = LTXModelConfigurator.from_config(config)
        video = Embeddings1DConnectorConfigurator.from_config(config)
        audio = AudioEmbeddings1DConnectorConfigurator.from_config(config)
    shapes = shapes_of(transformer, "model.diffusion_model.")
    shapes |= shapes_of(video, "model.diffusion_model.video_embeddings_connector.")
    shapes |= shapes_of(audio, "model.diffusion_model.audio_embeddings_connector.")
    if not config["transformer"].get("ff_bias", True):
        shapes = {key: shape for key, shape in shapes.items() if not is_feed_forward_bias(key)}
    width = config["transformer"]["caption_channels"]
    if config["transformer"].get("caption_proj_before_connector"):
        for stream, part in (("video", ""), ("audio", "audio_")):
            heads, size = (config["transformer"][f"{part}{key}"] for key in ("num_attention_heads", "attention_head_dim"))
            projection = f"text_embedding_projection.{stream}_aggregate_embed"
            shapes[f"{projection}.weight"] = torch.Size([heads * size, width * (GEMMA_LAYERS + 1)])
            shapes[f"{projection}.bias"] = torch.Size([heads * size])
    elif width == GEMMA_WIDTH:
        flat = torch.Size([width, width * (GEMMA_LAYERS + 1)])
        shapes["text_embedding_projection.aggregate_embed.weight"] = flat
    return shapes


def is_feed_forward_bias(key: str) -> bool:
    return "transformer_blocks." in key and "ff.net." in key and key.endswith(".bias")


def vae_shapes(config: dict) -> dict:
    with torch.device("meta"):
        encoder = shapes_of(VideoEncoderConfigurator.from_config(config), "vae.encoder.")
        decoder = shapes_of(VideoDecoderConfigurator.from_config(config), "vae.decoder.")
    merged = {}
    for key, shape in (encoder | decoder).items():
        for part in ("encoder", "decoder"):
            key = key.replace(f"vae.{part}.per_channel_statistics.", "vae.per_channel_statistics.")
        merged[key] = shape
    # In the published file, read by nobody.
    for key in ("channel", "mean-of-stds", "mean-of-stds_over_std-of-means"):
        merged[f"vae.per_channel_statistics.{key}"] = torch.Size([config["vae"]["latent_channels"]])
    return merged


def make_transformer() -> None:
    config = {"transformer": TRANSFORMER, "scheduler": {"_class_name": "RectifiedFlowScheduler"}}
    save_checkpoint("ltx2_transformer", transformer_shapes(config), config, torch.bfloat16)
    config = {"transformer": INTERLEAVED, "scheduler": {"_class_name": "RectifiedFlowScheduler"}}
    save_checkpoint("ltx2_interleaved", transformer_shapes(config), config, torch.bfloat16)
    config = {"transformer": LTX23, "scheduler": {"_class_name": "RectifiedFlowScheduler"}}
    save_checkpoint("ltx23_transformer", transformer_shapes(config), config, torch.bfloat16)
    config = {"transformer": BIAS_FREE}
    save_checkpoint("ltx23_bias_free", transformer_shapes(config), config, torch.bfloat16)


def make_vae() -> None:
    for name, vae in (("ltx2_vae", VAE), ("ltx23_vae", VAE23), ("vae_variants", VAE_VARIANTS)):
        config = {"vae": vae}
        save_checkpoint(name, vae_shapes(config), config, torch.bfloat16)


# The linears that the suffixes to_q, to_k, to_v, to_out.0 match in a block: six attentions.
LORA_LINEARS = ("to_q", "to_k", "to_v", "to_out.0")


def make_lora(name: str, rank: int, keep: str = "") -> None:
    """Adapters on every attention linear of `ltx2_transformer` whose key contains `keep`; float32."""
    shapes = transformer_shapes({"transformer": TRANSFORMER})
    prefix = "model.diffusion_model."
    lora = {}
    for key, shape in shapes.items():
        path = key.removeprefix(prefix).removesuffix(".weight")
        if not path.startswith("transformer_blocks.") or not path.endswith(LORA_LINEARS) or keep not in path:
            continue
        if not key.endswith(".weight"):
            continue
        lora[f"diffusion_model.{path}.lora_A.weight"] = torch.Size([rank, shape[1]])
        lora[f"diffusion_model.{path}.lora_B.weight"] = torch.Size([shape[0], rank])
    tensors = {k: 0.5 * v for k, v in randomise(lora, f"models/{name}").items()}
    save_file(tensors, MODELS / f"{name}.safetensors")
    print(f"  models/{name}: {len(tensors)} tensors")


def make_loras() -> None:
    make_lora("lora_all", 3)
    make_lora("lora_video", 2, keep=".attn")
