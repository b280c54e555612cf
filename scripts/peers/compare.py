"""Measures the peers and prints the tables of the comparison; see `scripts/peers.sh --help`.

Each measurement runs in its own process. In each round, all peers are measured at a setting one
after the other, so measurements that are compared with each other are close in time. Each
measurement is written at once as a JSON line to a file under `.peers/results`. The logs of the
processes are in a folder next to that file.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, NamedTuple, NoReturn, Sequence

from compliance.tracks import Track, TrackError, load_track
from harness.base import machine
from harness.config.engine_loader import EngineError, check_engine_name
from harness.config.run_config import default_data_dir
from harness.config.trial_spec import dataset_spec
from reference_model.base.errors import DataError
from reference_model.data.prepare import load_split
from reference_model.data.split import Split
from scripts.peers import summary, versions
from scripts.peers.environments import (
    PEERS_FOLDER,
    PeerError,
    find_python,
    process_environment,
    write_garden_data,
)
from scripts.peers.jobs import MODELS, PEERS, SETTINGS, Job, Setting
from scripts.peers.processes import kill_process_group, last_log_line

_MODULES = {
    "model-garden": "scripts.peers.model_garden",
    "keras": "scripts.peers.keras_fit",
    "ours": "scripts.peers.ours",
}
# Scored pairs per evaluation step, by peer and model: the fastest of the values tried. Ours uses
# the track's value.
_EVAL_BATCH_SIZES = {
    "model-garden": {"large": 160_000, "small": 160_000},
    "keras": {"large": 8_000, "small": 40_000},
}
# (Users, items) of ml-1m, which are hard-coded in the model garden.
_GARDEN_SIZES = (6040, 3706)


class Comparison(NamedTuple):
    """Everything that is prepared before the first measurement.

    Attributes:
      track: The track.
      split: Its dataset.
      pythons: The Python of each peer.
      garden_dir: Folder with the dataset in the model garden's format; empty if not needed.
    """

    track: Track
    split: Split
    pythons: dict[str, str]
    garden_dir: str


class _Parser(argparse.ArgumentParser):
    """A parser that reports usage errors in one line with exit code 1, as the whole project."""

    def error(self, message: str) -> NoReturn:
        raise PeerError(message)


def build_parser() -> argparse.ArgumentParser:
    """Creates the parser of the command line."""
    parser = _Parser(
        prog="scripts/peers.sh",
        description="Compares the speed of this project and its peers on the same data and sizes.",
    )

    def list_of(known: Sequence[str]) -> Callable[[str], list[str]]:
        """Returns an argument type: a comma-separated list of known names."""

        def parse(text: str) -> list[str]:
            names = text.split(",")
            for name in names:
                if name not in known:
                    raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
            return [name for name in known if name in names]

        return parse

    add = parser.add_argument
    add("--peers", type=list_of(PEERS), default=list(PEERS), help=",".join(PEERS))
    add("--settings", type=list_of(list(SETTINGS)), default=list(SETTINGS), help=",".join(SETTINGS))
    add("--rounds", type=int, default=5, help="measurements per peer and setting (5)")
    add("--seconds", type=float, default=6.0, help="minimum training per measurement, s (6)")
    add("--engine", default="fused", help="our engine, same as --engine of the harness (fused)")
    add("--track", default="ml-1m", help="dataset, hyperparameters and target (ml-1m)")
    add("--data_dir", default=None, help="same as --data_dir of the harness")
    add("--model_garden_python", default=None, help="use this Python, create no environment")
    add("--model_garden_flags", default="", help="additional flags for its ncf_keras_main")
    add("--patience", type=float, default=1.0, help="factor for all time limits (1)")
    add("--output", type=Path, default=None, help="file for the JSON lines (.peers/results/...)")
    add("--versions", type=lambda text: text.split(","), default=None, metavar="OLD,NEW",
        help="compare versions of ours (folders or revisions) with each other instead")  # fmt: skip
    add("--set_up", action="store_true", help="create environments and data, measure nothing")
    add("--summarize", type=Path, nargs="+", metavar="FILE", help="print the tables of FILE")
    return parser


def make_job(
    peer: str, setting: Setting, round_number: int, args: argparse.Namespace,
    comparison: Comparison,
) -> Job:  # fmt: skip
    """Creates the job of one measurement.

    Args:
      peer: One of PEERS.
      setting: The setting to measure.
      round_number: Counts from 1; also used as the seed.
      args: The command line.
      comparison: Track and dataset.
    """
    track, split = comparison.track, comparison.split
    mf_dim, mlp_layers = MODELS[setting.model]
    # The time to the target is measured with the track's model.
    if setting.goal != "train":
        mf_dim, mlp_layers = track.model.mf_dim, tuple(track.model.mlp_layers)
    hyper = track.hyperparameters
    eval_batch_size = _EVAL_BATCH_SIZES.get(peer, {}).get(setting.model, hyper.eval_batch_size)
    return Job(
        peer=peer,
        setting=setting.name,
        goal=setting.goal,
        track=args.track,
        data_dir=str(args.data_dir),
        digest=split.digest,
        num_users=split.num_users,
        num_items=split.num_items,
        num_positives=split.num_positives,
        mf_dim=mf_dim,
        mlp_layers=mlp_layers,
        train_negatives=track.sampling.train_negatives,
        eval_negatives=track.evaluation.negatives,
        top_k=track.evaluation.top_k,
        batch_size=setting.batch_size or hyper.batch_size,
        eval_batch_size=eval_batch_size,
        learning_rate=hyper.learning_rate,
        beta1=hyper.beta1,
        beta2=hyper.beta2,
        epsilon=hyper.epsilon,
        target=track.target,
        max_epochs=track.max_epochs,
        seed=round_number,
        seconds=args.seconds,
        evaluate=setting.evaluate,
        engine=args.engine,
        garden_dir=comparison.garden_dir,
        garden_epochs=setting.garden_epochs,
        garden_flags=tuple(shlex.split(args.model_garden_flags)),
    )


def run_job(job: Job, python: str, timeout_s: float, log: Path) -> dict[str, Any]:
    """Runs one measurement in its own process.

    Args:
      job: The job of the measurement.
      python: The peer's Python.
      timeout_s: Time limit in seconds; afterwards the process is killed.
      log: File for all output of the process except its answer.

    Returns:
      The JSON line printed by the process; {"peer", "setting", "error"} if it fails.
    """
    failure = {"peer": job.peer, "setting": job.setting}
    log.parent.mkdir(parents=True, exist_ok=True)
    # Write the answer to a file, because a remaining child of the peer would keep a pipe open.
    with log.open("wb") as output, tempfile.TemporaryFile() as answer:
        child = subprocess.Popen(
            [python, "-m", _MODULES[job.peer]], stdin=subprocess.PIPE, stdout=answer,
            stderr=output, env=process_environment(job.peer), start_new_session=True,
        )  # fmt: skip
        try:
            # If the process has already ended, its log contains the reason.
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(job.to_json().encode())
                child.stdin.close()
            child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return {**failure, "error": f"no answer within {timeout_s:g} s (output: {log})"}
        finally:
            kill_process_group(child)
        answer.seek(0)
        text = answer.read()
    try:
        return json.loads(text)
    except ValueError:
        return {**failure, "error": f"exit code {child.returncode}: {last_log_line(log)}"}


def describe_measurement(line: dict[str, Any], seconds: float) -> str:
    """Describes one measurement in one line.

    Args:
      line: The result of `run_job`.
      seconds: Total duration of the measurement.
    """
    parts, goal = [], SETTINGS[line["setting"]].goal
    for quantity in summary.QUANTITIES:
        value = line.get(quantity.key)
        if goal in quantity.goals and value is not None:
            parts.append(f"{value * quantity.scale:.{quantity.digits}f} {quantity.title}")
    return line.get("error") or f"{', '.join(parts)}; took {seconds:.0f} s"


def prepare_comparison(args: argparse.Namespace) -> Comparison:
    """Checks the command line and prepares the dataset and the environments (untimed).

    Args:
      args: The command line; its `data_dir` becomes an absolute path.

    Raises:
      PeerError, EngineError, DataError, TrackError: One line for the user.
    """
    if args.rounds < 1 or not (args.seconds > 0 and args.patience > 0):
        raise PeerError("--rounds must be at least 1, --seconds and --patience above 0")
    args.data_dir = Path(args.data_dir or default_data_dir()).absolute()
    track = load_track(args.track)
    if "target" in args.settings and track.target is None:
        raise PeerError(f"track {track.name} has no target; leave it out of --settings")
    if "ours" in args.peers:
        check_engine_name(args.engine)
    pythons = {peer: find_python(peer, args.model_garden_python) for peer in args.peers}
    split = load_split(dataset_spec(track), args.data_dir)
    garden_dir = ""
    if "model-garden" in args.peers:
        if (split.num_users, split.num_items) != _GARDEN_SIZES or track.evaluation.given:
            raise PeerError(
                f"the model garden cannot run track {track.name}: the sizes of ml-1m are "
                "hard-coded in it; leave it out with --peers=keras,ours"
            )
        garden_dir = str(write_garden_data(split, pythons["model-garden"]))
    return Comparison(track, split, pythons, garden_dir)


def compare_versions(args: argparse.Namespace) -> int:
    """Compares versions of this project at the settings that train or sample.

    Returns:
      The exit code, 0. The table is printed to standard output.
    """
    if args.settings == ["target"]:
        raise PeerError("--versions cannot measure the setting target; choose other --settings")
    args.peers = ["ours"]
    comparison = prepare_comparison(args)
    jobs = [
        make_job("ours", SETTINGS[name], 1, args, comparison)
        for name in args.settings if name != "target"
    ]  # fmt: skip
    output = _output_path(args, datetime.datetime.now(datetime.timezone.utc))
    log_dir = output.with_name(f"{output.stem}-logs")
    print(versions.measure_versions(args.versions, jobs, args.rounds, log_dir), end="")
    return 0


def _output_path(args: argparse.Namespace, now: datetime.datetime) -> Path:
    """Returns the path of the file for the measurements of this command."""
    return args.output or PEERS_FOLDER / "results" / f"{now:%Y%m%d-%H%M%S}.jsonl"


def compare_peers(args: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Measures all peers at all settings, writes the measurements and prints the tables.

    Args:
      args: The parsed command line.
      arguments: The unparsed command line, which is copied to the file of measurements.

    Returns:
      The exit code: 1 if a measurement failed, else 0.
    """
    comparison = prepare_comparison(args)
    if args.set_up:
        print("peers: environments and data are ready")
        return 0
    now = datetime.datetime.now(datetime.timezone.utc)
    output = _output_path(args, now)
    log_dir = output.with_name(f"{output.stem}-logs")
    append_line(output, session_info(now, arguments), "session")
    # (Setting, peer) pairs that failed once are not repeated: they would fail again.
    failed: set[tuple[str, str]] = set()
    for round_number in range(1, args.rounds + 1):
        for name in args.settings:
            setting = SETTINGS[name]
            for peer in args.peers:
                if peer not in setting.peers or (name, peer) in failed:
                    continue
                job = make_job(peer, setting, round_number, args, comparison)
                start = time.perf_counter()
                log = log_dir / f"{round_number}-{name}-{peer}.log"
                timeout_s = setting.timeout_s * args.patience
                line = run_job(job, comparison.pythons[peer], timeout_s, log)
                append_line(output, {"round": round_number, **line}, "measurement")
                text = describe_measurement(line, time.perf_counter() - start)
                progress = f"round {round_number}/{args.rounds} {name} {peer}"
                print(f"{progress}: {text}", file=sys.stderr)
                if "error" in line:
                    failed.add((name, peer))
    print(summary.summary_text(summary.read_session(output)), end="")
    print(f"\npeers: the measurements are in {output}", file=sys.stderr)
    return 1 if failed else 0


