"""The frozen, validated settings of one set of runs.

Everything that a flag can get wrong ends here with one sentence, before a file
is made or a process started. `RunConfig` travels to the trial process as JSON.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from compliance.tracks import Track, TrackError, load_track
from harness.base import machine
from harness.config.device_flags import device_settings
from harness.config.flag_values import (
    ConfigError,
    below_one,
    choice,
    directory,
    is_url,
    number,
    optional_directory,
    positive_float,
    positive_int,
    text,
)

PRECISIONS = ("float32", "tf32", "bfloat16")
OPTIMIZERS = ("adam", "lazy_adam")
DIVISIONS = ("closed", "open")
CACHE_MODES = ("auto", "require", "skip")
LOG_FORMATS = ("mllog", "v0.5")
# Where batches come from: the step itself, TFRecord shards that were written
# before the clock, or from shards that each run writes under the clock.
INPUTS = ("generated", "shards", "timed_shards")
DEFAULT_ENGINE = "fused"
BUILTIN_ENGINES = ("fused", "reference")

_VENDOR_ENGINE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_SYSTEM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


@dataclass(frozen=True)
class RunConfig:
    """What one set of runs does; every field is final and checked.

    `batch_size` and `eval_batch_size` are global, the latter in scored pairs and
    already rounded up to whole users. `num_devices` None means all. `target` None
    means that nothing is reached and the set is unscored. `base_seed` None means that
    each trial's seed comes from the operating system. Paths are absolute; where
    `--data_dir` is a URL, `data_url` is it, and `data_dir` its mirror on this machine.
    """

    track_ref: str
    track_name: str
    benchmark: str
    division: str
    required_runs: int
    num_runs: int
    data_dir: str
    data_url: str | None
    results_dir: str
    system: str
    base_seed: int | None
    device: str
    num_devices: int | None
    strategy: str
    tpu: str | None
    tpu_zone: str | None
    tpu_project: str | None
    intra_op_threads: int | None
    inter_op_threads: int | None
    engine: str
    input: str
    synthetic_batches: bool
    precision: str
    batch_size: int
    eval_batch_size: int
    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float
    optimizer: str
    max_epochs: int
    target: float | None
    clear_caches: str
    log_format: str
    resume: bool
    overwrite: bool
    prepare_only: bool
    profile_dir: str | None
    tensorboard_dir: str | None
    keep_checkpoint: bool
    org: str
    quiet: bool
    notes: tuple[str, ...] = ()

    @property
    def track(self) -> Track:
        """The track's file, read again: one file serves harness and checker."""
        return load_track(self.track_ref)

    @property
    def system_dir(self) -> Path:
        return Path(self.results_dir) / self.system

    @property
    def deterministic(self) -> bool:
        """A given seed asks for a repeatable run, which costs a little speed."""
        return self.base_seed is not None

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "RunConfig":
        values = json.loads(text)
        return cls(**{**values, "notes": tuple(values["notes"])})

    def set_settings(self) -> dict[str, Any]:
        """The settings that all runs of one set must share."""
        volatile = {"data_dir", "results_dir", "system", "resume", "overwrite", "quiet"}
        volatile |= {"data_url"}
        volatile |= {"prepare_only", "num_runs", "notes", "track_ref", "clear_caches"}
        volatile |= {"keep_checkpoint", "tensorboard_dir"}
        values = dataclasses.asdict(self)
        settings = {key: values[key] for key in values if key not in volatile}
        track_file = Path(self.track.path).read_bytes()
        return {**settings, "track_file": hashlib.sha256(track_file).hexdigest()}


