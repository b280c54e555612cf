"""The engine on a track, and what pytest-benchmark measures of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from itertools import count
from typing import Any, Callable

from compliance.tracks import Track, TrackError, load_track
from harness.config.engine_loader import EngineError, check_engine_name, make_engine
from harness.config.flag_values import default_data_dir
from harness.config.trial_spec import dataset_spec, track_engine_settings
from harness.regression.measuring import measure
from reference_model.base.config import EngineConfig
from reference_model.base.errors import DataError
from reference_model.data.prepare import load_split, prepare_split
from reference_model.data.split import Split
from reference_model.engine import Engine, EvalResult, TrainResult
from reference_model.events import NullSink

SEED = 7


class SubjectError(Exception):
    """The engine or the track cannot be used; the message is one line for the user."""


@dataclass(frozen=True)
class Workplace:
    """An engine with its track, compiled and loaded once for a call of pytest.

    Attributes:
      engine_name: The value of `--neumf-engine`.
      track: The track.
      split: Its dataset.
      config: The engine's settings.
      engine: The engine, after `prepare`.
      device: The device type.
    """

    engine_name: str
    track: Track
    split: Split
    config: EngineConfig
    engine: Engine
    device: str

    @property
    def version(self) -> str:
        """The version of the input; times with other data or settings are not comparable."""
        config = self.config
        layers = "-".join(map(str, config.mlp_layers))
        return (f"{self.track.name} {self.split.digest[:16]} mf {config.mf_dim} layers {layers} "
                f"batch {config.batch_size} negatives {config.train_negatives} and "
                f"{config.eval_negatives} {config.precision} on {self.device}")  # fmt: skip


def open_workplace(
    engine_name: str, track_name: str, data_dir: str | None, device: str, settings: dict[str, Any]
) -> Workplace:
    """Prepares the track's data if necessary, and compiles the engine.

    Args:
      engine_name: fused, reference or module:Class.
      track_name: A built-in track, or the path of a track file.
      data_dir: Folder of the datasets; None for the harness's default.
      device: TensorFlow's device type in lower case, such as "cpu".
      settings: Fields of `EngineConfig` that replace the track's.

    Raises:
      SubjectError: The engine, the track or its data cannot be used.
    """
    folder = data_dir or default_data_dir()
    try:
        track = load_track(track_name)
        check_engine_name(engine_name)
        prepare_split(dataset_spec(track), folder)
        split = load_split(dataset_spec(track), folder)
        config = _engine_config(track, split, settings)
        _check_device(device)
        engine = make_engine(engine_name, config, NullSink(), device)
        engine.prepare()
    except (DataError, EngineError, TrackError, ValueError) as error:
        raise SubjectError(str(error)) from error
    except OSError as error:
        raise SubjectError(f"{error.filename or folder}: {error.strerror or error}") from error
    return Workplace(engine_name, track, split, config, engine, device)


def _check_device(device: str) -> None:
    """Raises ValueError if TensorFlow has no such device; it would use the CPU without a word."""
    import tensorflow as tf

    found = sorted({each.device_type.lower() for each in tf.config.list_physical_devices()})
    if device not in found:
        raise ValueError(
            f"--neumf-device={device}: TensorFlow finds no such device; use one of "
            f"{', '.join(found)}"
        )


def _engine_config(track: Track, split: Split, settings: dict[str, Any]) -> EngineConfig:
    """Returns the engine's settings: the track's, replaced by those of the user."""
    known = {field.name for field in fields(EngineConfig)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ValueError(f"neumf_settings: {unknown[0]} is not a field of EngineConfig; the fields "
                         f"are {', '.join(sorted(known))}")  # fmt: skip
    values = {
        "num_users": split.num_users,
        "num_items": split.num_items,
        "num_positives": split.num_positives,
        **track_engine_settings(track),
        **asdict(track.hyperparameters),
        **settings,
    }
    return EngineConfig(**values)


class Subject:
    """What the fixture `neumf` returns: measures the engine in one benchmark of a test.

    Args:
      workplace: The engine and its track.
      benchmark: pytest-benchmark's fixture; one test measures once.

    Attributes:
      engine: The engine.
      track: The track.
      split: The track's dataset.
      config: The engine's settings.
    """

    def __init__(self, workplace: Workplace, benchmark: Any) -> None:
        self._workplace, self._benchmark = workplace, benchmark
        self.engine, self.track = workplace.engine, workplace.track
        self.split, self.config = workplace.split, workplace.config

    def measure(
        self, task: Callable[..., Any], group: str = "neumf", version: str = "", rounds: int = 5,
        **options: Any,
    ) -> Any:
        """Measures any task, such as a kernel, on the sizes of the track; returns its result.

        Args:
          task: What is measured.
          group: The group in pytest-benchmark's table.
          version: Added to the version of the input; change it if the task's own input changes.
          rounds: Number of measured rounds.
          **options: Further arguments of `harness.regression.measuring.measure`.
        """
        known = f"{self._workplace.version} {version}".strip()
        facts = {"engine": self._workplace.engine_name, "track": self.track.name, "seed": SEED}
        return measure(self._benchmark, task, group=group, version=known, rounds=rounds,
                       **{**facts, **options})  # fmt: skip

    def train_epoch(self, rounds: int = 3) -> TrainResult:
        """Measures an epoch of training; returns the result of the last one.

        A first epoch is not measured. HR@K after the last epoch is recorded as `hr`.
        """
        self._reload()
        epochs = count(1)
        examples = self.split.num_positives * (1 + self.config.train_negatives)
        result = self.measure(lambda: self.engine.train_epoch(next(epochs)), "train epoch",
                              rounds=rounds, amounts={"examples": examples})  # fmt: skip
        self._benchmark.extra_info.update(
            hr=self.engine.evaluate().hr, epochs=next(epochs) - 1, steps=result.steps
        )
        return result

    def evaluate(self, rounds: int = 3) -> EvalResult:
        """Measures an evaluation of all users after one epoch of training; returns its result."""
        self._reload()
        self.engine.train_epoch(1)
        pairs = self.split.num_users * (1 + self.config.eval_negatives)
        result = self.measure(self.engine.evaluate, "evaluation", rounds=rounds,
                              amounts={"pairs": pairs})  # fmt: skip
        self._benchmark.extra_info["hr"] = result.hr
        return result

    def time_to_train(
        self, target: float | None = None, max_epochs: int | None = None, rounds: int = 3
    ) -> tuple[float, int]:
        """Measures from the loading of the data to the first HR@K at the target.

        Each round is one run with the same seed, so all rounds do the same work.

        Args:
          target: The hit rate; None for the track's. A low one keeps the test short.
          max_epochs: The epoch cap; None for the track's.
          rounds: Number of runs.

        Returns:
          (HR@K, epochs) of the last run.

        Raises:
          AssertionError: A run reached the cap.
        """
        target = self.track.target if target is None else target
        if target is None:
            raise ValueError(f"track {self.track.name} has no target; give target=")
        cap = max_epochs or self.track.max_epochs

        def train() -> tuple[float, int]:
            self.engine.load(self.split)
            hr = 0.0
            for epoch in range(1, cap + 1):
                self.engine.train_epoch(epoch)
                hr = self.engine.evaluate().hr
                if hr >= target:
                    return hr, epoch
            raise AssertionError(f"HR {hr:.4f} after {cap} epochs is below the target {target:g}")

        def fresh() -> tuple[tuple[()], dict[str, Any]]:
            self.engine.reset(SEED)
            return (), {}

        hr, epochs = self.measure(train, "time to train", f"to {target:g}", rounds, setup=fresh,
                                  target=target)  # fmt: skip
        self._benchmark.extra_info.update(hr=hr, epochs=epochs)
        return hr, epochs

    def _reload(self) -> None:
        self.engine.reset(SEED)
        self.engine.load(self.split)