def session_info(now: datetime.datetime, arguments: Sequence[str]) -> dict[str, Any]:
    """Describes a comparison: date, machine, source and command."""
    source = machine.source_state()
    dirty = " with uncommitted changes" if source["dirty"] else ""
    return {
        "date": f"{now:%Y-%m-%d %H:%M} UTC",
        "cpu": machine.cpu_model(),
        "cpus": machine.usable_cpus(),
        "environment": machine.environment(),
        "source": f"{(source['commit'] or 'unknown')[:12]}{dirty}",
        "command": shlex.join(["scripts/peers.sh", *arguments]),
    }


def append_line(path: Path, line: dict[str, Any], kind: str) -> None:
    """Appends one JSON line. Call it after each measurement, so an interruption loses nothing.

    Args:
      path: The file of measurements; its folder is created.
      line: JSON values.
      kind: "session" or "measurement".
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"kind": kind, **line}) + "\n")


def _raise_interrupt(*_: object) -> None:
    """A signal handler with the effect of Ctrl-C."""
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Runs the comparison selected by the arguments; returns the exit code."""
    try:
        args = build_parser().parse_args(arguments)
        if args.summarize:
            for path in args.summarize:
                print(summary.summary_text(summary.read_session(path)), end="")
            return 0
        return compare_versions(args) if args.versions else compare_peers(args, arguments)
    except (PeerError, EngineError, DataError, TrackError, summary.SummaryError) as error:
        print(f"peers: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"peers: {error.strerror}: {error.filename}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("peers: interrupted; the measurements so far are kept", file=sys.stderr)
        return 3


if __name__ == "__main__":
    # SIGTERM also ends the current measurement.
    signal.signal(signal.SIGTERM, _raise_interrupt)
    sys.exit(main(sys.argv[1:]))
