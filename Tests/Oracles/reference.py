"""The rows of `ltx probe`, carried out by the reference implementation (ltx-core 1.0.0 from PyPI).

Each function takes a checkpoint (tensors, configuration), the inputs of a row and a dtype, and returns the
row's outputs. The checkpoint keys are renamed by the reference's own maps.
"""

import torch
from ltx_core.guidance.perturbations import (
    BatchedPerturbationConfig,
    Perturbation,
    PerturbationConfig,
    PerturbationType,
)
from ltx_core.loader.sd_ops import SDOps
from ltx_core.model.transformer.modality import Modality
from ltx_core.model.transformer.model import LTXModel, X0Model
from ltx_core.model.transformer.model_configurator import LTXV_MODEL_COMFY_RENAMING_MAP, LTXModelConfigurator
from ltx_core.model.transformer.rope import generate_freq_grid_np, generate_freq_grid_pytorch, precompute_freqs_cis

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
STREAMS = ("video", "audio")
CONNECTORS = ("video_embeddings_connector.", "audio_embeddings_connector.")


def renamed(tensors: dict, rules: SDOps) -> dict:
    out = {}
    for key, value in tensors.items():
        new = rules.apply_to_key(key)
        if new is not None:
            out[new] = value
    return out


def load_module(module: torch.nn.Module, state: dict, dtype: torch.dtype) -> torch.nn.Module:
    """`module` was made on the meta device; every one of its parameters and buffers must be in `state`."""
    state = {k: v.to(dtype) for k, v in state.items()}
    missing, unexpected = module.load_state_dict(state, strict=False, assign=True)
    if missing or unexpected:
        raise ValueError(f"{type(module).__name__}: missing {missing}, unexpected {unexpected}")
    return module.eval().requires_grad_(False)


def load_transformer(checkpoint: tuple, dtype: torch.dtype) -> LTXModel:
    tensors, config = checkpoint
    state = renamed(tensors, LTXV_MODEL_COMFY_RENAMING_MAP)
    state = {k: v for k, v in state.items() if not k.startswith(CONNECTORS)}
    with torch.device("meta"):
        model = LTXModelConfigurator.from_config(config)
    for part, key in (("ff", "ff_bias"), ("audio_ff", "audio_ff_bias")):
        if not config["transformer"].get(key, True):
            missing = {k: v for k, v in model.state_dict().items() if f".{part}.net." in k and k.endswith(".bias")}
            state |= {k: torch.zeros(v.shape) for k, v in missing.items()}
    return load_module(model, state, dtype)


def follow_1_2_0(model: LTXModel) -> LTXModel:
    """Gives the cross-modal attention the timesteps of ltx-core 1.2.0 where 1.0.0 differs.

    1.0.0 takes the other stream's sigma for scale, shift and gate. Since then, scale and shift follow the stream's
    own timesteps per token, and the gate alone the other stream's sigma. Both modules that make them are 1.0.0's.
    """
    for preprocessor in (model.video_args_preprocessor, model.audio_args_preprocessor):
        original = preprocessor._prepare_cross_attention_timestep
        prepare = preprocessor.prepare

        def mixed(modality, cross_modality=None, original=original, prepare=prepare, preprocessor=preprocessor):
            def recombined(timestep, **rest):
                scale_shift, _ = original(timestep=modality.timesteps, **rest)
                _, gate = original(timestep=timestep, **rest)
                return scale_shift, gate

            preprocessor._prepare_cross_attention_timestep = recombined
            return prepare(modality, cross_modality)

        preprocessor.prepare = mixed
    return model


def add_loras(tensors: dict, loras: list[tuple[dict, float]]) -> dict:
    """W + sum strength * B A, in float32."""
    tensors = dict(tensors)
    for lora, strength in loras:
        for key in lora:
            if not key.endswith(".lora_A.weight"):
                continue
            base = "model." + key.replace(".lora_A.weight", ".weight")
            delta = lora[key.replace("lora_A", "lora_B")].float() @ lora[key].float()
            tensors[base] = tensors[base].float() + strength * delta
    return tensors


def modality(stream: str, inputs: dict, dtype: torch.dtype) -> Modality | None:
    def get(name):
        return inputs.get(f"{stream}.{name}")

    if get("latent") is None:
        return None
    enabled = get("enabled")
    return Modality(
        latent=get("latent").to(dtype),
        sigma=get("sigma"),
        timesteps=get("timesteps"),
        positions=get("positions"),
        context=get("context").to(dtype),
        enabled=True if enabled is None else bool(enabled.item()),
        context_mask=get("context_mask"),
        attention_mask=get("self_attention_mask"),
    )


