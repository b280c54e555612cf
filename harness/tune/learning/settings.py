"""The settings that a tuner varies, and the space that it searches.

The space contains what the track's closed division frees: batch size, learning rate, betas,
epsilon, optimizer and precision, and the number of threads, which no division fixes. A flag that
the user gives fixes its dimension.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Mapping

from harness.base import machine
from harness.config.run_config import RunConfig

# Batch sizes are the start value times these powers of two: a program is compiled for each batch
# size, so the tuner tries few of them.
BATCH_OCTAVES = (-4, -3, -2, -1, 0, 1, 2)
# The learning rate is searched from the start value / 8 to the start value x 32. The ranges of
# the betas contain the settings of the literature, such as 0.25 and 0.5 of an MLPerf v0.5 result.
LEARNING_RATE_FACTORS = (1 / 8, 32.0)
ONE_MINUS_BETA1, ONE_MINUS_BETA2 = (0.05, 0.9), (0.0001, 0.5)
EPSILON = (1e-10, 1e-5)
SIGNIFICANT_DIGITS = 3

# Flags of the dimensions, in the order of the tables. `intra_op_threads` is not free or fixed by
# a track.
DIMENSIONS = (
    "batch_size", "learning_rate", "beta1", "beta2", "epsilon", "optimizer", "precision",
    "intra_op_threads",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """One point of the space; the fields are flags of the harness."""

    batch_size: int
    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float
    optimizer: str
    precision: str
    intra_op_threads: int | None

    @classmethod
    def of(cls, values: RunConfig | Mapping[str, Any]) -> "Settings":
        """Takes the settings out of a `RunConfig` or out of a mapping by flag."""
        if isinstance(values, RunConfig):
            return cls(**{name: getattr(values, name) for name in DIMENSIONS})
        return cls(**{name: values[name] for name in DIMENSIONS})

    def as_flags(self) -> dict[str, Any]:
        """Returns the values by flag; without `intra_op_threads` if it is the runtime's default."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if value is not None}

    def apply_to(self, config: RunConfig) -> RunConfig:
        """Returns the configuration of a set with these settings."""
        return dataclasses.replace(config, **dataclasses.asdict(self))

    @property
    def engine_key(self) -> tuple[int, str, str]:
        """The settings for which programs are compiled; the others are arguments of a program."""
        return self.batch_size, self.precision, self.optimizer

    @property
    def speed_key(self) -> tuple[int, str, str, int | None]:
        """The settings that determine the seconds per epoch."""
        return *self.engine_key, self.intra_op_threads

    @property
    def learning_key(self) -> tuple[Any, ...]:
        """The settings that determine the epochs to the target: all but the threads."""
        return dataclasses.astuple(self)[:-1]


@dataclass(frozen=True)
class Space:
    """The values that each dimension may take.

    Attributes:
      start: The settings with which the search begins: the user's flags, else the track's.
      choices: Values of each discrete dimension; one value if it is fixed.
      ranges: Bounds of each continuous dimension; equal bounds if it is fixed. The betas are
        searched as 1 - beta, on a logarithmic scale.
      refused: (batch size, reason) of each batch size that does not fit into memory.
    """

    start: Settings
    choices: dict[str, tuple[Any, ...]]
    ranges: dict[str, tuple[float, float]]
    refused: tuple[tuple[int, str], ...] = ()

    @property
    def free(self) -> list[str]:
        """The dimensions with more than one value, in the order of DIMENSIONS."""
        return [name for name in DIMENSIONS
                if len(self.choices.get(name, ())) > 1
                or name in self.ranges and self.ranges[name][0] < self.ranges[name][1]]

    def clip(self, settings: Settings) -> Settings:
        """Moves settings to the nearest point of the space and rounds their numbers."""
        values: dict[str, Any] = {}
        for name, allowed in self.choices.items():
            value = getattr(settings, name)
            if value not in allowed:
                numbers = [x for x in allowed if isinstance(x, int)]
                near = isinstance(value, int) and numbers
                value = min(numbers, key=lambda x: abs(x - value)) if near else allowed[0]
            values[name] = value
        for name, (low, high) in self.ranges.items():
            scaled = min(max(to_scale(name, getattr(settings, name)), low), high)
            start = getattr(self.start, name)
            is_start = low == high or scaled == to_scale(name, start)
            values[name] = start if is_start else round_number(name, scaled)
        return Settings(**values)


def to_scale(name: str, value: float) -> float:
    """Returns a number as it is searched: 1 - beta for the betas."""
    return round(1 - value, 10) if name in ("beta1", "beta2") else value


def round_number(name: str, scaled: float) -> float:
    """Returns a flag's value from the searched number, rounded to SIGNIFICANT_DIGITS of it."""
    rounded = float(f"{scaled:.{SIGNIFICANT_DIGITS}g}")
    return round(1 - rounded, 8) if name in ("beta1", "beta2") else rounded


def make_space(config: RunConfig, given: Mapping[str, Any], examples: int) -> Space:
    """Makes the space that the closed division and the user's flags leave.

    Args:
      config: The settings from the flags; free dimensions have the track's values.
      given: The flags that the user gave; their dimensions are fixed.
      examples: Training examples of an epoch; larger batches make no sense.

    Returns:
      The space, from which batch sizes that do not fit into memory are not yet removed.
    """
    start = Settings.of(config)
    # The open division fixes no settings.
    freed = DIMENSIONS[:-1] if config.division == "open" else config.track.free
    free = {name for name in freed if name not in given}

    def choices(name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
        first = getattr(start, name)
        rest = tuple(v for v in values if v != first)
        return (first, *rest) if name in free else (first,)

    def limits(name: str, low: float, high: float) -> tuple[float, float]:
        value = to_scale(name, getattr(start, name))
        return (min(low, value), max(high, value)) if name in free else (value, value)

    batches = (int(start.batch_size * 2.0**k) for k in BATCH_OCTAVES)
    precisions = ("float32",) if config.engine == "reference" else ("float32", "bfloat16")
    if "intra_op_threads" not in given and config.device in ("auto", "cpu"):
        free.add("intra_op_threads")
    rate = start.learning_rate
    return Space(
        start,
        {
            "batch_size": choices("batch_size", tuple(b for b in batches if 1 <= b <= examples)),
            "optimizer": choices("optimizer", ("adam", "lazy_adam")),
            "precision": choices("precision", precisions),
            "intra_op_threads": choices("intra_op_threads", _thread_counts(config)),
        },
        {
            "learning_rate": limits("learning_rate", *(rate * x for x in LEARNING_RATE_FACTORS)),
            "beta1": limits("beta1", *ONE_MINUS_BETA1),
            "beta2": limits("beta2", *ONE_MINUS_BETA2),
            "epsilon": limits("epsilon", *EPSILON),
        },
    )


def _thread_counts(config: RunConfig) -> tuple[int, ...]:
    """Returns half and a quarter of the CPUs: simultaneous threads of a core may not pay."""
    if config.device not in ("auto", "cpu") or (config.device == "auto" and machine.gpus()):
        return ()
    cpus = machine.usable_cpus()
    return tuple(sorted({cpus // 2, cpus // 4} - {0}, reverse=True))
