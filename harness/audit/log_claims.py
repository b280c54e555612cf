"""Reads the claims of a result log, which is not trusted.

Only figures and words from fixed lists are taken from a log: its track is used only if it is
a built-in track, and its engine only if it is one of this project's engines. All other
settings must come from the flags of the audit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance.base.text import format_value
from compliance.chain.ledger import is_digest
from compliance.logs.dialects import Event, LogReader
from compliance.logs.dialects.event import is_integer, is_number
from compliance.tracks import BUILTIN_TRACKS
from harness.audit.v05_claims import to_mllog_event
from harness.config.device_flags import RUNTIMES
from harness.config.engine_loader import BUILTIN_ENGINES
from reference_model.base.config import OPTIMIZERS, ORDERS, PRECISIONS

MAX_BYTES = 256 << 20  # largest size of a log
# Keys that a log must contain exactly once, with a value of this type.
_REQUIRED_FACTS = {
    "track": str, "seed": int, "engine": str, "precision": str, "device": str, "opt_name": str,
    "global_batch_size": int, "eval_batch_size": int, "opt_base_learning_rate": float,
    "opt_adam_beta_1": float, "opt_adam_beta_2": float, "opt_adam_epsilon": float,
    "dataset_digest": str, "eval_num_users": int, "eval_samples": int, "train_samples": int,
}  # fmt: skip
# Keys that a log may contain at most once.
_SINGLE_KEYS = {
    *_REQUIRED_FACTS, "runtime", "train_order_method", "versions", "configuration", "data_digests", "checkpoint",
    "run_stop", "source",
}  # fmt: skip
# Keys that a log may contain at most once per epoch.
_EPOCH_KEYS = ("eval_accuracy", "eval_ndcg", "eval_stop", "epoch_stop", "eval_size")


class UnreadableLogError(ValueError):
    """The log cannot be audited: it is truncated, contradictory or from another harness."""


class MissingFlagError(ValueError):
    """A log may not set this value; the message names the flag that sets it."""


@dataclass(frozen=True)
class EpochClaims:
    """The claims of a log on one epoch; None for a value that the log does not contain.

    Attributes:
      epoch: Number of the epoch, from 1.
      hr: Hit rate.
      samples: Pairs in the evaluation lists.
      ndcg: NDCG.
      hits: Users whose held-out item is ranked among the top K.
      loss: Mean training loss.
      steps: Training steps.
    """

    epoch: int
    hr: float | None = None
    samples: int | None = None
    ndcg: float | None = None
    hits: int | None = None
    loss: float | None = None
    steps: int | None = None


@dataclass
class LogClaims:
    """The claims of a log on its run.

    Attributes:
      facts: Values of the required keys, each of the right type.
      deterministic: Whether the run was bit-for-bit reproducible.
      device: As `harness.devices.setup.Device.identity`.
      versions: Versions of the libraries, by package.
      digests: Digests (hex) of the drawn data, by name.
      checkpoint: Digest of the checkpoint file; None if there is no checkpoint.
      source: Digest of the source tree; None if the log contains no valid digest.
      runtime: The runtime of the programs; "tensorflow" for logs of earlier versions.
      order_method: How the epoch order is made from the seed; "assignment" for logs of earlier
        versions.
      first: Claims on the first epoch.
      last: Claims on the last evaluated epoch.
    """

    facts: dict[str, Any]
    deterministic: bool
    device: list[Any]
    versions: dict[str, str]
    digests: dict[str, str]
    checkpoint: str | None
    source: str | None
    runtime: str
    order_method: str
    first: EpochClaims
    last: EpochClaims


def read_claims(path: Path) -> LogClaims:
    """Reads the claims of a log.

    Args:
      path: A log of either dialect that the harness writes.

    Raises:
      UnreadableLogError: with one line, to be printed after "PATH: ".
      OSError: the file cannot be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise UnreadableLogError(f"it is larger than {MAX_BYTES >> 20} MiB")
    reader = LogReader(path)
    firsts: dict[str, Event] = {}
    epochs: dict[int, dict[str, Event]] = {}
    for item in reader:
        if not isinstance(item, Event):
            raise UnreadableLogError(f"line {item.line}: {item.message}")
        event = _translate(reader.dialect.name, item)
        if event is None:
            continue
        if event.key in _SINGLE_KEYS:
            first = firsts.setdefault(event.key, event)
            # v0.5 repeats the number of users with every evaluation.
            is_repetition = event.key == "eval_num_users" and first.value == event.value
            if first is not event and not (is_repetition and reader.dialect.name == "v0.5"):
                raise UnreadableLogError(f"line {event.line}: {event.key} occurs twice")
        elif event.key in _EPOCH_KEYS:
            _add_epoch_event(epochs, event)
    if reader.dialect is None or "run_stop" not in firsts:
        raise UnreadableLogError("it has no run_stop: the run did not end")
    if not epochs:
        raise UnreadableLogError("it has no evaluation")
    return _make_claims(firsts, epochs)


