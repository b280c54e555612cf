"""Measures one benchmark and records its input version and throughput."""

from __future__ import annotations

import math
import time
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
    """Measures a task by pytest-benchmark.

    Args:
      benchmark: pytest-benchmark's fixture.
      task: What is measured.
      group: The group in pytest-benchmark's table.
      version: Identifies the input; times of different versions are not comparable.
      rounds: Number of measured rounds.
      warmup: Number of calls before the first round.
      setup: Called before each round, untimed; a round is then one call. It returns the
        positional and the named arguments of the task.
      amounts: The work of one call, such as {"examples": 100}; recorded as `examples_per_s` of
        the median round.
      **facts: Recorded unchanged, such as the seed.

    Returns:
      The result of the task.
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
