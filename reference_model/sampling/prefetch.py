"""Preparation of the next epoch in a background thread while the current one trains."""

from __future__ import annotations

import queue
import threading
from typing import Callable, Iterator

from reference_model.base.errors import Cancelled, PreparationStalled
from reference_model.events import EventSink
from reference_model.sampling.epoch_batches import EpochBatches

# How long an epoch may wait for its batches before the run ends as stalled.
PREPARATION_TIMEOUT_S = 120.0


class EpochPrefetcher:
    """Builds epoch e + 1 in a thread while epoch e trains.

    An epoch may be built in several parts. Then a part is built while the part before it
    trains, and no earlier, to bound the memory. Every build of an epoch is logged as one
    interval (`train_neg_gen_start`, `train_neg_gen_stop`) from the thread that builds.
    """

    def __init__(
        self,
        build: Callable[[int, Callable[[], bool]], EpochBatches | Iterator],
        sink: EventSink,
        timeout_s: float = PREPARATION_TIMEOUT_S,
        parts: int = 1,
        **metadata: str,
    ):
        """Starts nothing yet.

        Args:
          build: `build(epoch, is_cancelled)` returns the batches of an epoch, or an
            iterator over `parts` parts of them. It should raise `Cancelled` when
            `is_cancelled()` is true.
          sink: receives the intervals.
          timeout_s: seconds that `take` waits.
          parts: number of parts of an epoch; `take` is called once for each.
          **metadata: logged with the start of each interval.
        """
        self._build = build
        self._sink = sink
        self._timeout_s = timeout_s
        self._parts = parts
        self._metadata = metadata
        self._stop_event = threading.Event()
        self._ready: queue.Queue = queue.Queue(maxsize=1)
        # Is released whenever a part has been taken.
        self._taken = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._epoch = 0

    def begin(self, epoch: int) -> None:
        """Starts to build `epoch`; all parts of the previous epoch must have been taken."""
        self._epoch = epoch
        self._taken = threading.Semaphore(0)
        # A daemon thread, so that a build that hangs does not keep the process alive.
        self._thread = threading.Thread(
            target=self._build_in_thread, args=(epoch,), name=f"epoch-{epoch}", daemon=True
        )
        self._thread.start()

    def take(self, epoch: int) -> EpochBatches:
        """Waits for the batches of `epoch`, or for the next part of them.

        Args:
          epoch: must be the epoch that was begun last.

        Raises:
          PreparationStalled: they did not arrive within the timeout.
          BaseException: the error that the build raised.
        """
        if epoch != self._epoch:
            raise ValueError(f"epoch {epoch} is wanted, but {self._epoch} was prepared")
        try:
            outcome = self._ready.get(timeout=self._timeout_s)
        except queue.Empty:
            raise PreparationStalled(
                f"the batches of epoch {epoch} did not arrive within {self._timeout_s:g} s"
            ) from None
        self._taken.release()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def close(self) -> None:
        """Cancels a build in progress and waits for its thread, at most 5 seconds."""
        self._stop_event.set()
        if self._thread is not None:
            self._thread.join(timeout=min(5.0, self._timeout_s))

    def _build_in_thread(self, epoch: int) -> None:
        """Builds one epoch and puts its (last) batches, or the error, into the queue."""
        status = "complete"
        self._sink.start("train_neg_gen_start", epoch_num=epoch, **self._metadata)
        try:
            outcome = self._build(epoch, self._stop_event.is_set)
            if isinstance(outcome, Iterator):
                outcome = self._deliver_parts(outcome)
        except Cancelled:
            outcome, status = None, "cancelled"
        except BaseException as error:  # `take` raises it in the thread that waits
            outcome, status = error, "failed"
        # The interval ends before the batches are handed over, so that it can never overlap
        # the next one.
        self._sink.end("train_neg_gen_stop", epoch_num=epoch, status=status)
        if outcome is not None:
            self._ready.put(outcome)

    def _deliver_parts(self, parts: Iterator) -> object:
        """Puts all parts but the last into the queue and returns the last.

        Each part is built only when the part before it has been taken.
        """
        for _ in range(self._parts - 1):
            self._ready.put(next(parts))
            while not self._taken.acquire(timeout=0.1):
                if self._stop_event.is_set():
                    raise Cancelled
        return next(parts)
