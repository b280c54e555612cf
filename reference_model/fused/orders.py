"""The epoch orders of the fused engine: made on the host ahead of time, or on the device."""

from __future__ import annotations

from itertools import count
from typing import Any, Iterator, Protocol

import numpy as np

from reference_model.base.config import MAX_SORTED_KEYS, EngineConfig
from reference_model.device_sampling.epoch_order import EpochOrders
from reference_model.device_sampling.key_order import batches_on_host
from reference_model.events import EventSink
from reference_model.fused.executor import Executor
from reference_model.fused.programs import order_program
from reference_model.sampling.prefetch import EpochPrefetcher
from reference_model.sampling.random_streams import order_key


class Orders(Protocol):
    """The orders of a run's epochs."""

    dtype: np.dtype

    def begin(self, seed: int) -> None:
        """Starts a run with this seed; the first epoch may be prepared from now on."""

    def take(self, epoch: int) -> Iterator[Any]:
        """Yields the order of an epoch in parts, ids [steps, B], on the host or placed."""

    def close(self) -> None:
        """Ends all preparation."""


def make_orders(config: EngineConfig, executor: Executor, sink: EventSink) -> Orders:
    """Makes the orders that `config.order` names.

    Raises:
      ValueError: they cannot be made on this executor, or there are too many examples.
    """
    if config.order != "sorted_keys":
        return HostOrders(config, sink)
    if executor.replicas > 1:
        raise ValueError("an order made on the device requires one device")
    if config.train_examples > MAX_SORTED_KEYS:
        raise ValueError(f"an order made on the device has at most {MAX_SORTED_KEYS} examples")
    return DeviceOrders(config, executor, sink)


class HostOrders:
    """Orders made in a thread while the previous epoch trains; see `epoch_order`."""

    def __init__(self, config: EngineConfig, sink: EventSink):
        self._orders = EpochOrders(
            config.train_examples, config.batch_size, 1 + config.train_negatives
        )
        self.dtype, self._sink = self._orders.dtype, sink
        self._prefetcher: EpochPrefetcher | None = None

    @property
    def parts(self) -> int:
        """Number of parts of an epoch."""
        return self._orders.parts

    def begin(self, seed: int) -> None:
        # Concurrent preparations would write to the same buffers.
        self.close()
        self._prefetcher = EpochPrefetcher(
            lambda epoch, cancelled: self._orders.of(seed, epoch, cancelled),
            self._sink,
            parts=self._orders.parts,
            negatives="in_step",
        )
        self._prefetcher.begin(1)

    def take(self, epoch: int) -> Iterator[np.ndarray]:
        for part in range(1, self._orders.parts + 1):
            ids = self._prefetcher.take(epoch)
            if part == self._orders.parts:
                self._prefetcher.begin(epoch + 1)
            yield ids

    def close(self) -> None:
        if self._prefetcher is not None:
            self._prefetcher.close()


class DeviceOrders:
    """Orders made on the device when an epoch starts; see `key_order`."""

    dtype = np.dtype(np.int32)

    def __init__(self, config: EngineConfig, executor: Executor, sink: EventSink):
        self._draw = executor.compile_program(order_program(config), fetches=False)
        self._sink, self._seed = sink, 0

    def warm_up(self) -> Any:
        """Compiles the program; returns an order, placed."""
        return self._draw(order_key(0, 0), np.int32(0))[0]

    def begin(self, seed: int) -> None:
        self._seed = seed

    def take(self, epoch: int) -> Iterator[Any]:
        self._sink.start("train_neg_gen_start", epoch_num=epoch, negatives="in_step")
        key, has_equal = order_key(self._seed, epoch), True
        for attempt in count():
            batches, has_equal = self._draw(key, np.int32(attempt))
            if not bool(has_equal):  # waits for the device
                break
        self._sink.end("train_neg_gen_stop", epoch_num=epoch, status="complete")
        yield batches

    def close(self) -> None:
        pass


def redrawn_order(config: EngineConfig, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Makes the order of an epoch again, on the host; yields ids [steps, B] in parts."""
    if config.order == "sorted_keys":
        yield batches_on_host(config.train_examples, config.batch_size, order_key(seed, epoch))
        return
    # Separate buffers, because a run may be using those of the engine.
    orders = EpochOrders(config.train_examples, config.batch_size, 1 + config.train_negatives)
    yield from orders.of(seed, epoch)