def _translate(dialect: str, event: Event) -> Event | None:
    """Returns an event as an MLLOG record; None if an audit does not need it."""
    if dialect == "v0.5":
        return to_mllog_event(event)
    if dialect != "mllog":
        raise UnreadableLogError(
            f"it is a {dialect} log; an audit reads only the dialects that the harness writes"
        )
    return event


def _add_epoch_event(epochs: dict[int, dict[str, Event]], event: Event) -> None:
    """Adds an event to the events of its epoch; keeps only the first and the last two epochs."""
    number = event.metadata.get("epoch_num")
    if not is_integer(number):
        raise UnreadableLogError(f"line {event.line}: {event.key} has no epoch_num")
    if number not in epochs:
        if epochs and number <= max(epochs):
            raise UnreadableLogError(f"line {event.line}: epoch {number} comes after {max(epochs)}")
        # Keep the last two, because the last epoch may be trained but not evaluated.
        if len(epochs) > 2:
            del epochs[sorted(epochs)[1]]
        epochs[number] = {}
    if event.key in epochs[number]:
        raise UnreadableLogError(f"line {event.line}: {event.key} of epoch {number} occurs twice")
    epochs[number][event.key] = event


def _make_claims(firsts: dict[str, Event], epochs: dict[int, dict[str, Event]]) -> LogClaims:
    """Collects the claims from the single events and from the events of each epoch."""
    facts = {key: _fact(firsts, key, expected) for key, expected in _REQUIRED_FACTS.items()}
    evaluated = [number for number in sorted(epochs) if "eval_accuracy" in epochs[number]]
    if not evaluated:
        raise UnreadableLogError("it has no evaluation")
    digests = _object_value(firsts, "data_digests")
    checkpoint = firsts["checkpoint"].value if "checkpoint" in firsts else None
    if not all(map(is_digest, digests.values())) or not (
        checkpoint is None or is_digest(checkpoint)
    ):
        raise UnreadableLogError("one of its digests is not a SHA-256 digest in hex")
    source = firsts["source"].value if "source" in firsts else None
    device = firsts["device"]
    return LogClaims(
        facts=facts,
        # Either record may contain it. A v0.5 log contains it only in the configuration,
        # because its seed tag has no metadata.
        deterministic=is_integer(_object_value(firsts, "configuration").get("base_seed"))
        or firsts["seed"].metadata.get("deterministic") is True,
        device=[device.value, *map(device.metadata.get, ("name", "threads", "num_devices"))],
        versions={k: v for k, v in _object_value(firsts, "versions").items() if isinstance(v, str)},
        digests=digests,
        checkpoint=checkpoint,
        source=source if is_digest(source) else None,
        runtime=firsts["runtime"].value if "runtime" in firsts else "tensorflow",
        order_method=_order_method(firsts),
        first=_epoch_claims(min(epochs), epochs[min(epochs)]),
        last=_epoch_claims(evaluated[-1], epochs[evaluated[-1]]),
    )


def _order_method(firsts: dict[str, Event]) -> str:
    """Returns how the epoch order is made."""
    event = firsts.get("train_order_method")
    if event is None:
        return "assignment"
    if event.value not in ORDERS:
        raise UnreadableLogError(
            f"line {event.line}: train_order_method is {format_value(event.value)}; this version "
            f"makes an order by {' or '.join(ORDERS)}"
        )
    return event.value