def default_data_dir() -> str:
    """`${XDG_CACHE_HOME:-~/.cache}/neumf-bench`."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(_home(), ".cache")
    return os.path.join(base, "neumf-bench")


def _home() -> str:
    """The home directory; the current directory where there is none."""
    home = os.path.expanduser("~")
    return home if os.path.isabs(home) else os.getcwd()


def make_config(flags: Mapping[str, Any]) -> RunConfig:
    """Turns the values of the harness flags (None: not given) into a RunConfig.

    Raises:
      ConfigError: with one line for the user.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    track, track_ref = _load_track(given.get("track", "ml-100k"))
    notes: list[str] = []
    division = _division(given, track, track_ref, notes)
    hyper = track.hyperparameters
    batch_size = positive_int(given, "batch_size", hyper.batch_size)
    num_runs = positive_int(given, "num_runs", track.runs)
    if given.get("synthetic_batches") and given.get("prepare_only"):
        raise ConfigError("--prepare_only: with --synthetic_batches there is nothing to prepare")
    if given.get("resume") and given.get("overwrite"):
        raise ConfigError("--resume and --overwrite exclude each other; give one of them")
    return RunConfig(
        track_ref=track_ref,
        track_name=track.name,
        benchmark=track.benchmark,
        division=division,
        required_runs=track.runs,
        num_runs=num_runs,
        **_data_place(given),
        results_dir=directory(given, "results_dir", "results"),
        system=_system_name(given),
        base_seed=_seed(given),
        **device_settings(given),
        engine=_engine(given),
        input=_input(given),
        synthetic_batches=bool(given.get("synthetic_batches")),
        precision=choice(given, "precision", PRECISIONS, "float32"),
        batch_size=batch_size,
        eval_batch_size=_eval_batch_size(given, track, notes),
        learning_rate=positive_float(given, "learning_rate", hyper.learning_rate),
        beta1=below_one(given, "beta1", hyper.beta1),
        beta2=below_one(given, "beta2", hyper.beta2),
        epsilon=positive_float(given, "epsilon", hyper.epsilon),
        optimizer=choice(given, "optimizer", OPTIMIZERS, hyper.optimizer),
        max_epochs=_max_epochs(given, track, division),
        target=_target(given, track, division),
        clear_caches=choice(given, "clear_caches", CACHE_MODES, "auto"),
        log_format=choice(given, "log_format", LOG_FORMATS, "mllog"),
        resume=bool(given.get("resume")),
        overwrite=bool(given.get("overwrite")),
        prepare_only=bool(given.get("prepare_only")),
        profile_dir=_profile_dir(given, notes),
        tensorboard_dir=optional_directory(given, "tensorboard_dir"),
        keep_checkpoint=bool(given.get("keep_checkpoint")),
        org=text(given, "org", "unknown"),
        quiet=bool(given.get("quiet")),
        notes=tuple(notes),
    )


def _data_place(given: Mapping[str, Any]) -> dict[str, str | None]:
    """Where the data is: a folder, or a URL and the folder that mirrors it here."""
    url = given.get("data_dir", "")
    if not is_url(url):
        return {"data_dir": directory(given, "data_dir", default_data_dir()), "data_url": None}
    url = text(given, "data_dir", "").strip().rstrip("/")
    mirror = os.path.join("mirrors", hashlib.sha256(url.encode()).hexdigest()[:16])
    here = directory({}, "data_dir", os.path.join(default_data_dir(), mirror))
    return {"data_dir": here, "data_url": url}


def _input(given: Mapping[str, Any]) -> str:
    value = choice(given, "input", INPUTS, "generated")
    if value != "generated" and given.get("synthetic_batches"):
        raise ConfigError(f"--input={value} and --synthetic_batches exclude each other")
    if value == "shards" and given.get("seed") is None:
        raise ConfigError(
            "--input=shards: shards are prepared for the seeds of a set; give the same --seed=N "
            "to --prepare_only and to the runs"
        )
    return value


def _load_track(ref: str) -> tuple[Track, str]:
    """The track and the name or absolute path that loads it again anywhere."""
    is_path = os.sep in ref or ref.endswith((".yaml", ".yml"))
    try:
        track = load_track(ref)
    except TrackError as error:
        raise ConfigError(f"--track={ref}: {error}") from None
    except OSError as error:
        raise ConfigError(f"--track={ref}: {error.strerror or error}") from None
    return track, (os.path.abspath(ref) if is_path else ref)


