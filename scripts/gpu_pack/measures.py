"""The measurements. Each returns figures for the record."""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Callable

from reference_model.pjrt.client import PjrtClient
from scripts.gpu_pack.cases import CHECK_STEPS, Case
from scripts.gpu_pack.program_run import ProgramRun

# Maximum relative difference of a step's loss from float32 on a CPU. TF32 keeps 10 mantissa bits,
# and bfloat16 keeps 7.
LOSS_TOLERANCES = {"float32": 1e-5, "tf32": 1e-3, "bfloat16": 8e-3}
# Hits may differ by this share of the users or by 2 users, whichever is more.
HITS_SHARES, HITS_USERS = {"float32": 0.001, "tf32": 0.01, "bfloat16": 0.01}, 2
_PROFILED_KERNELS = 20


def check_values(run: ProgramRun) -> dict[str, Any]:
    """Takes the first steps one by one, then evaluates.

    Returns:
      {"losses": mean loss of each step, "hits", "users"}.
    """
    ids = run.order_on_host()
    steps = min(CHECK_STEPS, len(ids))
    batch = run.config.batch_size
    losses = [
        run.train(run.place_order(ids[k : k + 1]), 1, k, batch, 1) / batch for k in range(steps)
    ]
    result = run.evaluate()
    return {"losses": losses, "hits": int(result.hits), "users": int(result.users)}


def compare_values(
    found: dict[str, Any], expected: dict[str, Any], precision: str
) -> dict[str, Any]:
    """Compares the values of `check_values` with those of a CPU, within the tolerances.

    Returns:
      {"steps", "loss_difference": largest relative difference, None if a loss is not finite,
      "allowed_loss_difference", "hits", "expected_hits", "allowed_hits": how many hits may differ,
      "is_within_tolerance"}.
    """
    pairs = list(zip(found["losses"], expected["losses"]))
    is_finite = all(math.isfinite(a) for a, _ in pairs)
    difference = max(abs(a - b) / abs(b) for a, b in pairs) if is_finite else math.inf
    allowed = max(HITS_USERS, HITS_SHARES[precision] * expected["users"])
    is_within = difference <= LOSS_TOLERANCES[precision]
    is_within &= abs(found["hits"] - expected["hits"]) <= allowed
    return {
        "steps": len(found["losses"]),
        "loss_difference": difference if is_finite else None,
        "allowed_loss_difference": LOSS_TOLERANCES[precision],
        "hits": found["hits"],
        "expected_hits": expected["hits"],
        "allowed_hits": round(allowed, 1),
        "is_within_tolerance": is_within and len(found["losses"]) == len(expected["losses"]),
    }


def training_speed(run: ProgramRun, least: float) -> dict[str, Any]:
    """Measures the training program alone: calls on one order, which is on the device.

    Args:
      run: the programs, with data.
      least: how long to measure, seconds.

    Returns:
      {"examples_per_s", "step_ms", "calls"}.
    """
    ids = run.order_on_host()
    placed, steps = run.place_order(ids), len(ids)

    def call() -> None:
        run.train(placed, steps, 0, ids.size, 1)  # waits for the loss

    call()
    calls, seconds = _repeat(call, least)
    rate = calls * ids.size / seconds
    return {
        "examples_per_s": rate,
        "step_ms": 1e3 * seconds / (calls * steps),
        "calls": calls,
    }


def evaluation_speed(run: ProgramRun, least: float) -> dict[str, Any]:
    """Measures whole evaluations; the arguments are those of `training_speed`.

    Returns:
      {"pairs_per_s": pairs in the lists, "computed_pairs_per_s", "seconds"}.
    """
    results = [run.evaluate()]
    calls, seconds = _repeat(lambda: results.append(run.evaluate()), least)
    each = seconds / calls
    return {
        "seconds": each,
        "pairs_per_s": results[-1].scored / each,
        "computed_pairs_per_s": results[-1].computed / each,
    }


def _repeat(function: Callable[[], Any], least: float) -> tuple[int, float]:
    """Calls a function for at least so many seconds; returns (calls, seconds)."""
    began, calls = time.perf_counter(), 0
    while (seconds := time.perf_counter() - began) < least or not calls:
        function()
        calls += 1
    return calls, seconds


def epoch_seconds(run: ProgramRun) -> dict[str, Any]:
    """Trains and evaluates a whole epoch, and makes its order alone.

    Returns:
      {"order_seconds": making the order, "epoch_seconds": training in a made order,
      "evaluation_seconds"}.
    """
    run.order(1)  # compiles the program
    began = time.perf_counter()
    order = run.order(2)
    order_seconds = time.perf_counter() - began
    began = time.perf_counter()
    run.train_in_order(order, 2)
    trained = time.perf_counter()
    run.evaluate()
    return {
        "order_seconds": order_seconds,
        "epoch_seconds": trained - began,
        "evaluation_seconds": time.perf_counter() - trained,
    }


def train_to_target(run: ProgramRun, case: Case, deadline: float) -> dict[str, Any]:
    """Trains to the target.

    Args:
      run: the programs, with data.
      case: the case, with target and cap.
      deadline: value of time.monotonic at which to give up.

    Returns:
      {"reached", "epochs", "seconds", "hit_rates"}.
    """
    began, rates = time.perf_counter(), []
    for epoch in range(1, case.max_epochs + 1):
        run.train_epoch(epoch)
        rates.append(round(run.evaluate().hr, 5))
        if rates[-1] >= case.target or time.monotonic() > deadline:
            break
    return {
        "reached": rates[-1] >= case.target,
        "epochs": len(rates),
        "seconds": time.perf_counter() - began,
        "hit_rates": rates,
        "target": case.target,
    }


def memory(client: PjrtClient) -> dict[str, Any]:
    """Returns the device's memory: {"peak_bytes", "limit_bytes"}; null where it says nothing."""
    stats = client.memory_stats()
    return {"peak_bytes": stats.get("peak_bytes_in_use"), "limit_bytes": stats.get("bytes_limit")}


def profile(run: ProgramRun) -> dict[str, Any]:
    """Profiles one step.

    Returns:
      {"kernels": [{"name", "ms", "runs"}], the longest first, "total_ms"}; {"skipped"} if the
      device reports no kernels, as CPUs do.
    """
    import jax

    ids = run.order_on_host()[:1]
    placed = run.place_order(ids)
    run.train(placed, 1, 0, ids.size, 1)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run.train(placed, 1, 0, ids.size, 1)
        file = next(Path(folder).rglob("*.xplane.pb"))
        data = jax.profiler.ProfileData.from_file(str(file))
        # The data are read before the file is removed.
        return _kernels(data)


def _kernels(data: Any) -> dict[str, Any]:
    planes = [plane for plane in data.planes if plane.name.startswith("/device:")]
    # Streams run kernels; other lines of a device's plane repeat them by module or by name scope.
    lines = [line for plane in planes for line in plane.lines if "stream" in line.name.lower()]
    if not lines:
        return {"skipped": "the device reports no kernels"}
    times, runs = Counter(), Counter()
    for line in lines:
        for event in line.events:
            times[event.name] += event.duration_ns
            runs[event.name] += 1
    kernels = [
        {"name": name[:120], "ms": nanoseconds / 1e6, "runs": runs[name]}
        for name, nanoseconds in times.most_common(_PROFILED_KERNELS)
    ]
    return {"kernels": kernels, "total_ms": sum(times.values()) / 1e6}
