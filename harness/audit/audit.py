"""`python -m harness --audit RESULT [--replay]`: confirms or refutes the claims of a log.

A new process loads the final weights from the checkpoint that `--keep_checkpoint` wrote and
repeats the evaluation from the dataset and the seed. Each figure that the log claims for its
last epoch is then confirmed or refuted. With `--replay`, the process also trains the first
epoch again and compares its batches, loss and hit rate.

With the same engine, device, number of threads and library versions, figures must agree
to the last digit (figures of a replay only if the run was deterministic, see `--seed`).
Otherwise the hits may differ by `hits_tolerance` and the loss by LOSS_TOLERANCE (relative).
"""

from __future__ import annotations

import math
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from harness.audit.log_claims import (
    EpochClaims,
    LogClaims,
    MissingFlagError,
    UnreadableLogError,
    harness_flags,
    read_claims,
)
from harness.base import exit_codes
from harness.base.console import Console
from harness.base.error_text import one_line
from harness.config.engine_loader import BUILTIN_ENGINES, EngineError, check_engine_name
from harness.config.run_config import (
    DEFAULT_ENGINE,
    ConfigError,
    RunConfig,
    default_data_dir,
    make_config,
)
from harness.config.trial_spec import TrialSpec
from harness.inputs.prepare_data import prepare_data
from harness.logs.provenance import source_digest
from harness.processes.child_process import child_environment, run_child
from harness.results import checkpoints
from reference_model.base.errors import DataError
from reference_model.base.metrics import hits_tolerance
from reference_model.base.urls import is_url
from reference_model.data.split_file import SplitHeader

# Relative tolerance of the loss on other hardware.
LOSS_TOLERANCE = 1e-3
# Flags that may be given with --audit; all other settings come from the log.
ALLOWED_FLAGS = ("track", "engine", "device", "data_dir", "quiet", "runtime", "programs")
# Packages whose version may change the last digits of a figure.
_NUMERIC_PACKAGES = (
    "tensorflow", "tensorflow-cpu", "tensorflow-tpu", "keras", "numpy", "jax", "jaxlib",
)  # fmt: skip


@dataclass(frozen=True)
class ClaimCheck:
    """One claim of a log, compared with the reproduced value.

    Attributes:
      name: Name of the value.
      claimed: Value in the log; None if the log does not contain it.
      found: Reproduced value; None if it could not be reproduced.
      tolerance: Largest absolute difference at which the claim is confirmed.
    """

    name: str
    claimed: Any
    found: Any
    tolerance: float = 0.0

    @property
    def is_confirmed(self) -> bool:
        """Whether the values agree within the tolerance."""
        if isinstance(self.claimed, str) or self.found is None or self.claimed is None:
            return self.claimed == self.found
        return self.claimed == self.found or abs(self.claimed - self.found) <= self.tolerance

    def describe(self) -> str:
        """Returns a line for the console; digests are shortened to 16 characters."""
        verdict = "confirmed" if self.is_confirmed else "REFUTED"
        if self.is_confirmed and self.claimed != self.found:
            verdict = f"within {self.tolerance:.3g}"
        claimed, found = (
            value[:16] if isinstance(value, str) else value for value in (self.claimed, self.found)
        )
        values = f"{claimed}" if self.claimed == self.found else f"{claimed}, found {found}"
        return f"{self.name:<28} {values}: {verdict}"


def run(flags: Mapping[str, Any]) -> int:
    """Audits one result.

    Args:
      flags: Values of the harness's flags by name, None if not given; "audit" is the
        path of the log.

    Returns:
      The exit code: OK, FAIL (a claim is refuted), UNREADABLE, ERROR or INTERRUPTED.
    """
    path = Path(flags["audit"])
    given = {k: v for k, v in flags.items() if v is not None and k not in ("audit", "replay")}
    try:
        return _audit(path, given, bool(flags.get("replay")))
    except (ConfigError, MissingFlagError, DataError, EngineError) as error:
        return _print_error(str(error), exit_codes.ERROR)
    except UnreadableLogError as error:
        return _print_error(f"{path}: {error}", exit_codes.UNREADABLE)
    except OSError as error:
        message = f"{error.filename or path}: {error.strerror or error}"
        return _print_error(message, exit_codes.ERROR)
    except KeyboardInterrupt:
        return _print_error("the audit was interrupted", exit_codes.INTERRUPTED)


def _print_error(message: str, exit_code: int) -> int:
    """Prints one line on standard error; returns the exit code."""
    print(f"neumf-bench: {one_line(message)}", file=sys.stderr)
    return exit_code


