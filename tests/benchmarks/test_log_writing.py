"""Speed of writing records to the log, in both dialects."""

from __future__ import annotations

from itertools import count

import pytest

from harness.base.clock import RunClock
from harness.logs.log_writer import make_sink
from tests.benchmarks.measuring import measure

EPOCHS = 250


@pytest.mark.parametrize(
    "dialect", [pytest.param("mllog", id="mllog"), pytest.param("v0.5", id="v05")]
)
def test_write_log(benchmark, tmp_path, dialect):
    """The records of EPOCHS epochs, and the final sync."""
    number = count()

    def write():
        sink = make_sink(dialect, tmp_path / f"{next(number)}.txt", RunClock())
        for epoch in range(1, EPOCHS + 1):
            sink.start("epoch_start", epoch_num=epoch)
            sink.end("epoch_stop", epoch_num=epoch, loss=1 / epoch)
            sink.start("eval_start", epoch_num=epoch)
            sink.point("eval_accuracy", 0.1, epoch_num=epoch, samples_count=1000)
            sink.end("eval_stop", epoch_num=epoch)
        sink.close()

    measure(benchmark, write, group="log writing", version=f"{EPOCHS} epochs", rounds=7,
            amounts={"records": 5 * EPOCHS})  # fmt: skip
