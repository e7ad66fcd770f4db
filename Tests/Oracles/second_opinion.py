"""Second opinions: the LTX-2 models of diffusers, built from the same checkpoints.

They are another code base (a port, whose operations often come in the same order, so that many outputs agree bit for
bit). Where both agree, a mistake in the harness would have to be made twice.
"""

import torch
from diffusers import AutoencoderKLLTX2Video, LTX2VideoTransformer3DModel
from diffusers.loaders.single_file_utils import convert_ltx2_transformer_to_diffusers, convert_ltx2_vae_to_diffusers
from diffusers.pipelines.ltx2.connectors import LTX2ConnectorTransformer1d

DOWNSAMPLING = {
    "compress_space_res": "spatial",
    "compress_time_res": "temporal",
    "compress_all_res": "spatiotemporal",
}


class DiffusersVAE:
    def __init__(self, model: AutoencoderKLLTX2Video):
        self.model = model
        self.mean = model.latents_mean.view(1, -1, 1, 1, 1)
        self.std = model.latents_std.view(1, -1, 1, 1, 1)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return (self.model.encode(pixels).latent_dist.mode() - self.mean) / self.std

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return self.model.decode(latent * self.std + self.mean).sample


def diffusers_vae(tensors: dict, config: dict) -> DiffusersVAE:
    """diffusers keeps statistics outside of encode and decode, so they are applied here."""
    vae = config["vae"]
    width, widths, layers, kinds = vae["latent_channels"], [], [], []
    for kind, options in vae["encoder_blocks"]:
        if kind == "res_x":
            layers.append(options["num_layers"])
        else:
            width *= options["multiplier"]
            widths.append(width)
            kinds.append(DOWNSAMPLING[kind])
    upward = list(reversed(vae["decoder_blocks"]))
    ups = [options for kind, options in upward if kind != "res_x"]
    base = vae["decoder_base_channels"]
    model = AutoencoderKLLTX2Video(
        latent_channels=vae["latent_channels"],
        block_out_channels=tuple(widths),
        down_block_types=("LTX2VideoDownBlock3D",) * len(widths),
        layers_per_block=tuple(layers),
        downsample_type=tuple(kinds),
        spatio_temporal_scaling=(True,) * len(widths),
        decoder_block_out_channels=tuple(base * 2**i for i in range(1, len(ups) + 1)),
        decoder_layers_per_block=tuple(reversed([o["num_layers"] for k, o in upward if k == "res_x"])),
        decoder_spatio_temporal_scaling=(True,) * len(ups),
        decoder_inject_noise=(False,) * (len(ups) + 1),
        upsample_type=("spatiotemporal",) * len(ups),
        upsample_residual=tuple(o["residual"] for o in ups),
        upsample_factor=tuple(o["multiplier"] for o in ups),
        timestep_conditioning=False,
        patch_size=vae["patch_size"],
        decoder_causal=vae["causal_decoder"],
    )
    state = convert_ltx2_vae_to_diffusers({k: v.float() for k, v in tensors.items()})
    model.load_state_dict(state)
    return DiffusersVAE(model.eval().requires_grad_(False))


def diffusers_transformer(tensors: dict, config: dict) -> LTX2VideoTransformer3DModel:
    t = config["transformer"]
    model = LTX2VideoTransformer3DModel(
        in_channels=t["in_channels"],
        out_channels=t["out_channels"],
        num_attention_heads=t["num_attention_heads"],
        attention_head_dim=t["attention_head_dim"],
        cross_attention_dim=t["cross_attention_dim"],
        pos_embed_max_pos=t["positional_embedding_max_pos"][0],
        base_height=t["positional_embedding_max_pos"][1],
        base_width=t["positional_embedding_max_pos"][2],
        audio_in_channels=t["audio_in_channels"],
        audio_out_channels=t["audio_out_channels"],
        audio_num_attention_heads=t["audio_num_attention_heads"],
        audio_attention_head_dim=t["audio_attention_head_dim"],
        audio_cross_attention_dim=t["audio_cross_attention_dim"],
        audio_pos_embed_max_pos=t["audio_positional_embedding_max_pos"][0],
        num_layers=t["num_layers"],
        caption_channels=t["caption_channels"],
        rope_theta=t["positional_embedding_theta"],
        rope_double_precision=t["frequencies_precision"] == "float64",
        rope_type=t["rope_type"],
        timestep_scale_multiplier=t["timestep_scale_multiplier"],
        cross_attn_timestep_scale_multiplier=t["av_ca_timestep_scale_multiplier"],
    )
    kept = {
        k: v.float()
        for k, v in tensors.items()
        if k.startswith("model.diffusion_model.") and "_embeddings_connector." not in k
    }
    model.load_state_dict(convert_ltx2_transformer_to_diffusers(kept))
    return model.eval().requires_grad_(False)


def transformer(model: LTX2VideoTransformer3DModel, inputs: dict, scale: float) -> dict:
    """Both streams without masks; `use_cross_timestep` is the rule of ltx-core 1.0.0."""
    velocities = model(
        hidden_states=inputs["video.latent"],
        audio_hidden_states=inputs["audio.latent"],
        encoder_hidden_states=inputs["video.context"],
        audio_encoder_hidden_states=inputs["audio.context"],
        timestep=inputs["video.timesteps"] * scale,
        audio_timestep=inputs["audio.timesteps"] * scale,
        sigma=inputs["video.sigma"] * scale,
        audio_sigma=inputs["audio.sigma"] * scale,
        video_coords=inputs["video.positions"],
        audio_coords=inputs["audio.positions"],
        use_cross_timestep=True,
        return_dict=False,
    )
    return dict(zip(("video.velocity", "audio.velocity"), velocities))


def diffusers_connector(tensors: dict, config: dict, stream: str) -> LTX2ConnectorTransformer1d:
    t = config["transformer"]
    model = LTX2ConnectorTransformer1d(
        num_attention_heads=t["connector_num_attention_heads"],
        attention_head_dim=t["connector_attention_head_dim"],
        num_layers=t["connector_num_layers"],
        rope_base_seq_len=t["connector_positional_embedding_max_pos"][0],
        rope_double_precision=t["frequencies_precision"] == "float64",
        rope_type=t["rope_type"],
    )
    prefix = f"model.diffusion_model.{stream}_embeddings_connector."
    renames = (("transformer_1d_blocks", "transformer_blocks"), ("q_norm", "norm_q"), ("k_norm", "norm_k"))
    state = {}
    for key, value in tensors.items():
        if key.startswith(prefix):
            key = key.removeprefix(prefix)
            for old, new in renames:
                key = key.replace(old, new)
            state[key] = value.float()
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)
