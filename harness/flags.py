"""How the flags of `python -m harness` are parsed; `harness.flag_table` lists them.

Nothing here says what a flag means for a run; see `harness.config.run_config`.
"""

from __future__ import annotations

import argparse
from typing import Any, Sequence

from absl import flags as absl_flags

from harness.flag_table import all_flags

def parse_flags(argv: Sequence[str]) -> dict[str, Any]:
    """Parses a command line.

    Args:
      argv: The words after the program's name.

    Returns:
      Values by flag name; None where a flag was not given.

    Raises:
      absl.flags.Error: A flag is unknown or has a value of the wrong kind, or a word is not a
        flag.
    """
    # Not absl's global flags, so that importing this module defines none.
    values = absl_flags.FlagValues()
    define = {
        "string": absl_flags.DEFINE_string,
        "integer": absl_flags.DEFINE_integer,
        "float": absl_flags.DEFINE_float,
        "boolean": absl_flags.DEFINE_boolean,
    }
    for flag in all_flags():
        define[flag.kind](flag.name, None, flag.help, flag_values=values)
    values.set_gnu_getopt(True)  # flags may follow other words
    # absl itself accepts words that are not flags.
    left_over = values(["harness", *argv])[1:]
    if left_over:
        raise absl_flags.Error(f"'{left_over[0]}' is not a flag; flags look like --name=value")
    return {flag.name: values[flag.name].value for flag in all_flags()}


def completion_parser() -> argparse.ArgumentParser:
    """Makes an argparse parser of the same flags, which shtab turns into a completion script."""
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
    for flag in all_flags():
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