def _audit(path: Path, given: dict[str, Any], replay: bool) -> int:
    """Reads the claims, reproduces the run and compares; returns the exit code."""
    others = sorted(set(given) - set(ALLOWED_FLAGS))
    if others:
        raise ConfigError(f"--{others[0]} cannot be given with --audit; the log sets it")
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigError(f"--audit={path} {problem}; give the path of one result_N.txt")
    claims = read_claims(path)
    checkpoint = checkpoints.find_checkpoint(path)
    if checkpoint is None and not replay:
        raise ConfigError(
            f"{path} has no checkpoint (only runs with --keep_checkpoint write one); use --replay "
            "to train its first epoch again"
        )
    config = _make_config(claims, given)
    if replay and config.engine != claims.facts["engine"]:
        raise ConfigError(
            f"--replay requires the log's own engine, not {config.engine}: a different engine "
            "draws different negatives in a different order; leave out --replay, or name that "
            "engine with --engine if you trust it"
        )
    console = Console(quiet=config.quiet)
    check_engine_name(config.engine, config.programs is None)
    header = prepare_data(config, console)
    steps = (("evaluation", checkpoint), ("first epoch", replay))
    step_names = " and ".join(name for name, is_wanted in steps if is_wanted)
    console.progress(f"repeating the {step_names}", lasting=False)
    found = _run_replay_process(_make_spec(config, claims, header), checkpoint, replay)
    checks = _check_data(claims, found, config)
    if checkpoint is not None:
        checks += _check_checkpoint(claims, found, checkpoint, config)
    if replay:
        checks += _check_replay(claims, found, config)
    return _print_verdict(path, claims, checks, console, config.engine)


def _make_config(claims: LogClaims, given: dict[str, Any]) -> RunConfig:
    """Builds the settings that repeat the run, from its log and the given flags."""
    data_dir = given.get("data_dir") or ""
    # No results are written, so any folder that exists or can be created is valid.
    results_dir = default_data_dir() if not data_dir or is_url(data_dir) else data_dir
    # The code that a log names is not run unless the user names it too.
    if "engine" not in given and claims.facts["engine"] not in BUILTIN_ENGINES:
        given = {**given, "engine": DEFAULT_ENGINE}
    fixed = {"system": "audit", "results_dir": results_dir}
    # Check the given flags alone first, so that their errors are not attributed to the log.
    make_config({**fixed, **given})
    try:
        return make_config({**fixed, **harness_flags(claims, given)})
    except ConfigError as error:
        raise UnreadableLogError(f"its run cannot be repeated: {error}") from None


def _make_spec(config: RunConfig, claims: LogClaims, header: SplitHeader) -> TrialSpec:
    """Builds the specification of a trial that writes no log."""
    return TrialSpec(
        config=config, run=0, seed=claims.facts["seed"], attempt_log="", result_log="",
        attempt_record={}, num_users=header.num_users, num_items=header.num_items,
        num_positives=header.num_positives, order_method=claims.order_method,
    )  # fmt: skip


def _run_replay_process(
    spec: TrialSpec, checkpoint: Path | None, replay: bool
) -> dict[str, Any]:
    """Reproduces the run in a new process.

    Returns the result of `replay_process.reproduce_run`. Raises ConfigError if the
    process fails.
    """
    request = {
        "spec": spec.to_json(),
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "replay": replay,
    }
    # The child stays in this process's session, so Ctrl-C in a terminal reaches both.
    result = run_child(
        "harness.audit.replay_process", request, child_environment(), in_new_session=False
    )
    if result.message.get("type") == "found":
        return result.message
    if result.returncode < 0:
        raise ConfigError(
            f"the audit process was ended by {signal.Signals(-result.returncode).name}"
        )
    output_lines = [result.output_line] if result.output_line else []
    reason = result.message.get("message") or output_lines or "no answer"
    raise ConfigError(f"the audit failed: {reason}")


# -- checks of the claims ------------------------------------------------------


def _is_same_environment(claims: LogClaims, found: dict[str, Any], config: RunConfig) -> bool:
    """Returns whether engine, device and library versions are exactly those of the run."""
    return (
        config.engine == claims.facts["engine"]
        and found["device"] == claims.device
        and found["runtime"] == claims.runtime
        and all(
            claims.versions.get(name) == found["versions"].get(name) for name in _NUMERIC_PACKAGES
        )
    )


def _check_data(
    claims: LogClaims, found: dict[str, Any], config: RunConfig
) -> list[ClaimCheck]:
    """Compares the split and, for the same engine, the data drawn from the split.

    Both are identical on all devices.
    """
    checks = [ClaimCheck("split", claims.facts["dataset_digest"], found["split_digest"])]
    if config.engine == claims.facts["engine"]:
        for name, digest in sorted(claims.digests.items()):
            checks.append(ClaimCheck(name.replace("_", " "), digest, found["digests"].get(name)))
    return checks


