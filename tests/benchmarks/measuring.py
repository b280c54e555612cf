"""Measures one benchmark and records its input version and throughput."""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path
from typing import Any, Callable

# A shorter round repeats the task, so that clock resolution and noise matter little.
SHORTEST_ROUND_S, MOST_ITERATIONS = 0.01, 100


def measure(
    benchmark: Any,
    task: Callable[..., Any],
    *,
    group: str,
    version: str,
    rounds: int = 5,
    warmup: int = 1,
    setup: Callable[[], Any] | None = None,
    amounts: dict[str, int] | None = None,
    **facts: Any,
) -> Any:
    """Measures `task` in `rounds` rounds after `warmup` calls; returns its result.

    version: identifies the input; times of different versions are not comparable.
    amounts: the work of one call, such as {"examples": 100}; recorded as
    `examples_per_s` of the median round. facts: recorded unchanged (seed, HR).
    With `setup`, which is untimed, a round is one call.
    """
    benchmark.group = group
    benchmark.extra_info.update(input=version, **facts)
    iterations = 1
    if not setup and warmup:  # the first warm-up call also measures the duration
        iterations, warmup = _iterations(task), warmup - 1
    result = benchmark.pedantic(
        task, setup=setup, rounds=rounds, iterations=iterations, warmup_rounds=warmup
    )
    if benchmark.stats is not None:  # None under --benchmark-disable
        median = benchmark.stats.stats.median
        for what, amount in (amounts or {}).items():
            benchmark.extra_info[f"{what}_per_s"] = amount / median
    return result


def _iterations(task: Callable[[], Any]) -> int:
    """Returns the number of calls of the task in one round."""
    start = time.perf_counter()
    task()
    seconds = max(time.perf_counter() - start, 1e-9)
    return max(1, min(MOST_ITERATIONS, math.ceil(SHORTEST_ROUND_S / seconds)))


def file_version(path: Path) -> str:
    """Returns the version of an input file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
