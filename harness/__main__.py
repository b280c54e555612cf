"""`python -m harness`: the flags and the exit code, nothing else."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from typing import Any, Iterator, NamedTuple, Sequence

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # see `importing`

from absl import flags as absl_flags

from compliance.cli import shell_completion
from harness.base import exit_codes


class _Flag(NamedTuple):
    name: str
    kind: str  # string | integer | float | boolean
    help: str


FLAG_GROUPS: tuple[tuple[str, tuple[_Flag, ...]], ...] = (
    (
        "What is run",
        (
            _Flag("track", "string", "built-in track or a track file (ml-100k)"),
            _Flag("num_runs", "integer", "runs in the set (the track's)"),
            _Flag("division", "string", "closed | open (closed)"),
            _Flag("seed", "integer", "base of the trial seeds; makes the set open"),
            _Flag("target", "float", "HR@K to reach; open division only"),
            _Flag("max_epochs", "integer", "epoch cap; closed may only lower it"),
            _Flag("org", "string", "submitting organisation (unknown)"),
        ),
    ),
    (
        "Where things are",
        (
            _Flag("data_dir", "string", "datasets and caches (~/.cache/neumf-bench)"),
            _Flag("results_dir", "string", "logs and reports (results)"),
            _Flag("system", "string", "name of this system (from the machine)"),
            _Flag("profile_dir", "string", "write a TensorFlow profile; unscored"),
            _Flag("tensorboard_dir", "string", "write HR, NDCG, loss, examples/s by epoch"),
        ),
    ),
    (
        "How it trains",
        (
            _Flag("engine", "string", "fused (default) | reference | module:Class"),
            _Flag("input", "string", "generated (default) | shards | timed_shards"),
            _Flag("synthetic_batches", "boolean", "train on made-up batches; unscored"),
            _Flag("precision", "string", "float32 | tf32 (GPUs) | bfloat16"),
            _Flag("batch_size", "integer", "examples in a step, all devices"),
            _Flag("eval_batch_size", "integer", "scored pairs in a step, whole users"),
            _Flag("optimizer", "string", "adam | lazy_adam"),
            _Flag("learning_rate", "float", ""),
            _Flag("beta1", "float", ""),
            _Flag("beta2", "float", ""),
            _Flag("epsilon", "float", ""),
        ),
    ),
    (
        "Where it trains",
        (
            _Flag("device", "string", "auto | cpu | gpu | tpu | another TensorFlow has"),
            _Flag("num_devices", "integer", "devices of this machine to use (all)"),
            _Flag("strategy", "string", "auto|one_device|mirrored|multi_worker_mirrored|tpu"),
            _Flag("tpu", "string", "a TPU's name or grpc address, or local"),
            _Flag("tpu_zone", "string", "zone of the TPU that --tpu names"),
            _Flag("tpu_project", "string", "project of the TPU that --tpu names"),
            _Flag("intra_op_threads", "integer", "threads inside an operation (TensorFlow's)"),
            _Flag("inter_op_threads", "integer", "operations side by side (TensorFlow's)"),
        ),
    ),
    (
        "How the set is made",
        (
            _Flag("resume", "boolean", "complete an unfinished set"),
            _Flag("overwrite", "boolean", "set an unfinished set aside, start anew"),
            _Flag("prepare_only", "boolean", "get and preprocess the data, then stop"),
            _Flag("keep_checkpoint", "boolean", "keep the final weights, for --audit"),
            _Flag("clear_caches", "string", "auto | require | skip (auto)"),
            _Flag("log_format", "string", "mllog | v0.5 (mllog)"),
            _Flag("quiet", "boolean", "only the table and the verdict"),
        ),
    ),
    (
        "What is found out about a result",
        (
            _Flag("audit", "string", "confirm or refute a result log; see SECURITY.md"),
            _Flag("replay", "boolean", "with --audit: train its first epoch again"),
        ),
    ),
)


def help_text() -> str:
    """The `--help` page: every flag in its group, defaults in parentheses."""
    lines = [
        "Trains NeuMF to its target hit rate several times, timed and logged, then",
        "checks and scores the logs.",
        "",
        "usage: python -m harness [--flag=value ...]",
    ]
    for title, group in FLAG_GROUPS:
        lines += ["", f"{title}:"]
        for flag in group:
            name = f"--{flag.name}" + ("" if flag.kind == "boolean" else "=")
            lines.append(f"  {name:<19} {flag.help}".rstrip())
    lines += [
        "",
        "Others: --flagfile=FILE (flags, one a line), --help,",
        "--print-completion=bash|zsh|tcsh (what the shell completes with).",
        "Flags without a default here take the track's.",
        "Exit codes: 0 PASS or valid, 1 usage or internal error, 2 FAIL,",
        "3 interrupted (go on with --resume).",
        "",
        "Examples:",
        "  python -m harness                            the whole set on ml-100k",
        "  python -m harness --track=ml-1m --num_runs=1 one run, unscored",
        "  python -m harness --batch_size=8192 --learning_rate=0.005",
    ]
    return "\n".join(lines)


def parse_flags(argv: Sequence[str]) -> dict[str, Any]:
    """Flag values by name, None where not given; `argv` is without the program.

    A flag set of its own, so that importing this module defines no flag.

    Raises:
      absl.flags.Error: a flag that is unknown or has a value of the wrong kind,
        or a word that is no flag.
    """
    values = absl_flags.FlagValues()
    define = {
        "string": absl_flags.DEFINE_string,
        "integer": absl_flags.DEFINE_integer,
        "float": absl_flags.DEFINE_float,
        "boolean": absl_flags.DEFINE_boolean,
    }
    names = [flag for _, group in FLAG_GROUPS for flag in group]
    for flag in names:
        define[flag.kind](flag.name, None, flag.help, flag_values=values)
    values.set_gnu_getopt(True)
    left_over = values(["harness", *argv])[1:]
    if left_over:
        raise absl_flags.Error(f"'{left_over[0]}' is not a flag; flags look like --name=value")
    return {flag.name: values[flag.name].value for flag in names}


def completion_parser() -> argparse.ArgumentParser:
    """The same flags as an argparse parser, for the programs that complete those."""
    from compliance.tracks import BUILTIN_TRACKS
    from harness.config import device_flags, run_config

    choices = {
        "track": BUILTIN_TRACKS,
        "division": run_config.DIVISIONS,
        "device": device_flags.DEVICES,
        "strategy": device_flags.STRATEGIES,
        "input": run_config.INPUTS,
        "engine": run_config.BUILTIN_ENGINES,
        "precision": run_config.PRECISIONS,
        "optimizer": run_config.OPTIMIZERS,
        "clear_caches": run_config.CACHE_MODES,
        "log_format": run_config.LOG_FORMATS,
    }
    parser = argparse.ArgumentParser(prog="neumf-bench", add_help=False)
    for flag in (flag for _, group in FLAG_GROUPS for flag in group):
        name, about = f"--{flag.name}", flag.help.replace("%", "%%")
        if flag.kind == "boolean":
            parser.add_argument(name, help=about, action="store_true")
        else:
            is_file = flag.name.endswith("_dir") or flag.name == "audit"
            metavar = "FILE" if is_file else None
            parser.add_argument(name, help=about, choices=choices.get(flag.name), metavar=metavar)
    parser.add_argument("--flagfile", metavar="FILE")
    parser.add_argument("--help", action="help")
    return parser


def _wants_help(argv: Sequence[str]) -> bool:
    words = argv[: argv.index("--")] if "--" in argv else argv
    return any(word in ("--help", "-help", "-h", "--helpfull") for word in words)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _print(text: str) -> int:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader wanted only the beginning
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exit_codes.OK


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the harness; returns the process's exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if _wants_help(argv):
        return _print(help_text())
    shell = shell_completion.asked(argv)
    if shell:
        return shell_completion.print_for(completion_parser(), shell)
    try:
        values = parse_flags(argv)
    except (absl_flags.Error, UnicodeDecodeError) as error:
        print(f"neumf-bench: {_one_line(error)} (--help lists the flags)", file=sys.stderr)
        return exit_codes.ERROR
    # Late, so that --help and a mistyped flag answer at once.
    if values["audit"] is not None:
        with importing():
            from harness.audit import audit

        return audit.run(values)
    if values["replay"]:
        print("neumf-bench: --replay goes with --audit=RESULT", file=sys.stderr)
        return exit_codes.ERROR
    with importing():
        from harness.launcher import run_set

    return run_set.run(values)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """In this block SIGINT ends the process at once: a KeyboardInterrupt while a C extension
    is imported may crash Python, and nothing has begun that would have to be ended."""
    if signal.getsignal(signal.SIGINT) not in (signal.default_int_handler, signal.SIG_DFL):
        yield  # ignored, as under nohup
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    sys.exit(main())