def _check_checkpoint(
    claims: LogClaims, found: dict[str, Any], path: Path, config: RunConfig
) -> list[ClaimCheck]:
    """Compares the digest of the checkpoint and the figures of the last epoch."""
    evaluated = found["checkpoint"]
    # The log's own engine is a user's, and the built-in engine evaluates in its place.
    is_substitute = claims.facts["engine"] not in (*BUILTIN_ENGINES, config.engine) and (
        config.engine in BUILTIN_ENGINES
    )
    advice = "if you trust the log's engine, name it with --engine"
    if "unreadable" in evaluated:
        if is_substitute:
            raise ConfigError(
                f"the built-in engine {config.engine} cannot use the weights of {path}: "
                f"{evaluated['unreadable']}; {advice}"
            )
        raise UnreadableLogError(
            f"its checkpoint {path} cannot be used: {evaluated['unreadable']}"
        )
    checks = [ClaimCheck("checkpoint", claims.checkpoint, checkpoints.file_digest(path))]
    lists = found["digests"].get("evaluation_lists")
    claimed_lists = claims.digests.get("evaluation_lists")
    if is_substitute and claimed_lists is None:
        raise ConfigError(
            "the log has no digest of its evaluation lists, so the built-in engine "
            f"{config.engine} may evaluate other lists; {advice}"
        )
    # A different engine can confirm figures only if it draws the same evaluation lists.
    if config.engine != claims.facts["engine"] and None not in (lists, claimed_lists):
        if lists != claimed_lists:
            raise ConfigError(
                f"the engine {config.engine} draws different evaluation lists than the log's "
                f"engine; {advice}"
            )
    elif evaluated["lists"] is not None:
        checks.append(ClaimCheck("lists of the checkpoint", evaluated["lists"], lists))
    must_be_exact = _is_same_environment(claims, found, config)
    return checks + _check_epoch(claims, claims.last, evaluated, must_be_exact)


def _check_replay(
    claims: LogClaims, found: dict[str, Any], config: RunConfig
) -> list[ClaimCheck]:
    """Compares the claims on the first epoch with the replayed epoch."""
    replayed, claimed = found["replay"], claims.first
    must_be_exact = claims.deterministic and _is_same_environment(claims, found, config)
    tolerance = 0.0 if must_be_exact else LOSS_TOLERANCE * abs(claimed.loss or math.inf)
    return [
        ClaimCheck("replayed epoch 1 loss", claimed.loss, replayed["loss"], tolerance),
        ClaimCheck("replayed epoch 1 steps", claimed.steps, replayed["steps"]),
        *_check_epoch(claims, claimed, replayed, must_be_exact, "replayed "),
    ]


def _check_epoch(
    claims: LogClaims,
    claimed: EpochClaims,
    evaluated: dict[str, Any],
    must_be_exact: bool,
    prefix: str = "",
) -> list[ClaimCheck]:
    """Compares the figures of one evaluation; `prefix` is put before the name of each check."""
    hits = 0 if must_be_exact else hits_tolerance(evaluated["users"])
    name = f"{prefix}epoch {claimed.epoch}"
    # The tolerance in hits as a fraction of the users. The difference of two fractions is
    # rounded, so the tolerance is slightly larger.
    share = hits / evaluated["users"] * (1 + 1e-9)
    return [
        ClaimCheck(f"{name} users", claims.facts["eval_num_users"], evaluated["users"]),
        ClaimCheck(f"{name} pairs", claimed.samples, evaluated["scored"]),
        ClaimCheck(f"{name} hits", claimed.hits, evaluated["hits"], hits),
        ClaimCheck(f"{name} hit rate", claimed.hr, evaluated["hr"], share),
        ClaimCheck(f"{name} NDCG", claimed.ndcg, evaluated["ndcg"], share),
    ]


def _print_verdict(
    path: Path, claims: LogClaims, checks: list[ClaimCheck], console: Console, engine: str
) -> int:
    """Prints each comparison and the verdict; returns the exit code."""
    for check in checks:
        console.line(check.describe())
    own = claims.facts["engine"]
    if engine not in BUILTIN_ENGINES:
        console.line(
            f"The figures were computed by the engine {engine}, whose word was taken; python -m "
            f"harness.engine_conformance {engine} compares it with the reference engine"
        )
    elif engine != own:
        console.line(f"The figures were computed by the built-in engine {engine}, not by {own}")
    refuted = [check for check in checks if not check.is_confirmed]
    if refuted:
        own_source = source_digest()
        if claims.source != own_source:
            console.line(
                f"The source digest of the log is {(claims.source or 'none')[:16]}, that of this "
                f"program is {own_source[:16]}: another source may draw other batches; audit the "
                "log with its own source"
            )
        console.verdict(
            f"REFUTED: {len(refuted)} of {len(checks)} claims of {path}: "
            + ", ".join(check.name for check in refuted)
        )
        return exit_codes.FAIL
    num_inexact = sum(check.claimed != check.found for check in checks)
    precision = "to the last digit"
    if num_inexact:
        precision = f"{num_inexact} of them within the tolerance for other hardware"
    if engine not in BUILTIN_ENGINES:
        precision += f", by the word of {engine}"
    console.verdict(f"CONFIRMED: {len(checks)} claims of {path}, {precision}")
    return exit_codes.OK
