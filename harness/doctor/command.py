"""`python -m harness --doctor`: prints the findings, and whether the machine is fit."""

from __future__ import annotations

import sys
from typing import Any, Mapping

from harness.base import exit_codes
from harness.base.console import Console
from harness.base.error_text import one_line
from harness.config.run_config import ConfigError, RunConfig, make_config
from harness.doctor.data import examine_data
from harness.doctor.devices import examine_devices
from harness.doctor.disturbances import examine_disturbances, read_state
from harness.doctor.findings import NOT_FIT, NOTE, UNKNOWN, Finding, format_finding
from harness.doctor.gpu_users import examine_gpus
from harness.doctor.resources import examine_resources
from harness.doctor.steadiness import measure_steadiness, steadiness_finding

# Flags that ask for something else than a run.
_OTHER_ACTIONS = ("audit", "new_track", "export", "prepare_only")


def run(flags: Mapping[str, Any]) -> int:
    """Examines the machine for a run with these flags; returns the exit code.

    Args:
      flags: Values by flag name, None if a flag was not given.
    """
    sys.dont_write_bytecode = True
    for name in _OTHER_ACTIONS:
        if flags.get(name):
            return _print_error(f"--doctor and --{name} cannot be combined; remove one of them")
    try:
        config = make_config(flags)
    except ConfigError as error:
        return _print_error(str(error))
    console = Console()
    try:
        return _examine(config, console)
    except KeyboardInterrupt:
        console.verdict("INTERRUPTED; nothing was changed")
        return exit_codes.INTERRUPTED


def _print_error(message: str) -> int:
    """Prints a usage error as one line; returns the exit code."""
    print(f"neumf-bench: {one_line(message)}", file=sys.stderr)
    return exit_codes.ERROR


def _examine(config: RunConfig, console: Console) -> int:
    """Prints all findings; returns the exit code."""
    # Before the child process below uses the processors.
    console.progress("measuring how steady the machine is", lasting=False)
    before = read_state()
    steadiness = measure_steadiness()
    disturbances = [
        *([] if sys.platform == "linux" else [_other_system()]),
        *examine_disturbances(config, steadiness.load, before), *examine_gpus(config),
        steadiness_finding(steadiness.spreads),
    ]  # fmt: skip
    console.progress("looking for devices: a process starts as for a run", lasting=False)
    used = [*examine_devices(config), *examine_resources(config), examine_data(config)]
    for title, findings in (
        (f"A run of {config.track_name} here would use", used),
        ("It would be disturbed by", disturbances),
    ):
        console.line(f"{title}:")
        for finding in findings:
            console.line(format_finding(finding))
        console.line("")
    return _conclude([*used, *disturbances], console)


def _other_system() -> Finding:
    return Finding(UNKNOWN, "system", f"this is {sys.platform}, not Linux: most of what would "
                   "disturb a run is not known here")  # fmt: skip


def _conclude(findings: list[Finding], console: Console) -> int:
    """Prints the verdict; returns the exit code."""
    unfit = list(dict.fromkeys(f.name for f in findings if f.state == NOT_FIT))
    notes = sum(f.state == NOTE for f in findings)
    unknown = sum(f.state == UNKNOWN for f in findings)
    counts = [f"{count} {word}{'s' * (count != 1 and word != 'not known')}"
              for count, word in ((notes, "note"), (unknown, "not known")) if count]  # fmt: skip
    rest = f" ({', '.join(counts)})" if counts else ""
    if unfit:
        console.verdict(f"NOT FIT to measure on: {', '.join(unfit)}{rest}")
        return exit_codes.FAIL
    console.verdict(f"FIT to measure on{rest}")
    return exit_codes.OK
