"""The fixed vocabulary of the rules: what a rule may ask of a log.

Each word is a class that sees the events it asked for, one by one, and reports
violations; its state does not grow with the log.  `VOCABULARY` documents the
words and their parameters and is what rule files are validated against.

Imports: base, chain, logs, logs.dialects, tracks; nothing else.
"""

from __future__ import annotations

from typing import Any

from compliance.checking.checks.base import Bad, Check, Context, Param, Report
from compliance.checking.checks.chain import Attempt, AttemptChain
from compliance.checking.checks.intervals import (
    Between,
    EpochOrder,
    Epochs,
    Nesting,
    Order,
    Pairs,
    PerEpoch,
)
from compliance.checking.checks.outcome import Clock, Hits, Outcome
from compliance.checking.checks.records import (
    AtMost,
    Batches,
    EventTypes,
    Product,
    Reading,
    Record,
    Same,
    Some,
    Time,
)
from compliance.checking.checks.sets import EqualInSet, SetCheck, UniqueInSet
from compliance.checking.checks.throughput import Ndcg, Rate

CHECKS: dict[str, type[Check]] = {
    "reading": Reading, "record": Record, "some": Some, "at_most": AtMost, "same": Same,
    "product": Product, "batches": Batches, "event_types": EventTypes, "time": Time,
    "order": Order, "between": Between, "nesting": Nesting, "pairs": Pairs, "epochs": Epochs,
    "per_epoch": PerEpoch, "epoch_order": EpochOrder, "outcome": Outcome, "hits": Hits,
    "clock": Clock, "rate": Rate, "ndcg": Ndcg, "attempt": Attempt}
SET_CHECKS: dict[str, type[SetCheck]] = {
    "unique_in_set": UniqueInSet, "equal_in_set": EqualInSet,
    "attempt_chain": AttemptChain}
VOCABULARY: dict[str, tuple[str, dict[str, Param]]] = {
    name: ((cls.__doc__ or "").strip(), cls.PARAMS)
    for name, cls in {**CHECKS, **SET_CHECKS}.items()}

__all__ = ["Bad", "CHECKS", "Check", "Context", "Report", "SET_CHECKS", "VOCABULARY", "validate"]


def validate(check: str, params: dict[str, Any]) -> dict[str, Any]:
    """`params` with defaults filled in.  Raises Bad for what the check does not know."""
    known = VOCABULARY[check][1]
    for key in params:
        if key not in known:
            raise Bad(key, f"check '{check}' has no parameter '{key}' (it has {', '.join(known)})")
    result = {}
    for key, param in known.items():
        if key in params:
            problem = param.problem(params[key])
            if problem:
                raise Bad(key, f"'{key}' {problem}, not {params[key]!r}")
            result[key] = params[key]
        elif param.required:
            raise Bad("", f"check '{check}' lacks '{key}'")
    return result
