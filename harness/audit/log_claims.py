"""What a result log claims, taken from it with care: the log is not trusted.

Only figures come out of it, and words out of fixed lists: its track counts if it is
a built-in one and its engine if it is one of ours. Everything else has to be said
by whoever audits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance.chain.ledger import is_digest
from compliance.logs.dialects import Event, LogReader
from compliance.logs.dialects.event import is_integer, is_number, show
from compliance.tracks import BUILTIN_TRACKS
from harness.audit.v05_claims import as_mllog
from harness.config.run_config import BUILTIN_ENGINES, OPTIMIZERS, PRECISIONS

MAX_BYTES = 256 << 20
_FACTS = {
    "track": str, "seed": int, "engine": str, "precision": str, "device": str, "opt_name": str,
    "global_batch_size": int, "eval_batch_size": int, "opt_base_learning_rate": float,
    "opt_adam_beta_1": float, "opt_adam_beta_2": float, "opt_adam_epsilon": float,
    "dataset_digest": str, "eval_num_users": int, "eval_samples": int, "train_samples": int,
}  # fmt: skip
_KEPT = {
    *_FACTS, "versions", "configuration", "data_digests", "checkpoint", "run_stop", "source"
}  # fmt: skip
_OF_EPOCH = ("eval_accuracy", "eval_ndcg", "eval_stop", "epoch_stop", "eval_size")


class Unreadable(ValueError):
    """A log that cannot be audited as it is: cut off, contradictory or not of ours."""


class NeedsFlag(ValueError):
    """Something that a log may not decide; the message says which flag does."""


@dataclass(frozen=True)
class Figures:
    """What a log claims of one epoch; None where it does not say."""

    epoch: int
    hr: float | None = None
    samples: int | None = None
    ndcg: float | None = None
    hits: int | None = None
    loss: float | None = None
    steps: int | None = None


@dataclass
class Claims:
    """What a log claims of its run. `facts` are values of _FACTS, of the right type;
    `device` is as `harness.devices.setup.Device.identity`."""

    facts: dict[str, Any]
    deterministic: bool
    device: list[Any]
    versions: dict[str, str]
    digests: dict[str, str]
    checkpoint: str | None
    source: str | None
    reason: str | None
    first: Figures
    last: Figures


def read_claims(path: Path) -> Claims:
    """Reads a log. Raises Unreadable, OSError."""
    if path.stat().st_size > MAX_BYTES:
        raise Unreadable(f"it is longer than {MAX_BYTES >> 20} MiB")
    reader = LogReader(path)
    firsts: dict[str, Event] = {}
    epochs: dict[int, dict[str, Event]] = {}
    for item in reader:
        if not isinstance(item, Event):
            raise Unreadable(f"line {item.line}: {item.message}")
        event = _as_mllog(reader.dialect.name, item)
        if event is None:
            continue
        if event.key in _KEPT:
            before = firsts.setdefault(event.key, event)
            repeats = event.key == "eval_num_users" and before.value == event.value
            if before is not event and not (repeats and reader.dialect.name == "v0.5"):
                raise Unreadable(f"line {event.line}: {event.key} stands twice")
        elif event.key in _OF_EPOCH:
            _keep(epochs, event)
    if reader.dialect is None or "run_stop" not in firsts:
        raise Unreadable("it has no run_stop: the run did not end")
    if not epochs:
        raise Unreadable("it has no evaluation")
    return _claims(firsts, epochs)


def _as_mllog(dialect: str, event: Event) -> Event | None:
    if dialect == "v0.5":
        return as_mllog(event)
    if dialect != "mllog":
        raise Unreadable(f"it is a {dialect} log; an audit reads those that the harness writes")
    return event


def _keep(epochs: dict[int, dict[str, Event]], event: Event) -> None:
    """Keeps the records of the first and of the last epoch."""
    number = event.meta.get("epoch_num")
    if not is_integer(number):
        raise Unreadable(f"line {event.line}: {event.key} has no epoch_num")
    if number not in epochs:
        if epochs and number <= max(epochs):
            raise Unreadable(f"line {event.line}: epoch {number} comes after {max(epochs)}")
        if len(epochs) > 2:  # the last may be one that was trained and not evaluated
            del epochs[sorted(epochs)[1]]
        epochs[number] = {}
    if event.key in epochs[number]:
        raise Unreadable(f"line {event.line}: {event.key} of epoch {number} stands twice")
    epochs[number][event.key] = event


def _claims(firsts: dict[str, Event], epochs: dict[int, dict[str, Event]]) -> Claims:
    facts = {key: _fact(firsts, key, kind) for key, kind in _FACTS.items()}
    evaluated = [number for number in sorted(epochs) if "eval_accuracy" in epochs[number]]
    if not evaluated:
        raise Unreadable("it has no evaluation")
    digests = _object(firsts, "data_digests")
    checkpoint = firsts["checkpoint"].value if "checkpoint" in firsts else None
    if not all(map(is_digest, digests.values())) or not (
        checkpoint is None or is_digest(checkpoint)
    ):
        raise Unreadable("one of its digests is none")
    source = firsts["source"].value if "source" in firsts else None
    device = firsts["device"]
    reason = firsts["run_stop"].meta.get("reason")
    return Claims(
        facts=facts,
        deterministic=is_integer(_object(firsts, "configuration").get("base_seed"))
        or firsts["seed"].meta.get("deterministic") is True,
        device=[device.value, *map(device.meta.get, ("name", "threads", "num_devices"))],
        versions={k: v for k, v in _object(firsts, "versions").items() if isinstance(v, str)},
        digests=digests,
        checkpoint=checkpoint,
        source=source if is_digest(source) else None,
        reason=reason if isinstance(reason, str) else None,
        first=_figures(min(epochs), epochs[min(epochs)]),
        last=_figures(evaluated[-1], epochs[evaluated[-1]]),
    )


def _object(firsts: dict[str, Event], key: str) -> dict[str, Any]:
    value = firsts[key].value if key in firsts else {}
    if not isinstance(value, dict):
        raise Unreadable(f"line {firsts[key].line}: {key} is {show(value)}")
    return value


def _fact(firsts: dict[str, Event], key: str, kind: type) -> Any:
    if key not in firsts:
        raise Unreadable(f"it has no {key}")
    value, line = firsts[key].value, firsts[key].line
    right = is_number(value) if kind is float else type(value) is kind
    if not right:
        raise Unreadable(f"line {line}: {key} is {show(value)}")
    return value


def _figures(epoch: int, records: dict[str, Event]) -> Figures:
    def number(key: str, name: str | None = None) -> Any:
        if key not in records:
            return None
        event = records[key]
        value = event.value if name is None else event.meta.get(name)
        return value if is_number(value) else None

    return Figures(
        epoch, number("eval_accuracy"),
        number("eval_size") if "eval_size" in records else number("eval_accuracy", "samples_count"),
        number("eval_ndcg"), number("eval_stop", "hits"), number("epoch_stop", "loss"),
        number("epoch_stop", "steps"),
    )  # fmt: skip


def flags_of(claims: Claims, given: dict[str, Any]) -> dict[str, Any]:
    """Harness flags that make the run again; those given go before what the log says.

    Raises NeedsFlag, or Unreadable where the log cannot be of a run of ours.
    """
    facts = claims.facts
    if "track" not in given and facts["track"] not in BUILTIN_TRACKS:
        raise NeedsFlag(
            f"the log is of track {show(facts['track'])}, which is not a built-in one; name its "
            "file with --track"
        )
    if "engine" not in given and facts["engine"] not in BUILTIN_ENGINES:
        raise NeedsFlag(
            f"the log is of engine {show(facts['engine'])}, which is not ours; if you trust it, "
            "name it with --engine"
        )
    for key, words in (("opt_name", OPTIMIZERS), ("precision", PRECISIONS)):
        if facts[key] not in words:
            raise Unreadable(f"its {key} is {show(facts[key])}")
    # A batch is at most the epoch, or what any machine can hold.
    if not 1 <= facts["global_batch_size"] <= max(facts["train_samples"], 1 << 21):
        raise Unreadable(f"its batch size is {facts['global_batch_size']}")
    if not 1 <= facts["eval_batch_size"] <= max(facts["eval_samples"], 1 << 21):
        raise Unreadable(f"its evaluation batch size is {facts['eval_batch_size']}")
    if not 0 <= facts["seed"] < 2**63:
        raise Unreadable(f"its seed is {facts['seed']}")
    return {
        "track": facts["track"],
        "engine": facts["engine"],
        "device": facts["device"] if facts["device"] in ("cpu", "gpu", "tpu") else "auto",
        # What was drawn does not depend on the replicas; figures then agree within rounding.
        "strategy": "auto" if "tpu" in (facts["device"], given.get("device")) else "one_device",
        "precision": facts["precision"],
        "batch_size": facts["global_batch_size"],
        "eval_batch_size": facts["eval_batch_size"],
        "optimizer": facts["opt_name"],
        "learning_rate": facts["opt_base_learning_rate"],
        "beta1": facts["opt_adam_beta_1"],
        "beta2": facts["opt_adam_beta_2"],
        "epsilon": facts["opt_adam_epsilon"],
        "seed": facts["seed"] if claims.deterministic else None,
        **given,
    }
