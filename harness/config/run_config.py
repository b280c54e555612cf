"""The frozen, validated settings of one set of runs.

An invalid flag value raises ConfigError here, with one sentence, before any file is
written or process started. `RunConfig` is passed to the trial process as JSON.
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

from compliance.tracks import DIVISIONS, Track, TrackError, load_track
from compliance.tracks.track import V05_FIRST_50
from harness.base import machine
from harness.config.device_flags import device_settings, runtime_settings
from harness.config.engine_loader import BUILTIN_ENGINES
from harness.config.flag_values import (
    ConfigError,
    default_data_dir,
    get_choice,
    get_decay_rate,
    get_directory,
    get_finite_number,
    get_optional_directory,
    get_positive_float,
    get_positive_int,
    get_text,
)
from harness.config.score_notes import required_runs, score_notes
from reference_model.base.config import OPTIMIZERS, PRECISIONS
from reference_model.base.urls import is_url

CACHE_MODES = ("auto", "require", "skip")
LOG_FORMATS = ("mllog", "v0.5")
# Source of the batches: the engine itself, TFRecord shards that were written before the
# clock started, or shards that each run writes while its clock runs.
INPUTS = ("generated", "shards", "timed_shards")
DEFAULT_ENGINE = "fused"

# The user's own engine, as `module:Class`.
_CUSTOM_ENGINE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_SYSTEM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")

# Fields in which the runs of one set may differ: paths, output and the number of runs.
_FIELDS_OF_ONE_CALL = frozenset({
    "clear_caches", "data_dir", "data_url", "export", "keep_checkpoint", "name", "notes",
    "num_runs", "overwrite", "prepare_only", "program_cache", "programs", "quiet", "results_dir",
    "resume", "system", "tensorboard_dir", "track_ref",
})  # fmt: skip


@dataclass(frozen=True)
class RunConfig:
    """The settings of one set of runs; every field is validated.

    Most fields correspond to the flag of the same name. Paths are absolute.

    Attributes:
      track_ref: Name or absolute path that loads the track on any machine.
      benchmark: Name of the folder of results, such as "ncf-ml-1m".
      required_runs: Number of runs that a score requires: the track's, or a larger `num_runs`.
        Every log records it, so that the number is fixed before the first run.
      data_dir: Folder of the datasets; the local mirror if `data_url` is set.
      data_url: `--data_dir` if it is a URL, else None.
      base_seed: `--seed`; None draws each run's seed from the operating system.
      num_devices: Devices of this machine; None for all.
      intra_op_threads: Threads per operation; None for TensorFlow's default.
      inter_op_threads: Concurrent operations; None for TensorFlow's default.
      batch_size: Examples per step, over all devices.
      eval_batch_size: Scored pairs per step, over all devices, rounded up to whole users.
      target: Hit rate that ends a run; None makes the set unscored.
      name: Makes the set an experiment and is part of its folder's name; None if not given.
      runtime: `--runtime`: "auto", "tensorflow" or "pjrt".
      programs: Folder of exported programs; None traces them.
      export: Folder to which the programs are written instead of running the set.
      program_cache: Folder that keeps lowered and compiled programs; None keeps none.
      notes: Remarks on the settings, for the console.
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
    name: str | None = None
    runtime: str = "auto"
    programs: str | None = None
    export: str | None = None
    program_cache: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_experiment(self) -> bool:
        """Whether the set cannot be a result: a complete, scored set of the closed division."""
        is_scored_dialect = self.log_format == "mllog" or self.track.scoring == V05_FIRST_50
        return (
            self.name is not None
            or self.division != "closed"
            or not self.track.runs <= self.num_runs <= self.track.most_runs
            or self.target is None
            or self.profile_dir is not None
            or self.synthetic_batches
            or not is_scored_dialect
        )

    @property
    def track(self) -> Track:
        """The track, read from its file, which harness and checker share."""
        return load_track(self.track_ref)

    @property
    def system_dir(self) -> Path:
        """Folder of all results of this system."""
        return Path(self.results_dir) / self.system

    @property
    def deterministic(self) -> bool:
        """Whether runs must be bitwise reproducible, as `--seed` requires; this costs speed."""
        return self.base_seed is not None

    def to_json(self) -> str:
        """Returns the settings as a JSON object."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "RunConfig":
        """Reads the output of `to_json`."""
        values = json.loads(text)
        return cls(**{**values, "notes": tuple(values["notes"])})

    def shared_settings(self) -> dict[str, Any]:
        """Returns the settings that all runs of one set must share.

        Returns:
          Fields by name; "track_file", the SHA-256 of the track's file in hex; and, with
          exported programs, "programs", the SHA-256 of their manifest.
        """
        values = dataclasses.asdict(self)
        settings = {key: values[key] for key in values if key not in _FIELDS_OF_ONE_CALL}
        track_file = Path(self.track.path).read_bytes()
        settings["track_file"] = hashlib.sha256(track_file).hexdigest()
        if self.programs is not None:  # the digest of `ProgramFolder`; the path may differ
            manifest = Path(self.programs, "manifest.json").read_bytes()
            settings["programs"] = hashlib.sha256(manifest).hexdigest()
        return settings


def make_config(flags: Mapping[str, Any]) -> RunConfig:
    """Turns the values of the harness flags into a RunConfig.

    Args:
      flags: Values by name; None if a flag was not given.

    Raises:
      ConfigError: A flag is invalid; the message is one line for the user.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    track, track_ref = _load_track(given.get("track", "ml-100k"))
    notes: list[str] = []
    division = _choose_division(given, track, track_ref, notes)
    hyper = track.hyperparameters
    batch_size = get_positive_int(given, "batch_size", hyper.batch_size)
    num_runs = get_positive_int(given, "num_runs", track.runs)
    log_format = get_choice(given, "log_format", LOG_FORMATS, "mllog")
    notes += score_notes(given, track, num_runs, log_format)
    if given.get("synthetic_batches") and given.get("prepare_only"):
        raise ConfigError("--prepare_only: with --synthetic_batches there is nothing to prepare")
    if given.get("resume") and given.get("overwrite"):
        raise ConfigError("--resume and --overwrite cannot be combined; remove one of them")
    return RunConfig(
        track_ref=track_ref,
        track_name=track.name,
        benchmark=track.benchmark,
        division=division,
        required_runs=required_runs(track, num_runs),
        num_runs=num_runs,
        **_data_location(given),
        results_dir=get_directory(given, "results_dir", "results"),
        system=_system_name(given),
        base_seed=_check_seed(given),
        **device_settings(given),
        engine=_check_engine(given),
        input=_check_input(given),
        synthetic_batches=bool(given.get("synthetic_batches")),
        precision=get_choice(given, "precision", PRECISIONS, "float32"),
        batch_size=batch_size,
        eval_batch_size=_round_eval_batch_size(given, track, notes),
        learning_rate=get_positive_float(given, "learning_rate", hyper.learning_rate),
        beta1=get_decay_rate(given, "beta1", hyper.beta1),
        beta2=get_decay_rate(given, "beta2", hyper.beta2),
        epsilon=get_positive_float(given, "epsilon", hyper.epsilon),
        optimizer=get_choice(given, "optimizer", OPTIMIZERS, hyper.optimizer),
        max_epochs=_check_max_epochs(given, track, division),
        target=_check_target(given, track, division),
        clear_caches=get_choice(given, "clear_caches", CACHE_MODES, "auto"),
        log_format=log_format,
        resume=bool(given.get("resume")),
        overwrite=bool(given.get("overwrite")),
        prepare_only=bool(given.get("prepare_only")),
        profile_dir=_profile_dir(given, notes),
        tensorboard_dir=get_optional_directory(given, "tensorboard_dir"),
        keep_checkpoint=bool(given.get("keep_checkpoint")),
        org=get_text(given, "org", "unknown"),
        quiet=bool(given.get("quiet")),
        name=_check_name(given),
        **runtime_settings(given),
        notes=tuple(notes),
    )


