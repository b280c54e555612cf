"""Makes a pack for a machine with a GPU, Python, NumPy and JAX: scripts/gpu_pack.sh OUT.

    scripts/gpu_pack.sh OUT [--data_dir DIR] [--without_data] [--small]

OUT is a new folder of less than 45 MB: programs as portable StableHLO, a generator of data, the
expected results of a CPU, and run.py. On that machine, run: python OUT/run.py. The pack contains
the prepared MovieLens datasets of the data folder, which may not be redistributed; --without_data
leaves them out. --small makes a pack for a test on a CPU, with small data and batches.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Sequence

from compliance.tracks import TrackError, load_track
from harness.config.run_config import default_data_dir
from harness.config.trial_spec import dataset_spec
from reference_model.base.errors import DataError
from reference_model.base.usage_parser import UsageParser
from reference_model.data.prepare import load_split, prepare_split
from reference_model.data.sources import find_local
from reference_model.data.split_file import split_arrays, write_split_file
from reference_model.data.synthetic import SyntheticShape
from reference_model.fused.programs import (
    evaluation_program,
    order_program,
    program_specs,
    training_program,
)
from scripts.accelerators.settings import Settings
from scripts.gpu_pack.cases import Case, check_and_speed_cases, write_cases

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 45_000_000
# Device type by precision. A small pack runs on a CPU, so its bfloat16 programs are made for CPUs;
# see `Case.device`.
DEVICES = {"float32": "gpu", "tf32": "gpu", "bfloat16": "gpu"}
SMALL_DEVICES = {**DEVICES, "bfloat16": "cpu"}
TARGET_TRACKS = ("ml-100k", "ml-1m")
# Modules of the pack besides reference_model.
_RUNNER = ("__init__", "cases", "program_run", "measures", "record", "run")
_STUB = '''"""Runs this pack; see scripts/gpu_pack/run.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from scripts.gpu_pack.run import main

