"""How each benchmark of the suite measures, and what it keeps beside the times."""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path
from typing import Any, Callable

# A round below this is repeated inside, so that the clock and noise count for little.
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
    """Measures `task` in so many rounds after `warmup` calls; returns what it returned.

    version: what identifies the input; another one makes times incomparable.
    amounts: what one call gets through, such as {"examples": 100}; kept as
    `examples_per_s` of the median round. facts: kept as they are (seed, HR).
    With `setup`, which runs untimed, a round is one call.
    """
    benchmark.group = group
    benchmark.extra_info.update(input=version, **facts)
    iterations = 1
    if not setup and warmup:  # the first call that warms up also says how long it takes
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
    """How often the task runs in one round."""
    start = time.perf_counter()
    task()
    seconds = max(time.perf_counter() - start, 1e-9)
    return max(1, min(MOST_ITERATIONS, math.ceil(SHORTEST_ROUND_S / seconds)))


def file_version(path: Path) -> str:
    """The version of an input that is a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