def _check_name(given: Mapping[str, Any]) -> str | None:
    """Returns `--name`, which becomes part of a folder's name."""
    name = given.get("name")
    if name is not None and not _SYSTEM_NAME.fullmatch(name):
        raise ConfigError(
            f"--name={name!r}: use up to 64 letters, digits, '.', '_', '+' and '-', starting "
            "with a letter or digit"
        )
    return name


def _data_location(given: Mapping[str, Any]) -> dict[str, str | None]:
    """Returns `data_dir` and `data_url`: a folder, or a URL and its local mirror."""
    url = given.get("data_dir", "")
    if not is_url(url):
        return {"data_dir": get_directory(given, "data_dir", default_data_dir()), "data_url": None}
    url = get_text(given, "data_dir", "").strip().rstrip("/")
    # The mirror's name is a digest of the URL, since the URL may contain characters that
    # file names must not contain.
    mirror = os.path.join("mirrors", hashlib.sha256(url.encode()).hexdigest()[:16])
    mirror_dir = get_directory({}, "data_dir", os.path.join(default_data_dir(), mirror))
    return {"data_dir": mirror_dir, "data_url": url}


def _check_input(given: Mapping[str, Any]) -> str:
    """Returns `--input`; checks it against --synthetic_batches and --seed."""
    value = get_choice(given, "input", INPUTS, "generated")
    if value != "generated" and given.get("synthetic_batches"):
        raise ConfigError(f"--input={value} and --synthetic_batches cannot be combined")
    if value == "shards" and given.get("seed") is None:
        raise ConfigError(
            "--input=shards: shards are prepared for the seeds of a set; give the same --seed=N "
            "to --prepare_only and to the runs"
        )
    return value


