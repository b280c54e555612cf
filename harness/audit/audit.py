"""`python -m harness --audit RESULT [--replay]`: is what a log claims so?

With the checkpoint that `--keep_checkpoint` left, a new process loads the final
weights, makes the evaluation again from the dataset and the seed, and each figure
that the log claims for its last epoch is confirmed or refuted. With `--replay` it
trains the first epoch again and compares batches, loss and hit rate.

On the same engine, device, number of threads and library versions figures agree to the
last digit (a replay: if the run was deterministic, see `--seed`). Elsewhere the hits may
differ by `hits_tolerance`, the loss by a share of LOSS_ALLOWED.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from harness.audit.log_claims import Claims, Figures, NeedsFlag, Unreadable, flags_of, read_claims
from harness.base import exit_codes
from harness.base.console import Console
from harness.config.engine_loader import EngineError, check_engine_name
from harness.config.flag_values import is_url
from harness.config.run_config import ConfigError, RunConfig, default_data_dir, make_config
from harness.config.trial_spec import TrialSpec
from harness.inputs.prepare_data import prepare_data
from harness.logs.provenance import source_digest
from harness.processes.trial_process import child_environment
from harness.results import checkpoints
from reference_model.base.errors import DataError
from reference_model.base.metrics import hits_tolerance
from reference_model.data.split_file import CacheHeader

LOSS_ALLOWED = 1e-3
# Flags that go together with --audit; the log says the rest.
FLAGS = ("track", "engine", "device", "data_dir", "quiet")
_NUMERIC_PACKAGES = ("tensorflow", "tensorflow-cpu", "tensorflow-tpu", "keras", "numpy")


@dataclass(frozen=True)
class Finding:
    """One claim held against what was found; `allowed` is how far apart they may be."""

    what: str
    claimed: Any
    found: Any
    allowed: float = 0.0

    @property
    def ok(self) -> bool:
        if isinstance(self.claimed, str) or self.found is None or self.claimed is None:
            return self.claimed == self.found
        return self.claimed == self.found or abs(self.claimed - self.found) <= self.allowed

    def line(self) -> str:
        """For the console."""
        verdict = "confirmed" if self.ok else "REFUTED"
        if self.ok and self.claimed != self.found:
            verdict = f"within {self.allowed:.3g}"
        shown = [v[:16] if isinstance(v, str) else v for v in (self.claimed, self.found)]
        told = f"{shown[0]}" if self.claimed == self.found else f"{shown[0]}, found {shown[1]}"
        return f"{self.what:<28} {told}: {verdict}"


def run(flags: Mapping[str, Any]) -> int:
    """Audits one result; returns the exit code."""
    path = Path(flags["audit"])
    given = {k: v for k, v in flags.items() if v is not None and k not in ("audit", "replay")}
    try:
        return _audit(path, given, bool(flags.get("replay")))
    except (ConfigError, NeedsFlag, DataError, EngineError) as error:
        return _say(str(error), exit_codes.ERROR)
    except Unreadable as error:
        return _say(f"{path}: {error}", exit_codes.UNREADABLE)
    except OSError as error:
        return _say(f"{error.filename or path}: {error.strerror or error}", exit_codes.ERROR)
    except KeyboardInterrupt:
        return _say("the audit was interrupted", exit_codes.INTERRUPTED)


def _say(message: str, code: int) -> int:
    print(f"neumf-bench: {' '.join(message.split())}", file=sys.stderr)
    return code


def _audit(path: Path, given: dict[str, Any], replay: bool) -> int:
    others = sorted(set(given) - set(FLAGS))
    if others:
        raise ConfigError(f"--{others[0]} does not go with --audit; the log says it")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigError(f"--audit={path} {what}; name one result_N.txt")
    claims = read_claims(path)
    checkpoint = checkpoints.beside(path)
    if checkpoint is None and not replay:
        raise ConfigError(
            f"{path} has no checkpoint (runs with --keep_checkpoint leave one); its first epoch "
            "can be trained again with --replay"
        )
    config = _config(claims, given)
    if replay and config.engine != claims.facts["engine"]:
        raise ConfigError(
            f"--replay takes the log's own engine, not {config.engine}: another one draws other "
            "negatives in another order"
        )
    console = Console(quiet=config.quiet)
    check_engine_name(config.engine)
    header = prepare_data(config, console)
    what = " and ".join(
        name for name, asked in (("evaluation", checkpoint), ("first epoch", replay)) if asked
    )
    console.progress(f"making the {what} again", lasting=False)
    found = _ask(_spec(config, claims, header), checkpoint, replay)
    findings = [*_data(claims, found, config)]
    if checkpoint is not None:
        findings += _checkpoint(claims, found, checkpoint, config)
    if replay:
        findings += _replay(claims, found, config)
    return _verdict(path, claims, findings, console)


def _config(claims: Claims, given: dict[str, Any]) -> RunConfig:
    here = given.get("data_dir") or ""
    here = default_data_dir() if not here or is_url(here) else here
    fixed = {"system": "audit", "results_dir": here}
    make_config({**fixed, **given})  # a flag that cannot be is no fault of the log
    try:
        return make_config({**fixed, **flags_of(claims, given)})
    except ConfigError as error:
        raise Unreadable(f"it cannot be run again: {error}") from None


def _spec(config: RunConfig, claims: Claims, header: CacheHeader) -> TrialSpec:
    return TrialSpec(
        config=config, run=0, seed=claims.facts["seed"], attempt="", result="", link={},
        num_users=header.num_users, num_items=header.num_items,
        num_positives=header.num_positives,
    )  # fmt: skip


def _ask(spec: TrialSpec, checkpoint: Path | None, replay: bool) -> dict[str, Any]:
    """Has a new process find out. Raises ConfigError where it cannot."""
    reader, writer = os.pipe()
    order = {
        "spec": spec.to_json(),
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "replay": replay,
    }
    with open(reader, "rb") as answers:
        child = subprocess.Popen(
            [sys.executable, "-m", "harness.audit.replay_process", f"--pipe={writer}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            pass_fds=(writer,), env=child_environment(),
        )  # fmt: skip
        os.close(writer)
        try:
            output, _ = child.communicate(json.dumps(order).encode())
        except KeyboardInterrupt:
            child.kill()
            child.wait()
            raise
        answer = answers.read()
    told = json.loads(answer) if answer.endswith(b"\n") else {}
    if told.get("type") == "found":
        return told
    if child.returncode < 0:
        raise ConfigError(f"the audit was ended by {signal.Signals(-child.returncode).name}")
    lines = output.decode("utf-8", "replace").strip().splitlines()
    raise ConfigError(f"the audit failed: {told.get('message') or lines[-1:] or 'no answer'}")


# -- one claim after the other ------------------------------------------------


def _is_same_place(claims: Claims, found: dict[str, Any], config: RunConfig) -> bool:
    """Whether figures must agree to the last digit."""
    versions = [
        (claims.versions.get(name), found["versions"].get(name)) for name in _NUMERIC_PACKAGES
    ]
    return (
        config.engine == claims.facts["engine"]
        and found["device"] == claims.device
        and all(theirs == ours for theirs, ours in versions)
    )


def _data(claims: Claims, found: dict[str, Any], config: RunConfig) -> list[Finding]:
    """The split, and what was drawn from it: the same everywhere, by the same engine."""
    findings = [Finding("split", claims.facts["dataset_digest"], found["split_digest"])]
    if config.engine == claims.facts["engine"]:
        for name, digest in sorted(claims.digests.items()):
            findings.append(Finding(name.replace("_", " "), digest, found["digests"].get(name)))
    return findings


def _checkpoint(
    claims: Claims, found: dict[str, Any], path: Path, config: RunConfig
) -> list[Finding]:
    """The figures of the last epoch, from the final weights."""
    got = found["checkpoint"]
    if "unreadable" in got:
        raise Unreadable(f"its checkpoint {path} cannot be used: {got['unreadable']}")
    findings = [Finding("checkpoint", claims.checkpoint, checkpoints.file_digest(path))]
    theirs = found["digests"].get("evaluation_lists")
    claimed = claims.digests.get("evaluation_lists")
    if config.engine != claims.facts["engine"] and None not in (theirs, claimed):
        if theirs != claimed:
            raise ConfigError(f"--engine={config.engine} draws other lists than the log's engine")
    elif got["lists"] is not None:
        findings.append(Finding("lists of the checkpoint", got["lists"], theirs))
    exact = _is_same_place(claims, found, config)
    return findings + _figures(claims, claims.last, got, exact)


def _replay(claims: Claims, found: dict[str, Any], config: RunConfig) -> list[Finding]:
    """The first epoch, trained again."""
    got, claimed = found["replay"], claims.first
    exact = claims.deterministic and _is_same_place(claims, found, config)
    allowed = 0.0 if exact else LOSS_ALLOWED * abs(claimed.loss or math.inf)
    return [
        Finding("replayed epoch 1 loss", claimed.loss, got["loss"], allowed),
        Finding("replayed epoch 1 steps", claimed.steps, got["steps"]),
        *_figures(claims, claimed, got, exact, "replayed "),
    ]


def _figures(
    claims: Claims, claimed: Figures, got: dict[str, Any], exact: bool, how: str = ""
) -> list[Finding]:
    hits = 0 if exact else hits_tolerance(got["users"])
    name = f"{how}epoch {claimed.epoch}"
    share = hits / got["users"] * (1 + 1e-9)  # the difference of two shares is rounded
    return [
        Finding(f"{name} users", claims.facts["eval_num_users"], got["users"]),
        Finding(f"{name} pairs", claimed.samples, got["scored"]),
        Finding(f"{name} hits", claimed.hits, got["hits"], hits),
        Finding(f"{name} hit rate", claimed.hr, got["hr"], share),
        Finding(f"{name} NDCG", claimed.ndcg, got["ndcg"], share),
    ]


def _verdict(path: Path, claims: Claims, findings: list[Finding], console: Console) -> int:
    for finding in findings:
        console.line(finding.line())
    wrong = [finding for finding in findings if not finding.ok]
    if wrong:
        ours = source_digest()
        if claims.source != ours:
            console.line(
                f"The log names source {(claims.source or 'none')[:16]}, this one is {ours[:16]}: "
                "another source may draw other batches; audit the log with its own"
            )
        console.verdict(
            f"REFUTED: {len(wrong)} of {len(findings)} claims of {path} are not so: "
            + ", ".join(finding.what for finding in wrong)
        )
        return exit_codes.FAIL
    near = sum(finding.claimed != finding.found for finding in findings)
    how = "to the last digit" if not near else f"{near} of them within what other hardware allows"
    console.verdict(f"CONFIRMED: {len(findings)} claims of {path}, {how}")
    return exit_codes.OK
