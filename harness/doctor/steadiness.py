"""A second of fixed work, repeated: how steady the machine is.

The work is that of a run: a product of matrices, a copy in memory, and the harness's own drawing
of negatives in NumPy. The spread of one kind of work is the range of the middle 80% of its
repetitions over their median.
"""

from __future__ import annotations

import statistics
from typing import Callable, NamedTuple

import numpy as np

from harness.base.clock import Stopwatch
from harness.base.machine_load import LoadMeter, MachineLoad
from harness.doctor.findings import NOT_FIT, NOTE, OK, Finding
from reference_model.data.synthetic import SyntheticShape, generate_split
from reference_model.sampling.negatives import ComplementTableSampler

SECONDS = 1.0
_PRODUCT_SIZE, _COPY_BYTES = 384, 16 << 20
_SHAPE = SyntheticShape(num_users=500, num_items=1000, num_ratings=20_000)
_DRAWS = 200_000
_MIN_REPEATS = 10
# Conventions, not the outcome of a simulation: see docs/noise.md.
NOTEWORTHY_SPREAD, UNFIT_SPREAD = 0.15, 0.4


class Steadiness(NamedTuple):
    """The result of the measurement.

    Attributes:
      spreads: The spread of each kind of work, by name.
      load: The load of the machine during the measurement.
    """

    spreads: dict[str, float]
    load: MachineLoad


def measure_steadiness(seconds: float = SECONDS) -> Steadiness:
    """Repeats the kinds of work in turn for about `seconds`, and measures the load meanwhile."""
    kinds = _kinds_of_work()
    for work in kinds.values():
        work()  # the first call allocates memory and starts threads
    meter, total = LoadMeter(), Stopwatch()
    times: dict[str, list[float]] = {name: [] for name in kinds}
    watch = Stopwatch()
    while total.seconds() < seconds or min(map(len, times.values())) < _MIN_REPEATS:
        for name, work in kinds.items():
            watch.lap()
            work()
            times[name].append(watch.lap())
    return Steadiness({name: spread(found) for name, found in times.items()}, meter.measure())


def spread(times: list[float]) -> float:
    """Returns the range of the middle 80% of some seconds over their median."""
    tenths = statistics.quantiles(times, n=10)
    return (tenths[-1] - tenths[0]) / statistics.median(times)


def steadiness_finding(spreads: dict[str, float]) -> Finding:
    """Returns the finding about the spreads."""
    worst = max(spreads.values())
    shown = ", ".join(f"{name} {value:.0%}" for name, value in spreads.items())
    text = f"the seconds of fixed work spread by: {shown}"
    if worst < NOTEWORTHY_SPREAD:
        return Finding(OK, "steadiness", text)
    state = NOT_FIT if worst >= UNFIT_SPREAD else NOTE
    return Finding(state, "steadiness", text, "remove what is listed here; else measure again, "
                   "and make more runs")  # fmt: skip


def _kinds_of_work() -> dict[str, Callable[[], object]]:
    """Returns a function for each kind of work; each takes some milliseconds."""
    random = np.random.default_rng(0)
    matrix = random.standard_normal((_PRODUCT_SIZE, _PRODUCT_SIZE), np.float32)
    product = np.empty_like(matrix)
    source = np.ones(_COPY_BYTES, np.uint8)
    target = np.empty_like(source)
    sampler = ComplementTableSampler(generate_split(_SHAPE))
    users = np.sort(random.integers(0, _SHAPE.num_users, _DRAWS).astype(np.int32))
    return {
        "product": lambda: [np.matmul(matrix, matrix, product) for _ in range(8)],
        "copy": lambda: np.copyto(target, source),
        "sampling": lambda: sampler.draw(users, np.random.default_rng(1)),
    }
