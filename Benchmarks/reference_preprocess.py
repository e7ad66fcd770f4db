#!/usr/bin/env python3
"""The reference's side of the benchmark of preprocessing: a whole run of its dataset script, unmodified, on the CPU.

    reference_preprocess.py LTX_TRAINER THREADS ARGUMENTS...

LTX_TRAINER is the folder packages/ltx-trainer of a checkout of the reference, with ltx-core and ltx-pipelines beside it.
ARGUMENTS are those of its scripts/process_dataset.py. reference_packages.py says what is needed.
"""
import runpy
import sys

import reference_packages


def main():
    trainer, threads, *arguments = sys.argv[1:]
    script = reference_packages.script(trainer, "process_dataset.py", threads)
    sys.argv = [script] + arguments
    runpy.run_path(script, run_name="__main__")


main()
