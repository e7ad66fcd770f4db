"""`ltx probe text-encoder` and `connectors`: Gemma 3 by transformers, the rest by ltx-core 1.0.0."""

from pathlib import Path

import torch
from ltx_core.text_encoders.gemma.embeddings_connector import (
    AudioEmbeddings1DConnectorConfigurator,
    Embeddings1DConnectorConfigurator,
)
from ltx_core.text_encoders.gemma.embeddings_processor import EmbeddingsProcessor, convert_to_additive_mask
from ltx_core.text_encoders.gemma.encoders.encoder_configurator import EMBEDDINGS_PROCESSOR_KEY_OPS
from ltx_core.text_encoders.gemma.feature_extractor import FeatureExtractorV1
from transformers import Gemma3ForConditionalGeneration

from reference import load_module, renamed


def load_processor(checkpoint: tuple, dtype: torch.dtype, features: bool) -> EmbeddingsProcessor:
    """Feature extractor (of whatever Gemma width the projection has) and both connectors."""
    tensors, config = checkpoint
    state = renamed(tensors, EMBEDDINGS_PROCESSOR_KEY_OPS)
    extractor = None
    key = "feature_extractor.aggregate_embed.weight"
    with torch.device("meta"):
        if features:
            width, flat = state[key].shape
            extractor = FeatureExtractorV1(torch.nn.Linear(flat, width, bias=False), is_av=True)
        processor = EmbeddingsProcessor(
            feature_extractor=extractor,
            video_connector=Embeddings1DConnectorConfigurator.from_config(config),
            audio_connector=AudioEmbeddings1DConnectorConfigurator.from_config(config),
        )
    if not features:
        state.pop(key, None)
    return load_module(processor, state, dtype)


def load_gemma(folder: Path, dtype: torch.dtype) -> Gemma3ForConditionalGeneration:
    model, info = Gemma3ForConditionalGeneration.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", output_loading_info=True
    )
    problems = {k: v for k, v in info.items() if v}
    if problems:
        raise ValueError(f"{folder}: {problems}")
    return model.eval().requires_grad_(False)


def text_encoder(gemma, processor: EmbeddingsProcessor, inputs: dict) -> dict:
    ids, mask = inputs["ids"], inputs["mask"]
    states = gemma.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    video, audio = processor.feature_extractor(states, mask, "left")
    valid = mask.bool()[None, :, :, None]
    shown = torch.where(valid, torch.stack(states), torch.zeros(()).to(states[0].dtype))
    return {"hidden_states": shown, "video_features": video, "audio_features": audio}


def left_padded(features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One sample with its valid rows moved to the end, which is the side that 1.0.0's connector expects."""
    order = torch.argsort(mask, dim=1, stable=True)
    return features.gather(1, order.unsqueeze(-1).expand_as(features)), mask.gather(1, order)


def connectors(processor: EmbeddingsProcessor, inputs: dict, dtype: torch.dtype) -> dict:
    """Sample by sample: 1.0.0 picks the valid rows of a batch by the first sample's mask."""
    video = inputs["video_features"].to(dtype)
    audio = inputs.get("audio_features", inputs["video_features"]).to(dtype)
    parts = []
    for i in range(video.shape[0]):
        mask = inputs["mask"][i : i + 1]
        v, moved = left_padded(video[i : i + 1], mask)
        a, _ = left_padded(audio[i : i + 1], mask)
        parts.append(processor.create_embeddings(v, a, convert_to_additive_mask(moved, dtype)))
    names = ("video_context", "audio_context", "context_mask")
    return {name: torch.cat(column) for name, column in zip(names, zip(*parts))}