SKIPS = {
    "skip.video_self_attn": PerturbationType.SKIP_VIDEO_SELF_ATTN,
    "skip.audio_self_attn": PerturbationType.SKIP_AUDIO_SELF_ATTN,
    "skip.a2v": PerturbationType.SKIP_A2V_CROSS_ATTN,
    "skip.v2a": PerturbationType.SKIP_V2A_CROSS_ATTN,
}


def perturbations(inputs: dict, batch: int) -> BatchedPerturbationConfig:
    chosen = [Perturbation(kind, inputs[key].tolist()) for key, kind in SKIPS.items() if key in inputs]
    rows = inputs["skip.rows"].tolist() if "skip.rows" in inputs else [1] * batch
    return BatchedPerturbationConfig([PerturbationConfig(chosen if row else []) for row in rows])


def transformer(model: LTXModel, inputs: dict, dtype: torch.dtype = torch.float32) -> dict:
    video, audio = (modality(stream, inputs, dtype) for stream in STREAMS)
    batch = (video or audio).latent.shape[0]
    velocities = model(video=video, audio=audio, perturbations=perturbations(inputs, batch))
    return {f"{s}.velocity": v for s, v in zip(STREAMS, velocities) if v is not None}


def rope(config: dict, inputs: dict) -> dict:
    model = LTXModelConfigurator.from_config(config)
    stream = int(inputs["stream"])
    shared = model.video_args_preprocessor.simple_preprocessor
    width, max_pos, heads = {
        0: (model.inner_dim, model.positional_embedding_max_pos, model.num_attention_heads),
        1: (model.audio_inner_dim, model.audio_positional_embedding_max_pos, model.audio_num_attention_heads),
        2: (
            model.audio_cross_attention_dim,
            [model.video_args_preprocessor.cross_pe_max_pos],
            model.num_attention_heads,
        ),
    }[stream]
    cos, sin = precompute_freqs_cis(
        inputs["positions"],
        dim=width,
        out_dtype=torch.float32,
        theta=shared.positional_embedding_theta,
        max_pos=max_pos,
        use_middle_indices_grid=True,
        num_attention_heads=heads,
        rope_type=shared.rope_type,
        freq_grid_generator=generate_freq_grid_np if shared.double_precision_rope else generate_freq_grid_pytorch,
    )
    return {"cos": cos, "sin": sin}


