"""A pack that measures on a machine with a GPU, Python, NumPy and JAX, in about ten minutes.

    __main__      makes the pack: scripts/gpu_pack.sh OUT
    cases         what is measured
    program_run   one case's programs on a PJRT device
    measures      the measurements
    record        the answer: results.json and results.md, written after each measurement
    run           the program that runs there: python OUT/run.py

All modules except `__main__` are part of the pack, with a copy of `reference_model`.
"""
