"""A pack for a machine with a GPU, Python, NumPy and JAX, and ten minutes to spare.

    __main__      makes the pack: scripts/gpu_pack.sh OUT
    cases         what is measured
    program_run   one case's programs on a PJRT device
    measures      the measurements
    record        the answer: results.json and results.md, written after each measurement
    run           the program that runs there: python OUT/run.py

The last four are part of the pack, with a copy of `reference_model`.
"""
