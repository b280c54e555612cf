"""One epoch as static-shape batches, and their preparation in the background."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import Callable, Iterator

import numpy as np

from reference_model.engine import PreparationStalled
from reference_model.events import EventSink
from reference_model.sampling import (
    STREAM_NEGATIVES,
    STREAM_ORDER,
    NegativeSampler,
    stream,
)
from reference_model.split import Split

# How long an epoch may wait for its batches before the run ends as stalled.
PREPARATION_TIMEOUT_S = 120.0

_CHUNK = 2_000_000


class Cancelled(Exception):
    """The run ended before this epoch's batches were wanted."""


@dataclass(frozen=True, eq=False)
class EpochBatches:
    """Every positive and every drawn negative once, in random order, padded.

    Attributes:
      user, item: int32 [S, B]; label: bool [S, B], True for a positive.
      examples: how many entries are real; those from `examples` on (in the
        last batch) are padding, which carries spread-out ids and no weight.
    """

    user: np.ndarray
    item: np.ndarray
    label: np.ndarray
    examples: int

    @property
    def steps(self) -> int:
        return len(self.user)


def draw_negatives(
    split: Split,
    sampler: NegativeSampler,
    per_positive: int,
    rng: np.random.Generator,
    cancelled: Callable[[], bool] = lambda: False,
) -> np.ndarray:
    """int32 [P * per_positive]: negatives of positive j at [j * n, (j + 1) * n)."""
    drawn = np.empty(split.num_positives * per_positive, np.int32)
    for low in range(0, split.num_positives, _CHUNK):
        if cancelled():
            raise Cancelled
        users = np.repeat(split.train_user[low : low + _CHUNK], per_positive)
        first = low * per_positive
        drawn[first : first + len(users)] = sampler.draw(users, rng)
    return drawn


def build_epoch(
    split: Split,
    sampler: NegativeSampler,
    negatives: int,
    batch_size: int,
    seed: int,
    epoch: int,
    cancelled: Callable[[], bool] = lambda: False,
) -> EpochBatches:
    """The batches of one epoch; the same arguments give the same bits."""
    drawn = draw_negatives(
        split, sampler, negatives, stream(seed, STREAM_NEGATIVES, epoch), cancelled
    )
    positives = split.num_positives
    examples = positives + len(drawn)
    steps = -(-examples // batch_size)
    order = np.arange(examples, dtype=np.int32 if examples < 2**31 else np.int64)
    stream(seed, STREAM_ORDER, epoch).shuffle(order)

    user = np.empty(steps * batch_size, np.int32)
    item = np.empty(steps * batch_size, np.int32)
    label = np.zeros(steps * batch_size, bool)
    for low in range(0, examples, _CHUNK):
        if cancelled():
            raise Cancelled
        part = order[low : low + _CHUNK]
        here = slice(low, low + len(part))
        is_positive = part < positives
        drawn_from = np.where(is_positive, 0, part - positives)
        row = np.where(is_positive, part, drawn_from // max(negatives, 1))
        user[here] = split.train_user[row]
        item[here] = split.train_item[row]
        if negatives:
            item[here] = np.where(is_positive, item[here], drawn[drawn_from])
        label[here] = is_positive
    _pad(user, examples, split.num_users)
    _pad(item, examples, split.num_items)
    shape = (steps, batch_size)
    return EpochBatches(user.reshape(shape), item.reshape(shape), label.reshape(shape), examples)


def filled_up(rows: np.ndarray, count: int) -> np.ndarray:
    """rows [k, B] with rows of zeros up to [count, B]: a program that got fewer would be
    compiled again for their number."""
    missing = count - len(rows)
    if not missing:
        return rows
    return np.concatenate([rows, np.zeros((missing, rows.shape[1]), rows.dtype)])


def _pad(ids: np.ndarray, start: int, size: int) -> None:
    """Fills ids[start:] with ids spread over the table: one hot row is slow."""
    ids[start:] = np.arange(len(ids) - start) % size


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
