"""An order made on the device: same distribution, nothing for the host to send, reproducible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("jax", reason="JAX is not installed: pip install '.[pjrt]'")

from reference_model.events import NullSink  # noqa: E402
from reference_model.fused.engine import FusedEngine
from reference_model.pjrt.client import PjrtClient
from reference_model.pjrt.executor import PjrtExecutor
from reference_model.pjrt.lowering import lower
from tests.reference_model.keras_engine.test_engine import CONFIG, SPLIT

ON_DEVICE = replace(CONFIG, batch_size=320, order="sorted_keys")
_MOST_BYTES = 1 << 20


class RecordingClient(PjrtClient):
    """Records the bytes that go to the device: placed arrays, and host arrays as arguments."""

    def __init__(self, *args):
        super().__init__(*args)
        self.sent: list[int] = []

    def _record(self, arrays) -> None:
        self.sent += [x.nbytes for x in arrays if isinstance(x, (np.ndarray, np.generic))]

    def place(self, array):
        self._record([array])
        return super().place(array)

    def place_without_copy(self, array):
        self._record([array])
        return super().place_without_copy(array)

    def compile(self, program, code):
        compiled = super().compile(program, code)

        def call(*inputs):
            self._record(inputs)
            return compiled(*inputs)

        return call


def started(config, executor=None, device: str = "gpu", seed: int = 7) -> FusedEngine:
    engine = FusedEngine(config, NullSink(), device, executor=executor)
    engine.prepare()
    engine.reset(seed)
    engine.load(SPLIT)
    return engine


def pjrt(config, client=None) -> PjrtExecutor:
    return PjrtExecutor(config, client or PjrtClient("cpu"), lower)


def results(engine: FusedEngine) -> list[tuple[float, int]]:
    found = [(engine.train_epoch(e).loss, engine.evaluate().hits) for e in (1, 2, 3)]
    engine.close()
    return found


def test_nothing_large_goes_to_the_device_between_epochs():
    client = RecordingClient("cpu")
    engine = started(ON_DEVICE, pjrt(ON_DEVICE, client))
    client.sent.clear()
    results(engine)
    assert client.sent and sum(client.sent) < 1_000 < _MOST_BYTES
    on_host = replace(ON_DEVICE, order="assignment")
    client = RecordingClient("cpu")
    engine = started(on_host, pjrt(on_host, client))
    client.sent.clear()
    results(engine)
    assert max(client.sent) >= 4 * CONFIG.train_examples  # the test sees an order that is sent


def test_tensorflow_and_pjrt_train_alike():
    found = results(started(ON_DEVICE, pjrt(ON_DEVICE)))
    expected = results(started(ON_DEVICE))
    for (loss, hits), (expected_loss, expected_hits) in zip(found, expected):
        assert loss == pytest.approx(expected_loss, rel=1e-6)
        assert abs(hits - expected_hits) <= 1


def test_the_batches_of_an_epoch_are_those_that_were_trained():
    """Training on the batches that are made again gives the same weights."""
    engine = started(ON_DEVICE)
    engine.train_epoch(1)
    trained = engine.get_weights()
    batches = engine.epoch_batches(1)
    engine.reset(7)
    engine.train_batches(batches)
    for name, weight in engine.get_weights().items():
        np.testing.assert_allclose(weight, trained[name], rtol=1e-4, atol=1e-6, err_msg=name)
    engine.close()
    label = batches.label.reshape(-1)[: batches.examples]
    assert label.sum() == CONFIG.num_positives and batches.examples == CONFIG.train_examples


def test_both_orders_reach_the_same_quality():
    hits = {
        order: np.mean([
            results(started(replace(ON_DEVICE, order=order), seed=seed))[-1][1] for seed in range(5)
        ])
        for order in ("assignment", "sorted_keys")
    }  # fmt: skip
    assert hits["sorted_keys"] == pytest.approx(hits["assignment"], rel=0.15)


def test_an_epoch_with_more_examples_than_32_bits_is_refused():
    config = replace(ON_DEVICE, num_positives=2**30)
    with pytest.raises(ValueError, match="at most 2147483647 examples"):
        FusedEngine(config, NullSink(), "gpu", executor=pjrt(config))
