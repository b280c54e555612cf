"""`python -m harness`: parses the flags, runs the requested action, returns the exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import Iterator, Sequence

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Protects the imports below in the same way as those in `main`; see `ending_at_interrupt`.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from compliance.cli import requirements, shell_completion
from harness.base import exit_codes
from harness.base.error_text import one_line
from harness.flag_table import help_text


def _asks_for_help(argv: Sequence[str]) -> bool:
    """Whether an argument before `--` is one of absl's help flags."""
    words = argv[: argv.index("--")] if "--" in argv else argv
    return any(word in ("--help", "-help", "-h", "--helpfull") for word in words)


def _program_name() -> str:
    """Returns the command in use: ./run_and_time.sh, the console script or the module."""
    if called := os.environ.get("NEUMF_CALLED_AS"):
        return called
    return "python -m harness" if sys.argv[0].endswith("__main__.py") else "neumf-bench"


def _print(text: str) -> int:
    """Prints a text to standard output; returns the exit code."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe. Python flushes standard output again
        # at exit; that flush must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exit_codes.OK


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the harness.

    Args:
      argv: Arguments after the program's name; those of this process if None.

    Returns:
      The exit code of the process.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if _asks_for_help(argv):
        return _print(help_text(_program_name()))
    missing = requirements.missing_packages()
    if missing is not None:
        print(f"neumf-bench: {missing}", file=sys.stderr)
        return exit_codes.ERROR
    # Imported late, since --help needs no packages.
    from absl import flags as absl_flags

    from harness.flags import completion_parser, parse_flags

    shell = shell_completion.requested_shell(argv)
    if shell:
        return shell_completion.print_script(completion_parser(), shell)
    try:
        values = parse_flags(argv)
    except (absl_flags.Error, UnicodeDecodeError) as error:
        print(f"neumf-bench: {one_line(error)}", file=sys.stderr)
        return exit_codes.ERROR
    # Imported late, so that --help and flag errors respond at once.
    if values["doctor"]:
        with ending_at_interrupt():
            from harness.doctor import command

        return command.run(values)
    if values["audit"] is not None:
        with ending_at_interrupt():
            from harness.audit import audit

        return audit.run(values)
    if values["replay"]:
        print("neumf-bench: --replay requires --audit=RESULT", file=sys.stderr)
        return exit_codes.ERROR
    if values["new_track"] is not None:
        with ending_at_interrupt():
            from harness.inputs import new_track

        return new_track.run(values)
    if values["columns"] is not None:
        print("neumf-bench: --columns requires --new_track=RATINGS", file=sys.stderr)
        return exit_codes.ERROR
    if values["tune"]:
        with ending_at_interrupt():
            from harness.tune import command

        return command.run(values)
    for name in ("minutes", "max_trials"):
        if values[name] is not None:
            print(f"neumf-bench: --{name} requires --tune", file=sys.stderr)
            return exit_codes.ERROR
    with ending_at_interrupt():
        from harness.launcher import run_set

    return run_set.run(values)


@contextlib.contextmanager
def ending_at_interrupt() -> Iterator[None]:
    """Lets SIGINT end the process at once while the block imports modules.

    A KeyboardInterrupt during the import of a C extension may crash Python. Nothing needs
    cleanup yet.
    """
    if signal.getsignal(signal.SIGINT) not in (signal.default_int_handler, signal.SIG_DFL):
        yield  # SIGINT is ignored, as in a background job, and stays so
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    sys.exit(main())
