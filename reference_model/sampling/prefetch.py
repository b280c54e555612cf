"""Prepares the next epoch in a background thread while the current epoch trains."""

from __future__ import annotations

import queue
import threading
from typing import Callable, Iterator

from reference_model.base.errors import Cancelled, PreparationStalled
from reference_model.events import EventSink
from reference_model.sampling.epoch_batches import EpochBatches

# Maximum wait for the batches of an epoch before the run is considered stalled.
PREPARATION_TIMEOUT_S = 120.0


class EpochPrefetcher:
    """Builds epoch e + 1 in a thread while epoch e trains.

    An epoch may be built in several parts. To bound memory, each part is then built only while
    the previous part trains. The background thread logs each build of an epoch as one interval
    (`train_neg_gen_start`, `train_neg_gen_stop`).
    """

    def __init__(
        self,
        build: Callable[[int, Callable[[], bool]], EpochBatches | Iterator],
        sink: EventSink,
        timeout_s: float = PREPARATION_TIMEOUT_S,
        parts: int = 1,
        **metadata: str,
    ):
        """Stores its arguments.

        Args:
          build: `build(epoch, is_cancelled)` returns the batches of an epoch, or an iterator
            over their `parts` parts. It should raise `Cancelled` once `is_cancelled()` is true.
          sink: receives the intervals.
          timeout_s: seconds that `take` waits.
          parts: number of parts per epoch; `take` is called once for each.
          **metadata: logged at the start of each interval.
        """
        self._build = build
        self._sink = sink
        self._timeout_s = timeout_s
        self._parts = parts
        self._metadata = metadata
        self._stop_event = threading.Event()
        self._ready: queue.Queue = queue.Queue(maxsize=1)
        # Released whenever a part has been taken.
        self._taken = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._epoch = 0

    def begin(self, epoch: int) -> None:
        """Starts building `epoch`; all parts of the previous epoch must have been taken."""
        self._epoch = epoch
        self._taken = threading.Semaphore(0)
        # Use a daemon thread, so that a hung build does not keep the process alive.
        self._thread = threading.Thread(
            target=self._build_in_thread, args=(epoch,), name=f"epoch-{epoch}", daemon=True
        )
        self._thread.start()

    def take(self, epoch: int) -> EpochBatches:
        """Waits for the batches of `epoch`, or for their next part.

        Args:
          epoch: must be the epoch of the last call of `begin`.

        Raises:
          PreparationStalled: the batches were not ready within the timeout.
          BaseException: the error raised by the build.
        """
        if epoch != self._epoch:
            raise ValueError(f"epoch {epoch} requested, but epoch {self._epoch} was prepared")
        try:
            outcome = self._ready.get(timeout=self._timeout_s)
        except queue.Empty:
            raise PreparationStalled(
                f"the batches of epoch {epoch} were not ready within {self._timeout_s:g} s"
            ) from None
        self._taken.release()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def close(self) -> None:
        """Cancels a build in progress and waits at most 5 seconds for its thread."""
        self._stop_event.set()
        if self._thread is not None:
            self._thread.join(timeout=min(5.0, self._timeout_s))

    def _build_in_thread(self, epoch: int) -> None:
        """Builds one epoch and puts its batches (or the last part), or the error, in the queue."""
        status = "complete"
        self._sink.start("train_neg_gen_start", epoch_num=epoch, **self._metadata)
        try:
            outcome = self._build(epoch, self._stop_event.is_set)
            if isinstance(outcome, Iterator):
                outcome = self._deliver_parts(outcome)
        except Cancelled:
            outcome, status = None, "cancelled"
        except BaseException as error:  # `take` raises it in the waiting thread
            outcome, status = error, "failed"
        # End the interval before the batches are put in the queue, so that it cannot overlap the
        # next one.
        self._sink.end("train_neg_gen_stop", epoch_num=epoch, status=status)
        if outcome is not None:
            self._ready.put(outcome)

    def _deliver_parts(self, parts: Iterator) -> object:
        """Puts all parts but the last in the queue and returns the last.

        Each part is built only after the previous part has been taken.
        """
        for _ in range(self._parts - 1):
            self._ready.put(next(parts))
            while not self._taken.acquire(timeout=0.1):
                if self._stop_event.is_set():
                    raise Cancelled
        return next(parts)
