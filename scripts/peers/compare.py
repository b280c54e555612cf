"""Runs the peers side by side and prints the tables; see `scripts/peers.sh --help`.

One process per measurement; in each round every setting is measured by one peer after
the other, so that what is compared stands next to each other in time. The lines are
kept under `.peers/results` as they come, with what the processes said beside them.
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
from typing import Any, Sequence

from compliance.tracks import Track, TrackError, load_track
from harness.base import machine
from harness.config.engine_loader import EngineError, check_engine_name
from harness.config.run_config import default_data_dir
from harness.config.trial_spec import dataset_spec
from reference_model.base.errors import DataError
from reference_model.data.prepare import load_split
from reference_model.data.split import Split
from scripts.peers import summary, versions
from scripts.peers.environments import FOLDER, PeerError, environment, garden_data, python_of
from scripts.peers.jobs import MODELS, PEERS, SETTINGS, Job, Setting
from scripts.peers.processes import end, last_words

_MODULES = {
    "model-garden": "scripts.peers.model_garden",
    "keras": "scripts.peers.keras_fit",
    "ours": "scripts.peers.ours",
}
# Pairs in one call of an evaluation, each peer's best when they were tried; ours: the
# track's own.
_EVAL_BATCH = {
    "model-garden": {"large": 160_000, "small": 160_000},
    "keras": {"large": 8_000, "small": 40_000},
}
# The model garden knows the sizes of this dataset by heart.
_GARDEN_SIZES = (6040, 3706)


class Parser(argparse.ArgumentParser):
    """Usage errors are one line and exit code 1, as everywhere in this project."""

    def error(self, message: str):
        raise PeerError(message)


def parser() -> Parser:
    made = Parser(
        prog="scripts/peers.sh",
        description="Compares this project's speed with its peers' on the same data and sizes.",
    )

    def names(known: Sequence[str]):
        def parse(text: str) -> list[str]:
            chosen = text.split(",")
            for name in chosen:
                if name not in known:
                    raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
            return [name for name in known if name in chosen]

        return parse

    add = made.add_argument
    add("--peers", type=names(PEERS), default=list(PEERS), help=",".join(PEERS))
    add("--settings", type=names(list(SETTINGS)), default=list(SETTINGS), help=",".join(SETTINGS))
    add("--rounds", type=int, default=5, help="how often each is measured (5)")
    add("--seconds", type=float, default=6.0, help="training per measurement, at least (6)")
    add("--engine", default="fused", help="our engine, as the harness takes it (fused)")
    add("--track", default="ml-1m", help="dataset, hyperparameters and target (ml-1m)")
    add("--data_dir", default=None, help="as the harness takes it")
    add("--model_garden_python", default=None, help="use this Python, make no environment")
    add("--model_garden_flags", default="", help="more flags for its ncf_keras_main")
    add("--patience", type=float, default=1.0, help="times the time limits (1)")
    add("--output", type=Path, default=None, help="keep the lines here (.peers/results/...)")
    add("--versions", type=lambda text: text.split(","), default=None, metavar="OLD,NEW",
        help="compare versions of ours (folders or revisions) with each other instead")  # fmt: skip
    add("--set_up", action="store_true", help="make environments and data, measure nothing")
    add("--summarize", type=Path, nargs="+", metavar="FILE", help="print tables of kept lines")
    return made


def job_of(
    peer: str, setting: Setting, round_: int, track: Track, split: Split,
    chosen: argparse.Namespace, garden: str,
) -> Job:  # fmt: skip
    """What this peer is asked to do in this round."""
    mf_dim, mlp_layers = MODELS[setting.model]
    if setting.goal != "train":
        mf_dim, mlp_layers = track.model.mf_dim, tuple(track.model.mlp_layers)
    hyper = track.hyperparameters
    pairs = _EVAL_BATCH.get(peer, {}).get(setting.model, hyper.eval_batch_size)
    return Job(
        peer=peer,
        setting=setting.name,
        goal=setting.goal,
        track=chosen.track,
        data_dir=str(chosen.data_dir),
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
        eval_batch_size=pairs,
        learning_rate=hyper.learning_rate,
        beta1=hyper.beta1,
        beta2=hyper.beta2,
        epsilon=hyper.epsilon,
        target=track.target,
        max_epochs=track.max_epochs,
        seed=round_,
        seconds=chosen.seconds,
        evaluate=setting.evaluate,
        engine=chosen.engine,
        garden_dir=garden,
        garden_epochs=setting.garden_epochs,
        garden_flags=tuple(shlex.split(chosen.model_garden_flags)),
    )


def run_job(job: Job, python: str, timeout_s: float, log: Path) -> dict[str, Any]:
    """The line that a peer's process prints; one with `error` where it fails."""
    failed = {"peer": job.peer, "setting": job.setting}
    log.parent.mkdir(parents=True, exist_ok=True)
    # A file for the answer, not a pipe, which a child left over would keep open.
    with log.open("wb") as output, tempfile.TemporaryFile() as answer:
        child = subprocess.Popen(
            [python, "-m", _MODULES[job.peer]], stdin=subprocess.PIPE, stdout=answer,
            stderr=output, env=environment(job.peer), start_new_session=True,
        )  # fmt: skip
        try:
            with contextlib.suppress(BrokenPipeError):  # it says why in its log
                child.stdin.write(job.to_json().encode())
                child.stdin.close()
            child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return {**failed, "error": f"no answer within {timeout_s:g} s (output: {log})"}
        finally:
            end(child)
        answer.seek(0)
        said = answer.read()
    try:
        return json.loads(said)
    except ValueError:
        return {**failed, "error": f"exit code {child.returncode}: {last_words(log)}"}