def _object_value(firsts: dict[str, Event], key: str) -> dict[str, Any]:
    """Returns a value that must be a JSON object; an empty one if the key is missing."""
    value = firsts[key].value if key in firsts else {}
    if not isinstance(value, dict):
        raise UnreadableLogError(f"line {firsts[key].line}: {key} is {format_value(value)}")
    return value


def _fact(firsts: dict[str, Event], key: str, expected: type) -> Any:
    """Returns a required value of type `expected`; for a float, an integer is valid, too."""
    if key not in firsts:
        raise UnreadableLogError(f"it has no {key}")
    value, line = firsts[key].value, firsts[key].line
    is_valid = is_number(value) if expected is float else type(value) is expected
    if not is_valid:
        raise UnreadableLogError(f"line {line}: {key} is {format_value(value)}")
    return value


def _epoch_claims(epoch: int, records: dict[str, Event]) -> EpochClaims:
    """Builds the claims on an epoch from its records."""

    def number(key: str, name: str | None = None) -> Any:
        if key not in records:
            return None
        event = records[key]
        value = event.value if name is None else event.metadata.get(name)
        return value if is_number(value) else None

    return EpochClaims(
        epoch, number("eval_accuracy"),
        number("eval_size") if "eval_size" in records else number("eval_accuracy", "samples_count"),
        number("eval_ndcg"), number("eval_stop", "hits"), number("epoch_stop", "loss"),
        number("epoch_stop", "steps"),
    )  # fmt: skip


def harness_flags(claims: LogClaims, given: dict[str, Any]) -> dict[str, Any]:
    """Returns the harness flags that repeat a run.

    Args:
      claims: The claims of the run's log.
      given: Flags of the audit, by name; they override the log.

    Returns:
      Values of flags, by name.

    Raises:
      MissingFlagError: the log names a track or an engine that only a flag may name.
      UnreadableLogError: the log cannot come from a run of this harness.
    """
    facts = claims.facts
    if "track" not in given and facts["track"] not in BUILTIN_TRACKS:
        raise MissingFlagError(
            f"the log's track {format_value(facts['track'])} is not a built-in track; "
            "give its file with --track"
        )
    if "engine" not in given and facts["engine"] not in BUILTIN_ENGINES:
        raise MissingFlagError(
            f"the log's engine {format_value(facts['engine'])} is not part of this project; if "
            "you trust it, give it with --engine"
        )
    for key, words in (("opt_name", OPTIMIZERS), ("precision", PRECISIONS)):
        if facts[key] not in words:
            raise UnreadableLogError(f"its {key} is {format_value(facts[key])}")
    # A log must not make the auditor's machine allocate arbitrary amounts of memory: a batch
    # is at most one epoch, or 2 million examples, which fit into memory on every machine.
    if not 1 <= facts["global_batch_size"] <= max(facts["train_samples"], 1 << 21):
        raise UnreadableLogError(f"its batch size is {facts['global_batch_size']}")
    if not 1 <= facts["eval_batch_size"] <= max(facts["eval_samples"], 1 << 21):
        raise UnreadableLogError(f"its evaluation batch size is {facts['eval_batch_size']}")
    if not 0 <= facts["seed"] < 2**63:
        raise UnreadableLogError(f"its seed is {facts['seed']}")
    # Any runtime can repeat the run; the log's own repeats it to the last digit. `--programs`
    # selects its own runtime.
    has_runtime = claims.runtime in RUNTIMES and not given.get("programs")
    return {
        "track": facts["track"],
        "engine": facts["engine"],
        "device": facts["device"] if facts["device"] in ("cpu", "gpu", "tpu") else "auto",
        # The drawn data does not depend on the number of replicas, so one device is enough.
        # The figures then agree within rounding.
        "strategy": "auto" if "tpu" in (facts["device"], given.get("device")) else "one_device",
        "runtime": claims.runtime if has_runtime else "auto",
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