def _division(
    given: Mapping[str, Any], track: Track, track_ref: str, notes: list[str]
) -> str:
    """Closed unless something makes the set open; says what did."""
    reasons = []
    if os.path.isabs(track_ref):
        reasons.append("--track is a file of your own")
    elif track.division_default == "open":
        reasons.append(f"track {track.name} is always open")
    if given.get("seed") is not None:
        reasons.append("--seed chooses the seeds")
    if given.get("synthetic_batches"):
        reasons.append("--synthetic_batches trains on no dataset")
    if given.get("input") == "shards":
        reasons.append("--input=shards trains on negatives that were drawn before the clock")
    wanted = choice(given, "division", DIVISIONS, "open" if reasons else "closed")
    if wanted == "closed" and reasons:
        raise ConfigError(
            f"--division=closed cannot be: {reasons[0]}; leave out --division=closed"
        )
    if reasons and given.get("division") is None:
        notes.append(f"open division: {'; '.join(reasons)}")
    return wanted


def _max_epochs(given: Mapping[str, Any], track: Track, division: str) -> int:
    value = positive_int(given, "max_epochs", track.max_epochs)
    if division == "closed" and value > track.max_epochs:
        raise ConfigError(
            f"--max_epochs={value}: the closed division may only lower the cap of "
            f"{track.max_epochs} epochs; lower it or use --division=open"
        )
    return value


def _target(given: Mapping[str, Any], track: Track, division: str) -> float | None:
    if given.get("synthetic_batches"):
        if given.get("target") is not None:
            raise ConfigError("--target: nothing is reached with --synthetic_batches")
        return None
    if given.get("target") is None:
        return track.target
    if division == "closed":
        raise ConfigError(
            "--target: the closed division takes the track's target "
            f"({track.target}); leave it out or use --division=open"
        )
    value = number(given, "target", None)
    if not 0 < value <= 1:
        raise ConfigError(f"--target={given['target']}: a hit rate lies in (0, 1]")
    return value


def _eval_batch_size(given: Mapping[str, Any], track: Track, notes: list[str]) -> int:
    """Scored pairs, rounded up to whole users: one user's list is one unit."""
    pairs_per_user = track.evaluation.negatives + 1
    value = positive_int(given, "eval_batch_size", track.hyperparameters.eval_batch_size)
    rounded = -(-value // pairs_per_user) * pairs_per_user
    if rounded != value and "eval_batch_size" in given:
        notes.append(
            f"--eval_batch_size={value} rounded up to {rounded}: whole users of "
            f"{pairs_per_user} pairs"
        )
    return rounded


def _system_name(given: Mapping[str, Any]) -> str:
    value = given.get("system")
    if value is None:
        value = machine.default_name(given.get("device", "auto"))
    if not _SYSTEM_NAME.fullmatch(value):
        raise ConfigError(
            f"--system={value!r}: it names a folder; use up to 64 letters, digits, "
            "'.', '_', '+' and '-', starting with a letter or digit"
        )
    return value


def _engine(given: Mapping[str, Any]) -> str:
    value = given.get("engine", DEFAULT_ENGINE)
    if value not in BUILTIN_ENGINES and not _VENDOR_ENGINE.fullmatch(value):
        raise ConfigError(
            f"--engine={value}: use {', '.join(BUILTIN_ENGINES)}, or module:Class for an "
            "engine of your own"
        )
    if value == "reference" and given.get("precision", "float32") != "float32":
        raise ConfigError(
            f"--precision={given['precision']}: --engine=reference computes in float32; "
            "leave --engine out for the fused engine"
        )
    return value


def _seed(given: Mapping[str, Any]) -> int | None:
    value = given.get("seed")
    if value is not None and not 0 <= value < 2**63:
        raise ConfigError(f"--seed={value}: use a whole number from 0 to 2^63 - 1")
    return value


def _profile_dir(given: Mapping[str, Any], notes: list[str]) -> str | None:
    path = optional_directory(given, "profile_dir")
    if path is not None:
        notes.append("--profile_dir: profiled runs are unscored")
    return path
