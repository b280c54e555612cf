"""What a log says about its run, whatever rules hold: times, accuracies, outcome."""

from __future__ import annotations

from typing import Any

from compliance.logs.dialects.event import Event, is_integer, is_number


class RunFacts:
    """Gathers the facts of one run from its events; constant memory.

    Of records that should stand once the first counts.  `accuracies` counts the
    eval_accuracy records; `last`, `best` and `best_before` (the best of all but
    the last) are (value, line, epoch) of records whose value is a finite number.
    """

    def __init__(self, dialect: str, ticks: int) -> None:
        self.dialect, self.ticks = dialect, ticks
        self.first: dict[str, Event] = {}
        self.counts: dict[str, int] = {}
        self.accuracies = 0
        self.last: tuple[float, int, Any] | None = None
        self.best: tuple[float, int, Any] | None = None
        self.best_before: tuple[float, int, Any] | None = None
        self.throughputs: list[float] = [0.0, 0.0]  # sum, count
        self._v05, self._v06 = dialect == "v0.5", dialect == "v0.6"

    KEPT = frozenset(("run_start", "run_stop", "eval_target", "seed", "run_set_random_seed",
                      "track", "submission_division", "submission_benchmark",
                      "submission_platform", "eval_num_users", "run_final", "attempt"))

    # The keys that `see` does something with.
    WANTED = (*sorted(KEPT), "eval_accuracy", "tracked_stats")

    def see(self, event: Event) -> None:
        """The next event of the log."""
        key = event.key
        if key in self.KEPT:
            self.counts[key] = self.counts.get(key, 0) + 1
            first = self.first.setdefault(key, event)
            if self._v06 and first.time != first.time:  # another host may know the time
                self.first[key] = event
        elif key == "eval_accuracy":
            self.accuracies += 1
            self._accuracy(event)
        elif key == "tracked_stats" and isinstance(event.value, dict):
            value = event.value.get("throughput")
            if is_number(value) and 0 < value < 1e300:
                self.throughputs[0] += value
                self.throughputs[1] += 1

    def _accuracy(self, event: Event) -> None:
        if self._v05:
            value, epoch = event.meta.get("value"), event.meta.get("epoch")
        else:
            value, epoch = event.value, event.meta.get("epoch_num")
        if not is_number(value):
            return
        entry = (value, event.line, epoch)
        self.best_before = self.best
        if self.best is None or value > self.best[0]:
            self.best = entry
        self.last = entry

    def _value(self, key: str) -> Any:
        return self.first[key].value if key in self.first else None

    def _text(self, key: str) -> str | None:
        value = self._value(key)
        return value if isinstance(value, str) else None

    @property
    def complete(self) -> bool:
        """Whether the log has a run_stop."""
        return "run_stop" in self.first

    @property
    def status(self) -> str | None:
        """How the run says that it ended: success, aborted, or None."""
        if not self.complete:
            return None
        meta = self.first["run_stop"].meta
        if self._v05:
            return {True: "success", False: "aborted"}.get(meta.get("success")) \
                if isinstance(meta.get("success"), bool) else None
        status = meta.get("status")
        return status if status in ("success", "aborted") else None

    @property
    def reason(self) -> str | None:
        """Why the run ended, where run_stop says it."""
        value = self.first["run_stop"].meta.get("reason") if self.complete else None
        return value if isinstance(value, str) else None

    @property
    def profiled(self) -> bool:
        """Whether a profiler ran along: such a run is never scored."""
        return "run_start" in self.first and bool(self.first["run_start"].meta.get("profiled"))

    @property
    def synthetic(self) -> bool:
        """Whether the batches were made up: such a run is never scored."""
        start = self.first.get("run_start")
        return start is not None and bool(start.meta.get("synthetic_batches"))

    @property
    def target(self) -> float | None:
        """The target that the log names."""
        value = self._value("eval_target")
        if isinstance(value, dict):
            value = value.get("value")
        return value if is_number(value) else None

    @property
    def track(self) -> str | None:
        """The name of the track that the log claims."""
        return self._text("track")

    @property
    def division(self) -> str | None:
        """The division that the log claims."""
        return self._text("submission_division")

    @property
    def benchmark(self) -> str | None:
        """The benchmark that the log claims (MLLOG)."""
        return self._text("submission_benchmark")

    @property
    def seed(self) -> int | None:
        """The run's seed."""
        value = self._value("run_set_random_seed") if self._v05 else None
        value = self._value("seed") if value is None else value
        return value if is_integer(value) else None

    @property
    def attempt(self) -> tuple[str, int] | None:
        """(set, number) of the attempt that the log says it is."""
        value = self._value("attempt")
        if not isinstance(value, dict):
            return None
        name, number = value.get("set"), value.get("attempt")
        return (name, number) if isinstance(name, str) and is_integer(number) else None

    def time(self, key: str) -> float | None:
        """Seconds since the epoch of the first record of `key`."""
        event = self.first.get(key)
        if event is None or event.time != event.time:
            return None
        return event.time if self.ticks == 1 else event.time / self.ticks

    @property
    def seconds(self) -> float | None:
        """The run's length; differences are taken before any division."""
        start, stop = self.first.get("run_start"), self.first.get("run_stop")
        if start is None or stop is None or start.time != start.time or stop.time != stop.time:
            return None
        span = stop.time - start.time
        return span if self.ticks == 1 else span / self.ticks

    @property
    def converged(self) -> bool | None:
        """Whether the best accuracy, unrounded, reached the log's own target.

        An MLLOG run that does not call itself a success has not converged.
        """
        if self.target is None or not self.complete:
            return None
        reached = self.best is not None and self.best[0] >= self.target
        return reached if self._v05 else reached and self.status == "success"

    @property
    def throughput(self) -> float | None:
        """Mean of the epochs' training examples per second."""
        total, count = self.throughputs
        return total / count if count else None

    def as_json(self) -> dict[str, Any]:
        """The contract's `run` object."""
        return {"start_s": self.time("run_start"), "stop_s": self.time("run_stop"),
                "seconds": self.seconds, "status": self.status, "epochs": self.accuracies,
                "final_accuracy": self.last[0] if self.last else None,
                "best_accuracy": self.best[0] if self.best else None,
                "target": self.target, "converged": self.converged, "seed": self.seed}
