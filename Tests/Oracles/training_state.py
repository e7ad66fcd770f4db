#!/usr/bin/env python3
"""The state of a run as the official trainer stores it, for `model.load_checkpoint`.

Writes Tests/Fixtures/training/training_state_step_00003.pt with ltx-trainer's own class (a checkout of
Lightricks/LTX-2; its packages/ltx-trainer/src on PYTHONPATH): three steps of AdamW, a constant rate, rank 16.
"""
import pathlib
import torch
from ltx_trainer.training_state import ConfigFingerprint, RngStates, TrainingState

torch.manual_seed(1)
state = TrainingState(
    global_step=3,
    config_fingerprint=ConfigFingerprint(
        optimizer_type="adamw", scheduler_type="constant", training_mode="lora", lora_rank=16),
    rng_states=RngStates(torch_state=torch.random.get_rng_state()),
    lr_scheduler_state_dict={"last_epoch": 3, "base_lrs": [1e-2], "_last_lr": [1e-2]},
)
folder = pathlib.Path(__file__).resolve().parents[1] / "Fixtures" / "training"
torch.save(state.to_save_dict(), folder / "training_state_step_00003.pt")
