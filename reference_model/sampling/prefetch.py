"""TODO."""

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

    `build(epoch, cancelled)` makes one epoch's batches, or an iterator over `parts` parts
    of them: then a part is built while the one before it trains, no earlier, and an epoch
    is taken as often as it has parts. Each build of an epoch is one interval in the
    sink, of the thread that did it; `facts` go into its metadata.
    """

    def __init__(
        self,
        build: Callable[[int, Callable[[], bool]], EpochBatches | Iterator],
        sink: EventSink,
        timeout_s: float = PREPARATION_TIMEOUT_S,
        parts: int = 1,
        **facts: str,
    ):
        self._build = build
        self._sink = sink
        self._timeout_s = timeout_s
        self._parts = parts
        self._facts = facts
        self._stop = threading.Event()
        self._ready: queue.Queue = queue.Queue(maxsize=1)
        self._taken = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._epoch = 0

    def begin(self, epoch: int) -> None:
        """Starts to prepare `epoch`; one at a time, and after all parts of the last."""
        self._epoch = epoch
        self._taken = threading.Semaphore(0)
        # A daemon: a build that hangs must not keep the process alive.
        self._thread = threading.Thread(
            target=self._prepare, args=(epoch,), name=f"epoch-{epoch}", daemon=True
        )
        self._thread.start()

    def take(self, epoch: int) -> EpochBatches:
        """The batches of `epoch`, which must have begun; waits for them.

        Raises PreparationStalled after the timeout, or what the build raised.
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
        """Cancels what is being built and waits for the thread, but not forever."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=min(5.0, self._timeout_s))

    def _prepare(self, epoch: int) -> None:
        status = "complete"
        self._sink.start("train_neg_gen_start", epoch_num=epoch, **self._facts)
        try:
            outcome = self._build(epoch, self._stop.is_set)
            if isinstance(outcome, Iterator):
                outcome = self._hand_over(outcome)
        except Cancelled:
            outcome, status = None, "cancelled"
        except BaseException as error:  # handed to the thread that waits for it
            outcome, status = error, "failed"
        self._sink.end("train_neg_gen_stop", epoch_num=epoch, status=status)
        if outcome is not None:
            self._ready.put(outcome)

    def _hand_over(self, parts: Iterator) -> object:
        """Hands over all parts but the last, which it returns; each part is made when
        the one before it has been taken."""
        for _ in range(self._parts - 1):
            self._ready.put(next(parts))
            while not self._taken.acquire(timeout=0.1):
                if self._stop.is_set():
                    raise Cancelled
        return next(parts)
