"""Parses the flags of `python -m harness`, which `harness.flag_table` lists.

`harness.config.run_config` interprets and checks their values.
"""

from __future__ import annotations

import argparse
import difflib
import re
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from absl import flags as absl_flags

from harness.flag_table import all_flags

# How a value of each kind is written.
_KIND_HINTS = {
    "integer": "use a whole number",
    "float": "use a number",
    "boolean": "use true or false",
}


class _Word(NamedTuple):
    """One argument; `place` is "FILE:LINE: " if it comes from a flag file, otherwise empty."""

    text: str
    place: str = ""


def parse_flags(argv: Sequence[str]) -> dict[str, Any]:
    """Parses a command line.

    Args:
      argv: Arguments after the program's name.

    Returns:
      Values by flag name; None if a flag was not given.

    Raises:
      absl.flags.Error: A flag is unknown or has a value of the wrong type, an argument is not a
        flag, or a flag file cannot be read. The message is one line.
    """
    words = _expand_flag_files([_Word(text) for text in argv], ())
    try:
        values = _parse([word.text for word in words])
    except absl_flags.Error:
        # Find the line of a flag file that causes the error.
        for word in words:
            if word.place:
                try:
                    _parse([word.text])
                except absl_flags.Error as error:
                    raise absl_flags.Error(f"{word.place}{error}") from None
        raise
    return {flag.name: values[flag.name].value for flag in all_flags()}


def _parse(argv: list[str]) -> absl_flags.FlagValues:
    """Parses arguments without flag files; raises absl.flags.Error with one line for the user."""
    # Not absl's global flags, so that importing this module defines no flags.
    values = absl_flags.FlagValues()
    define = {
        "string": absl_flags.DEFINE_string,
        "integer": absl_flags.DEFINE_integer,
        "float": absl_flags.DEFINE_float,
        "boolean": absl_flags.DEFINE_boolean,
    }
    for flag in all_flags():
        define[flag.kind](flag.name, None, flag.help, flag_values=values)
    values.set_gnu_getopt(True)  # allows flags after other arguments
    _check_separate_values(argv)
    try:
        # absl itself accepts arguments that are not flags.
        left_over = values(["harness", *argv])[1:]
    except absl_flags.UnrecognizedFlagError as error:
        raise absl_flags.Error(_unknown_flag(error.flagname)) from None
    except absl_flags.IllegalFlagValueError:
        raise absl_flags.Error(_wrong_value(argv)) from None
    except absl_flags.Error as error:
        missing = re.search(r"Missing value for flag (\S+)", str(error))
        raise absl_flags.Error(f"{missing[1]}: give a value" if missing else str(error)) from None
    except UnicodeDecodeError:
        raise
    except ValueError as error:  # --noquiet=3
        raise absl_flags.Error(str(error)) from None
    if left_over:
        raise absl_flags.Error(f"'{left_over[0]}' is not a flag; flags look like --name=value")
    return values


def _check_separate_values(argv: list[str]) -> None:
    """Refuses `--name --other`, in which absl would take the second flag as the value."""
    kinds = {flag.name: flag.kind for flag in all_flags()}
    for word, following in zip(argv, argv[1:]):
        name = word.lstrip("-")
        if word == "--":
            return
        if word.startswith("-") and kinds.get(name, "boolean") != "boolean":
            if following.startswith("--"):
                raise absl_flags.Error(f"--{name}: give a value; {following} is another flag")


def _unknown_flag(name: str) -> str:
    """Describes a flag that does not exist, with the most similar ones."""
    near = difflib.get_close_matches(name, [flag.name for flag in all_flags()], 1)
    hint = f"did you mean --{near[0]}?" if near else "--help lists the flags"
    return f"--{name}: no such flag; {hint}"


def _wrong_value(argv: list[str]) -> str:
    """Describes the first argument whose value does not have the type of its flag."""
    for position, word in enumerate(argv):
        name, has_value, value = word.lstrip("-").partition("=")
        flag = next((f for f in all_flags() if f.name == name), None)
        if not word.startswith("-") or flag is None:
            continue
        if not has_value and flag.kind != "boolean":
            value = argv[position + 1] if position + 1 < len(argv) else ""
        try:
            if flag.kind == "boolean" and has_value:
                absl_flags.BooleanParser().parse(value)
            elif flag.kind in ("integer", "float"):
                {"integer": int, "float": float}[flag.kind](value)
        except ValueError:
            return f"--{name}={value}: {_KIND_HINTS[flag.kind]}"
    return "a flag has a wrong value"


def _expand_flag_files(words: list[_Word], opened: tuple[str, ...]) -> list[_Word]:
    """Replaces each --flagfile=FILE by the lines of the file, as absl does.

    Args:
      words: The arguments.
      opened: The flag files that are being read, which must not include themselves.

    Raises:
      absl.flags.Error: A flag file cannot be read.
    """
    expanded, rest = [], iter(words)
    for word in rest:
        name, has_value, path = word.text.partition("=")
        if word.text == "--":
            return [*expanded, word, *rest]
        if name not in ("--flagfile", "-flagfile"):
            expanded.append(word)
            continue
        if not has_value:
            path = next(rest, _Word("")).text
        if not path:
            raise absl_flags.Error(f"{word.place}--flagfile: give the name of a file")
        if path in opened:
            raise absl_flags.Error(f"{word.place}--flagfile={path}: the file includes itself")
        lines = _read_flag_file(path, word.place)
        expanded += _expand_flag_files(lines, (*opened, path))
    return expanded


def _read_flag_file(path: str, place: str) -> list[_Word]:
    """Reads the lines of a flag file without comments (# or //) and blank lines."""
    try:
        file = Path(path).expanduser()
        if file.exists() and not file.is_file():  # a device might never end
            raise absl_flags.Error(f"{place}--flagfile={path}: is not a file")
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise absl_flags.Error(f"{place}--flagfile={path}: no such file") from None
    except UnicodeDecodeError:
        raise absl_flags.Error(f"{place}--flagfile={path}: is not a text file in UTF-8") from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise absl_flags.Error(f"{place}--flagfile={path}: {reason}") from None
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [_Word(line, f"{path}:{number}: ") for number, line in lines
            if line and not line.startswith(("#", "//"))]


def completion_parser() -> argparse.ArgumentParser:
    """Makes an argparse parser of the same flags, from which shtab makes a completion script."""
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