sys.exit(main())
'''


class PackError(Exception):
    """The pack cannot be made; the message is one line."""


def make_cases(is_small: bool) -> list[Case]:
    """Makes the cases on generated data."""
    track = "ml-100k" if is_small else "ml-20m-synthetic"
    base = Settings(track, 1024, "float32", "gpu").engine_config()
    if is_small:
        check = SyntheticShape(600, 400, 18_000, 2018)
        return check_and_speed_cases(base, check, check, 2048, (8192,), SMALL_DEVICES)
    speed = SyntheticShape(**load_track(track).dataset.synthetic)
    check = SyntheticShape(6040, 3706, 1_000_209, speed.seed)
    return check_and_speed_cases(base, check, speed, 98_304, (98_304, 1_048_576), DEVICES)


def target_cases(tracks: Sequence[str], folder: Path, data_dir: Path) -> list[Case]:
    """Makes the cases that train to a target, and writes their datasets.

    Args:
      tracks: the tracks.
      folder: the pack.
      data_dir: the data folder; a track whose dataset is not in it has no case.
    """
    cases = []
    for name in tracks:
        track = load_track(name)
        spec = dataset_spec(track)
        if find_local(spec.source, data_dir) is None:
            print(f"{name}: not packed, since {data_dir} lacks the dataset", file=sys.stderr)
            continue
        header = prepare_split(spec, data_dir)
        split = load_split(spec, data_dir)
        file = f"{name}.split"
        (folder / "data").mkdir(exist_ok=True)
        write_split_file(folder / "data" / file, header, split_arrays(split))
        settings = Settings(name, track.hyperparameters.batch_size, "float32", "gpu")
        # The prepared data decide the sizes.
        config = replace(
            settings.engine_config(), num_users=split.num_users, num_items=split.num_items,
            num_positives=split.num_positives,
        )  # fmt: skip
        cases.append(
            Case(f"target-{name}", "target", config, data=file, target=track.target,
                 max_epochs=track.max_epochs)
        )  # fmt: skip
    return cases


def export(case: Case, folder: Path) -> None:
    """Writes the programs of a case: training, evaluation and the order."""
    from reference_model.pjrt.lowering import lower, versions
    from reference_model.pjrt.program_folder import export_programs

    training, evaluation = program_specs(case.config, case.device)
    programs = [
        training_program(training, "drawn"), evaluation_program(evaluation),
        order_program(case.config),
    ]  # fmt: skip
    export_programs(folder / "programs" / case.name, case.config, case.device, programs, lower,
                    {"versions": versions()})  # fmt: skip


def expected_values(cases: list[Case], folder: Path) -> dict[str, Any]:
    """Runs the float32 program of the check cases on this machine's CPU.

    Its values are those that all precisions are compared with.
    """
    from reference_model.pjrt.client import PjrtClient
    from scripts.gpu_pack import measures, run
    from scripts.gpu_pack.program_run import ProgramRun

    case = next(x for x in cases if x.kind == "check" and x.config.precision == "float32")
    program_run = ProgramRun(case, PjrtClient("cpu"), folder / "programs" / case.name)
    program_run.load(*run.data_of(case.shape, None, case.config.eval_negatives))
    return measures.check_values(program_run)


def copy_sources(folder: Path) -> None:
    """Copies the runner and `reference_model`."""
    shutil.copytree(
        ROOT / "reference_model", folder / "reference_model",
        ignore=lambda _, names: [x for x in names if x == "__pycache__" or (
            "." in x and not x.endswith(".py"))],
    )  # fmt: skip
    runner = folder / "scripts" / "gpu_pack"
    runner.mkdir(parents=True)
    for name in _RUNNER:
        shutil.copy(Path(__file__).with_name(f"{name}.py"), runner / f"{name}.py")
    (folder / "run.py").write_text(_STUB)
    shutil.copy(ROOT / "LICENSE", folder / "LICENSE")


def make_pack(out: Path, data_dir: Path, has_data: bool, is_small: bool) -> int:
    """Makes a pack.

    Args:
      out: the folder to make.
      data_dir: where datasets are.
      has_data: whether the pack contains datasets.
      is_small: whether it is for a test on a CPU.

    Returns:
      The bytes of its files.

    Raises:
      PackError: the folder exists, or the pack is too large.
    """
    if out.exists():
        raise PackError(f"{out} exists already; name a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        folder = Path(scratch) / "pack"
        folder.mkdir()
        cases = make_cases(is_small)
        # On a CPU, ml-1m takes minutes.
        tracks = TARGET_TRACKS[: 1 if is_small else None] if has_data else ()
        targets = target_cases(tracks, folder, data_dir)
        # Short and important cases first.
        cases = [*cases[: len(DEVICES)], *targets, *cases[len(DEVICES) :]]
        for number, case in enumerate(cases, 1):
            print(f"lowering {number} of {len(cases)}: {case.name}", file=sys.stderr)
            export(case, folder)
        write_cases(folder, cases)
        print("computing the expected results on this CPU", file=sys.stderr)
        (folder / "expected.json").write_text(json.dumps(expected_values(cases, folder)))
        copy_sources(folder)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if size > MOST_BYTES:
            raise PackError(f"the pack has {size:,} bytes, more than {MOST_BYTES:,}; "
                            "use --without_data")
        folder.rename(out)
    return size


def build_parser() -> argparse.ArgumentParser:
    """Makes the command-line parser."""
    lines = __doc__.splitlines()
    parser = UsageParser(prog="scripts/gpu_pack.sh", description=lines[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder that does not exist")
    parser.add_argument("--data_dir", type=Path, default=Path(default_data_dir()))
    parser.add_argument("--without_data", action="store_true", help="packs no licensed data")
    parser.add_argument("--small", action="store_true", help="for a test on a CPU")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Makes the pack; returns 0, or 1 if it cannot be made."""
    args = build_parser().parse_args(argv)
    try:
        size = make_pack(args.out, args.data_dir, not args.without_data, args.small)
    except (PackError, TrackError, DataError, OSError) as error:
        print(f"scripts/gpu_pack.sh: {error}", file=sys.stderr)
        return 1
    print(f"{args.out}: {size / 1e6:.1f} MB; on that machine, run: python {args.out.name}/run.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