def told(line: dict[str, Any], seconds: float) -> str:
    """One measurement in a few words."""
    parts, goal = [], SETTINGS[line["setting"]].goal
    for figure in summary.FIGURES:
        if goal in figure.goals and line.get(figure.key) is not None:
            parts.append(f"{line[figure.key] * figure.scale:.{figure.digits}f} {figure.title}")
    return line.get("error") or f"{', '.join(parts)}; took {seconds:.0f} s"


def prepared(chosen: argparse.Namespace) -> tuple[Track, Split, dict[str, str], str]:
    """(track, split, Python of each peer, the model garden's folder); all untimed."""
    if chosen.rounds < 1 or not (chosen.seconds > 0 and chosen.patience > 0):
        raise PeerError("--rounds must be at least 1, --seconds and --patience above 0")
    chosen.data_dir = Path(chosen.data_dir or default_data_dir()).absolute()
    track = load_track(chosen.track)
    if "target" in chosen.settings and track.target is None:
        raise PeerError(f"track {track.name} has no target; leave it out of --settings")
    if "ours" in chosen.peers:
        check_engine_name(chosen.engine)
    pythons = {peer: python_of(peer, chosen.model_garden_python) for peer in chosen.peers}
    split = load_split(dataset_spec(track), chosen.data_dir)
    garden = ""
    if "model-garden" in chosen.peers:
        if (split.num_users, split.num_items) != _GARDEN_SIZES or track.evaluation.given:
            raise PeerError(
                f"the model garden cannot run track {track.name}: it has the sizes of ml-1m "
                "built in; leave it out with --peers=keras,ours"
            )
        garden = str(garden_data(split, pythons["model-garden"]))
    return track, split, pythons, garden


def compare_versions(chosen: argparse.Namespace) -> int:
    """Versions of ours take turns at the settings that train or sample; prints the table."""
    if chosen.settings == ["target"]:
        raise PeerError("--versions takes turns of epochs, which setting target has not")
    chosen.peers = ["ours"]
    track, split, _, _ = prepared(chosen)
    jobs = [
        job_of("ours", SETTINGS[name], 1, track, split, chosen, "")
        for name in chosen.settings if name != "target"
    ]  # fmt: skip
    output = _output(chosen, datetime.datetime.now(datetime.timezone.utc))
    log = output.with_name(f"{output.stem}-logs")
    print(versions.compare(chosen.versions, jobs, chosen.rounds, log), end="")
    return 0


def _output(chosen: argparse.Namespace, now: datetime.datetime) -> Path:
    """Where this command keeps its lines."""
    return chosen.output or FOLDER / "results" / f"{now:%Y%m%d-%H%M%S}.jsonl"


def compare(chosen: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Measures everything, keeps the lines, prints the tables."""
    track, split, pythons, garden = prepared(chosen)
    if chosen.set_up:
        print("peers: everything is set up")
        return 0
    now = datetime.datetime.now(datetime.timezone.utc)
    output = _output(chosen, now)
    keep(output, about(now, arguments), "session")
    failed: set[tuple[str, str]] = set()
    for round_ in range(1, chosen.rounds + 1):
        for name in chosen.settings:
            setting = SETTINGS[name]
            for peer in chosen.peers:
                if peer not in setting.peers or (name, peer) in failed:
                    continue
                job = job_of(peer, setting, round_, track, split, chosen, garden)
                start = time.perf_counter()
                log = output.with_name(f"{output.stem}-logs") / f"{round_}-{name}-{peer}.log"
                line = run_job(job, pythons[peer], setting.timeout_s * chosen.patience, log)
                keep(output, {"round": round_, **line}, "measurement")
                words = told(line, time.perf_counter() - start)
                print(f"round {round_}/{chosen.rounds} {name} {peer}: {words}", file=sys.stderr)
                if "error" in line:
                    failed.add((name, peer))  # it would fail again, and take its time
    print(summary.text(summary.read(output)), end="")
    print(f"\npeers: the lines are in {output}", file=sys.stderr)
    return 1 if failed else 0


def about(now: datetime.datetime, arguments: Sequence[str]) -> dict[str, Any]:
    """When, where and by which command."""
    source = machine.source_state()
    dirty = " with changes of its own" if source["dirty"] else ""
    return {
        "date": f"{now:%Y-%m-%d %H:%M} UTC",
        "cpu": machine.cpu_model(),
        "cpus": machine.usable_cpus(),
        "environment": machine.environment(),
        "source": f"{(source['commit'] or 'unknown')[:12]}{dirty}",
        "command": shlex.join(["scripts/peers.sh", *arguments]),
    }


def keep(path: Path, line: dict[str, Any], kind: str) -> None:
    """Appends one line at once, so that an interrupted comparison keeps the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"kind": kind, **line}) + "\n")


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    try:
        chosen = parser().parse_args(arguments)
        if chosen.summarize:
            for path in chosen.summarize:
                print(summary.text(summary.read(path)), end="")
            return 0
        return compare_versions(chosen) if chosen.versions else compare(chosen, arguments)
    except (PeerError, EngineError, DataError, TrackError, summary.SummaryError) as error:
        print(f"peers: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"peers: {error.strerror}: {error.filename}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("peers: interrupted; the lines so far are kept", file=sys.stderr)
        return 3


if __name__ == "__main__":
    # As Ctrl-C: the measurement under way is ended, too.
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main(sys.argv[1:]))
