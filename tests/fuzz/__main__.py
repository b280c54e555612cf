"""`python -m tests.fuzz TARGET [options of libFuzzer]`: see README.md in this folder."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["compliance", "reference_model"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz {{{','.join(TARGETS)}}} [options of libFuzzer]")
    target = TARGETS[sys.argv[1]]
    seeds = Path(tempfile.mkdtemp(prefix="seeds"))
    for number, data in enumerate(target.seeds()):
        (seeds / str(number)).write_bytes(data)
    # libFuzzer writes its findings to the first folder of its arguments.
    corpus = Path(tempfile.mkdtemp(prefix=f"corpus_{sys.argv[1]}_"))
    atheris.Setup([sys.argv[0], *sys.argv[2:], str(corpus), str(seeds)], target.run)
    atheris.Fuzz()


main()
