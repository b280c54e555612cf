"""The fused engine over several replicas."""

from __future__ import annotations

from typing import Any

from reference_model.base.config import EngineConfig
from reference_model.distributed.replica_executor import ReplicaExecutor
from reference_model.events import EventSink
from reference_model.fused import FusedEngine


class ReplicatedFusedEngine(FusedEngine):
    """The fused engine with programs that run over the replicas of `strategy`."""

    def __init__(
        self,
        config: EngineConfig,
        sink: EventSink,
        device: str = "cpu",
        jit_compile: bool = True,
        *,
        strategy: Any,
    ):
        """Like `FusedEngine.__init__`, with a `tf.distribute.Strategy`."""
        executor = ReplicaExecutor(config, strategy, jit_compile)
        super().__init__(config, sink, device, jit_compile, executor)