def velocity_loss(velocity: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """mean(error² * mask) / mean(mask) per sample over the last tokens, as many as the target has."""
    count = target.shape[1]
    velocity, mask = velocity[:, -count:], mask[:, -count:].float().unsqueeze(-1)
    error = (velocity.float() - target.float()).square()
    return (error * mask).mean(dim=(1, 2)) / mask.mean(dim=(1, 2)).clamp(min=1e-8)


def lora_gradients(model: LTXModel, lora: dict, strength: float, inputs: dict, dtype: torch.dtype) -> dict:
    """`model` is in `dtype`; gradients come from peft's layers, whose scale is alpha / rank = strength."""
    from peft import LoraConfig, inject_adapter_in_model

    prefix, suffix = "diffusion_model.", ".lora_A.weight"
    targets = [k.removeprefix(prefix).removesuffix(suffix) for k in lora if k.endswith(suffix)]
    rank = lora[prefix + targets[0] + suffix].shape[0]
    is_dora = any(key.endswith(".dora_scale") for key in lora)
    config = LoraConfig(
        r=rank, lora_alpha=strength * rank, target_modules=targets, lora_dropout=0.0, use_dora=is_dora
    )
    model = inject_adapter_in_model(config, model)
    parameters = {}
    for target in targets:
        layer = model.get_submodule(target)
        for part in ("lora_A", "lora_B"):
            key = f"{prefix}{target}.{part}.weight"
            weight = torch.nn.Parameter(lora[key].float().clone())
            getattr(layer, part)["default"].weight = weight
            parameters[key] = weight
        if is_dora:
            magnitude = torch.nn.Parameter(lora[f"{prefix}{target}.dora_scale"].float().flatten())
            layer.lora_magnitude_vector["default"].weight = magnitude
            parameters[f"{prefix}{target}.lora_magnitude_vector"] = magnitude
    context = {k: v.to(dtype) for k, v in inputs.items() if k.endswith(".context")}
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = {}
        video, audio = (modality(s, inputs | context, torch.float32) for s in STREAMS)
        batch = (video or audio).latent.shape[0]
        velocities = model(video=video, audio=audio, perturbations=BatchedPerturbationConfig.empty(batch))
    loss = 0
    for stream, velocity in zip(STREAMS, velocities):
        if velocity is not None and f"{stream}.target" in inputs:
            loss = loss + velocity_loss(velocity, inputs[f"{stream}.target"], inputs[f"{stream}.loss_mask"])
    loss.mean().backward()
    out["loss"] = loss.detach()
    if is_dora:
        out["velocity"] = velocities[0].detach()
    for key, parameter in parameters.items():
        out[f"grad.{key}"] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return out


def denoise(model: LTXModel, inputs: dict, dtype: torch.dtype = torch.float32) -> dict:
    """Euler sampling with the reference's x0 model, guider and step."""
    from ltx_core.components.diffusion_steps import EulerDiffusionStep
    from ltx_core.components.guiders import MultiModalGuider, MultiModalGuiderParams

    x0_model, stepper = X0Model(model), EulerDiffusionStep()
    streams = [s for s in STREAMS if f"{s}.noise" in inputs]
    sigmas = inputs["sigmas"]
    blocks = inputs["stg_blocks"].tolist() if "stg_blocks" in inputs else None

    def number(stream, name, default):
        return float(inputs.get(f"{stream}.{name}", torch.tensor([default])))

    guiders, state, clean, mask, last, out = {}, {}, {}, {}, {}, {}
    for s in streams:
        noise = inputs[f"{s}.noise"].to(dtype)
        guiders[s] = MultiModalGuider(
            params=MultiModalGuiderParams(
                cfg_scale=number(s, "cfg", 1.0),
                stg_scale=number(s, "stg", 0.0),
                stg_blocks=blocks,
                rescale_scale=number(s, "rescale", 0.0),
                modality_scale=number(s, "modality", 1.0),
                skip_step=int(number(s, "skip_step", 0)),
            )
        )
        clean[s] = inputs.get(f"{s}.clean", torch.zeros_like(noise)).to(dtype)
        mask[s] = inputs.get(f"{s}.denoise_mask", torch.ones(noise.shape[:2])).float().unsqueeze(-1)
        state[s] = (clean[s] + mask[s] * (noise - clean[s])).to(dtype)

    def predict(step, contexts, skip=()):
        modalities, batch = {}, state[streams[0]].shape[0]
        for s in streams:
            modalities[s] = Modality(
                latent=state[s],
                sigma=sigmas[step].expand(batch),
                timesteps=mask[s] * sigmas[step],
                positions=inputs[f"{s}.positions"],
                context=contexts[s].to(dtype),
                enabled=not guiders[s].should_skip_step(step),
                attention_mask=inputs.get(f"{s}.self_attention_mask"),
            )
        config = PerturbationConfig([Perturbation(kind, which) for kind, which in skip])
        pair = x0_model(
            video=modalities.get("video"),
            audio=modalities.get("audio"),
            perturbations=BatchedPerturbationConfig([config] * batch),
        )
        return {s: x.float() for s, x in zip(STREAMS, pair) if x is not None}

    positive = {s: inputs[f"{s}.context"] for s in streams}
    negative = {s: inputs.get(f"{s}.negative_context", positive[s]) for s in streams}
    nothing = dict.fromkeys(streams, 0.0)
    for step in range(len(sigmas) - 1):
        if not all(guiders[s].should_skip_step(step) for s in streams):
            conditional = predict(step, positive)
            unconditional = perturbed = isolated = nothing
            if any(g.do_unconditional_generation() for g in guiders.values()):
                unconditional = predict(step, negative)
            if any(g.do_perturbed_generation() for g in guiders.values()):
                kinds = dict(zip(STREAMS, (PerturbationType.SKIP_VIDEO_SELF_ATTN, PerturbationType.SKIP_AUDIO_SELF_ATTN)))
                skip = [(kinds[s], blocks) for s in streams if guiders[s].do_perturbed_generation()]
                perturbed = predict(step, positive, skip)
            if any(g.do_isolated_modality_generation() for g in guiders.values()):
                both = (PerturbationType.SKIP_A2V_CROSS_ATTN, PerturbationType.SKIP_V2A_CROSS_ATTN)
                isolated = predict(step, positive, [(kind, None) for kind in both])
        for s in streams:
            if not guiders[s].should_skip_step(step):
                guided = guiders[s].calculate(conditional[s], unconditional[s], perturbed[s], isolated[s])
                last[s] = guided
            x0 = (last[s] * mask[s] + clean[s].float() * (1 - mask[s])).to(dtype)
            state[s] = stepper.step(state[s], x0, sigmas, step)
            out[f"step.{step}.{s}.latent"] = state[s]
    return out | {f"{s}.latent": state[s] for s in streams}