def _load_track(ref: str) -> tuple[Track, str]:
    """Returns the track, and the name or absolute path that loads it from any folder."""
    is_path = os.sep in ref or ref.endswith((".yaml", ".yml"))
    try:
        track = load_track(ref)
    except TrackError as error:
        raise ConfigError(f"--track={ref}: {error}") from None
    except OSError as error:
        raise ConfigError(f"--track={ref}: {error.strerror or error}") from None
    return track, (os.path.abspath(ref) if is_path else ref)


def _choose_division(
    given: Mapping[str, Any], track: Track, track_ref: str, notes: list[str]
) -> str:
    """Returns "closed" unless a setting makes the set open; adds a note with the reason."""
    reasons = []
    if os.path.isabs(track_ref):
        reasons.append("--track is a file of your own")
    elif track.division_default == "open":
        reasons.append(f"track {track.name} is always open")
    if given.get("seed") is not None:
        reasons.append("--seed chooses the seeds")
    if given.get("synthetic_batches"):
        reasons.append("--synthetic_batches uses no dataset")
    if given.get("input") == "shards":
        reasons.append("--input=shards trains on negatives drawn before the clock started")
    wanted = get_choice(given, "division", DIVISIONS, "open" if reasons else "closed")
    if wanted == "closed" and reasons:
        raise ConfigError(
            f"--division=closed is not possible: {reasons[0]}; remove --division=closed"
        )
    if wanted == "open":
        notes.append(f"open division: {'; '.join(reasons or ['as --division asks'])}; the set is "
                     "an experiment and replaces no result")
    return wanted


def _check_max_epochs(given: Mapping[str, Any], track: Track, division: str) -> int:
    """Returns the epoch cap; the closed division may only lower the track's cap."""
    value = get_positive_int(given, "max_epochs", track.max_epochs)
    if division == "closed" and value > track.max_epochs:
        raise ConfigError(
            f"--max_epochs={value}: the closed division may only lower the cap of "
            f"{track.max_epochs} epochs; lower it or use --division=open"
        )
    return value


def _check_target(given: Mapping[str, Any], track: Track, division: str) -> float | None:
    """Returns the hit rate to reach; None if runs are unscored."""
    if given.get("synthetic_batches"):
        if given.get("target") is not None:
            raise ConfigError("--target and --synthetic_batches cannot be combined")
        return None
    if given.get("target") is None:
        return track.target
    if division == "closed":
        raise ConfigError(
            "--target: the closed division uses the track's target "
            f"({track.target}); remove --target or use --division=open"
        )
    value = get_finite_number(given, "target", None)
    if not 0 < value <= 1:
        raise ConfigError(f"--target={given['target']}: use a hit rate in (0, 1]")
    return value


def _round_eval_batch_size(given: Mapping[str, Any], track: Track, notes: list[str]) -> int:
    """Returns the scored pairs per step, rounded up so that no user's list is split."""
    pairs_per_user = track.evaluation.negatives + 1
    value = get_positive_int(given, "eval_batch_size", track.hyperparameters.eval_batch_size)
    rounded = -(-value // pairs_per_user) * pairs_per_user
    if rounded != value and "eval_batch_size" in given:
        notes.append(
            f"--eval_batch_size={value} rounded up to {rounded}: whole users with "
            f"{pairs_per_user} pairs each"
        )
    return rounded


def _system_name(given: Mapping[str, Any]) -> str:
    """Returns `--system`, or a name derived from the machine; it names a folder."""
    value = given.get("system")
    if value is None:
        value = machine.default_system_name(given.get("device", "auto"))
    if not _SYSTEM_NAME.fullmatch(value):
        raise ConfigError(
            f"--system={value!r}: it names a folder; use up to 64 letters, digits, "
            "'.', '_', '+' and '-', starting with a letter or digit"
        )
    return value


def _check_engine(given: Mapping[str, Any]) -> str:
    """Returns `--engine`; checks its form, and the precision of the reference engine."""
    value = given.get("engine", DEFAULT_ENGINE)
    if value not in BUILTIN_ENGINES and not _CUSTOM_ENGINE.fullmatch(value):
        raise ConfigError(
            f"--engine={value}: use {', '.join(BUILTIN_ENGINES)}, or module:Class for an "
            "engine of your own"
        )
    if value == "reference" and given.get("precision", "float32") != "float32":
        raise ConfigError(
            f"--precision={given['precision']}: --engine=reference computes in float32; "
            "remove --engine to use the fused engine"
        )
    return value


def _check_seed(given: Mapping[str, Any]) -> int | None:
    """Returns `--seed`; None if it was not given."""
    value = given.get("seed")
    if value is not None and not 0 <= value < 2**63:
        raise ConfigError(f"--seed={value}: use a whole number from 0 to 2^63 - 1")
    return value


def _profile_dir(given: Mapping[str, Any], notes: list[str]) -> str | None:
    """Returns `--profile_dir`; adds a note that profiled runs are unscored."""
    path = get_optional_directory(given, "profile_dir")
    if path is not None:
        notes.append("--profile_dir: profiled runs are unscored")
    return path
