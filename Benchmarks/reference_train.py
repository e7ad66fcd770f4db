#!/usr/bin/env python3
"""The reference's side of the benchmark of training: a whole run of its training script on the CPU.

    reference_train.py LTX_TRAINER THREADS PRECISION CONFIG

LTX_TRAINER is the folder packages/ltx-trainer of a checkout of the reference, with ltx-core and ltx-pipelines beside it.
reference_packages.py says what is needed. PRECISION is

  bfloat16  the script unmodified: it keeps the frozen weights in bfloat16, whatever the configuration's mode
  float32   the frozen weights and all else in float32: `torch.bfloat16`, as the trainer's own module reads it, is float32
"""
import runpy
import sys

import reference_packages


class WithoutBfloat16:
    """torch, in which bfloat16 is float32."""

    def __init__(self, torch):
        self._torch = torch
        self.bfloat16 = torch.float32

    def __getattr__(self, name):
        return getattr(self._torch, name)


def main():
    trainer, threads, precision, config = sys.argv[1:]
    script = reference_packages.script(trainer, "train.py", threads)
    if precision == "float32":
        import ltx_trainer.trainer

        ltx_trainer.trainer.torch = WithoutBfloat16(ltx_trainer.trainer.torch)
    sys.argv = [script, config, "--disable-progress-bars"]
    runpy.run_path(script, run_name="__main__")


main()
