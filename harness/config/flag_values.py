"""The kinds of values that a flag can have, each checked with one sentence.

`given` holds the values of the flags that were given, by name.
"""

from __future__ import annotations

import math
import os
import re
from typing import Any, Mapping


class ConfigError(ValueError):
    """A setting that cannot be used; the message is one line for the user."""


def is_url(value: str) -> bool:
    """Whether a path is one that TensorFlow's file systems open: gs://bucket/folder."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value) is not None


def optional_directory(given: Mapping[str, Any], flag: str) -> str | None:
    return directory(given, flag, "") if given.get(flag) else None


def directory(given: Mapping[str, Any], flag: str, default: str) -> str:
    value = given.get(flag, default)
    if not value.strip():
        raise ConfigError(f"--{flag} is empty; name a folder")
    if is_url(value):
        raise ConfigError(
            f"--{flag}={value}: only --data_dir may be a URL; name a folder of this machine"
        )
    path = os.path.abspath(os.path.expanduser(value))
    probe = path
    while not os.path.lexists(probe):
        probe = os.path.dirname(probe)
    if not os.path.isdir(probe):
        raise ConfigError(f"--{flag}={value}: {probe} is not a folder")
    if not os.access(probe, os.W_OK | os.X_OK):
        raise ConfigError(f"--{flag}={value}: {probe} cannot be written to")
    return path


def text(given: Mapping[str, Any], flag: str, default: str) -> str:
    value = given.get(flag, default)
    if not value.strip() or any(ord(c) < 32 for c in value):
        raise ConfigError(f"--{flag}={value!r}: it must be one line of text")
    return value


def choice(
    given: Mapping[str, Any], flag: str, choices: tuple[str, ...], default: str
) -> str:
    value = given.get(flag, default)
    if value not in choices:
        raise ConfigError(f"--{flag}={value}: use one of {', '.join(choices)}")
    return value


def positive_int(given: Mapping[str, Any], flag: str, default: int) -> int:
    value = given.get(flag, default)
    if not 1 <= value < 2**31:
        raise ConfigError(f"--{flag}={value}: use a whole number from 1 to 2147483647")
    return int(value)


def number(given: Mapping[str, Any], flag: str, default: float | None) -> float:
    value = float(given.get(flag, default))
    if not math.isfinite(value):
        raise ConfigError(f"--{flag}={given[flag]}: use a finite number")
    return value


def positive_float(given: Mapping[str, Any], flag: str, default: float) -> float:
    value = number(given, flag, default)
    if value <= 0:
        raise ConfigError(f"--{flag}={given[flag]}: use a number above 0")
    return value


def below_one(given: Mapping[str, Any], flag: str, default: float) -> float:
    value = number(given, flag, default)
    if not 0 <= value < 1:
        raise ConfigError(f"--{flag}={given[flag]}: use a number from 0 to below 1")
    return value
