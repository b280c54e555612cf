"""The fixed vocabulary of the rules: the checks that a rule may apply to a log.

Each word is a class. A check of single logs receives the events of its keys one by one and
reports violations; its state does not grow with the log. A check of sets receives selected
values of all logs in a folder. `VOCABULARY` documents the words and their parameters; rule files
are validated against it.

Imports: base, chain, logs, logs.dialects, tracks; nothing else.
"""

from __future__ import annotations

from typing import Any

from compliance.checking.checks.base import Check, Context, InvalidParameter, Param, Report
from compliance.checking.checks.chain import AttemptChainCheck, AttemptCheck
from compliance.checking.checks.comparisons import (
    AgreesCheck,
    BatchesCheck,
    EqualInEpochCheck,
    ProductCheck,
    SameCheck,
)
from compliance.checking.checks.durations import GapsCheck, RunSecondsCheck, WithinCheck
from compliance.checking.checks.intervals import (
    BetweenCheck,
    EpochOrderCheck,
    EpochsCheck,
    InTurnCheck,
    NestingCheck,
    NoSuchEpochCheck,
    OrderCheck,
    PairsCheck,
    PerEpochCheck,
)
from compliance.checking.checks.noise import EpochsVaryCheck, EpochsVaryInSetCheck
from compliance.checking.checks.outcome import ClockCheck, HitsCheck, OutcomeCheck
from compliance.checking.checks.records import (
    AtMostCheck,
    EventTypesCheck,
    PinnedCheck,
    ReadingCheck,
    RecordCheck,
    SaidAnywhereCheck,
    SomeCheck,
    TimeCheck,
)
from compliance.checking.checks.sets import (
    AllInSetCheck,
    EqualInSetCheck,
    RunsInSetCheck,
    SetCheck,
    UniqueInSetCheck,
)
from compliance.checking.checks.throughput import MaskedShareCheck, NdcgCheck, RateCheck

CHECKS: dict[str, type[Check]] = {
    "reading": ReadingCheck, "record": RecordCheck, "some": SomeCheck, "pinned": PinnedCheck,
    "at_most": AtMostCheck, "said_anywhere": SaidAnywhereCheck, "no_such_epoch": NoSuchEpochCheck,
    "same": SameCheck, "agrees": AgreesCheck, "product": ProductCheck, "batches": BatchesCheck,
    "event_types": EventTypesCheck, "time": TimeCheck, "order": OrderCheck,
    "between": BetweenCheck, "nesting": NestingCheck, "pairs": PairsCheck, "epochs": EpochsCheck,
    "per_epoch": PerEpochCheck, "epoch_order": EpochOrderCheck, "in_turn": InTurnCheck,
    "equal_in_epoch": EqualInEpochCheck, "outcome": OutcomeCheck,
    "hits": HitsCheck, "clock": ClockCheck, "rate": RateCheck, "ndcg": NdcgCheck,
    "masked_share": MaskedShareCheck,
    "within": WithinCheck, "gaps": GapsCheck, "run_seconds": RunSecondsCheck, "attempt": AttemptCheck,
    "epochs_vary": EpochsVaryCheck}
SET_CHECKS: dict[str, type[SetCheck]] = {
    "unique_in_set": UniqueInSetCheck, "all_in_set": AllInSetCheck, "equal_in_set": EqualInSetCheck,
    "runs_in_set": RunsInSetCheck, "epochs_vary_in_set": EpochsVaryInSetCheck,
    "attempt_chain": AttemptChainCheck}
# For each word: (the docstring of its class, its parameters).
VOCABULARY: dict[str, tuple[str, dict[str, Param]]] = {
    name: ((cls.__doc__ or "").strip(), cls.PARAMS)
    for name, cls in {**CHECKS, **SET_CHECKS}.items()}

__all__ = ["CHECKS", "Check", "Context", "InvalidParameter", "Report", "SET_CHECKS", "VOCABULARY",
           "validate_params"]


def validate_params(check: str, params: dict[str, Any]) -> dict[str, Any]:
    """Validates the parameters of a rule.

    Args:
      check: A word of the vocabulary.
      params: The parameters in the rule file.

    Returns:
      The same parameters in the order of the vocabulary.

    Raises:
      InvalidParameter: A parameter is unknown, has a wrong value, or is missing.
    """
    known = VOCABULARY[check][1]
    for key in params:
        if key not in known:
            raise InvalidParameter(
                key, f"check '{check}' has no parameter '{key}' (it has {', '.join(known)})")
    result = {}
    for key, param in known.items():
        if key in params:
            problem = param.problem(params[key])
            if problem:
                raise InvalidParameter(key, f"'{key}' {problem}, not {params[key]!r}")
            result[key] = params[key]
        elif param.required:
            raise InvalidParameter("", f"check '{check}' lacks '{key}'")
    return result
