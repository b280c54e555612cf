"""Checks the value of one flag: a number, a choice, a text or a folder.

In every function, `given` contains the values of the given flags by name, and `default`
is the value of a flag that was not given. An invalid value raises ConfigError with one
sentence for the user.
"""

from __future__ import annotations

import math
import os
from typing import Any, Mapping

from reference_model.base.urls import is_url


class ConfigError(ValueError):
    """A setting is invalid; the message is one line for the user."""


def get_optional_directory(given: Mapping[str, Any], flag: str) -> str | None:
    """Returns the absolute path of a folder; None if the flag is missing or empty."""
    return get_directory(given, flag, "") if given.get(flag) else None


def get_directory(given: Mapping[str, Any], flag: str, default: str) -> str:
    """Returns the absolute path of a folder that exists or can be created.

    Raises:
      ConfigError: The value is empty, a URL, below a file, or in a folder that this
        process may not write to.
    """
    value = given.get(flag, default)
    if not value.strip():
        raise ConfigError(f"--{flag} is empty; name a folder")
    if is_url(value):
        raise ConfigError(
            f"--{flag}={value}: only --data_dir may be a URL; name a local folder"
        )
    path = os.path.abspath(os.path.expanduser(value))
    # Missing folders are created later. That is possible if the closest existing ancestor
    # is a writable folder.
    ancestor = path
    while not os.path.lexists(ancestor):
        ancestor = os.path.dirname(ancestor)
    if not os.path.isdir(ancestor):
        raise ConfigError(f"--{flag}={value}: {ancestor} is not a folder")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise ConfigError(f"--{flag}={value}: {ancestor} cannot be written to")
    return path


def get_text(given: Mapping[str, Any], flag: str, default: str) -> str:
    """Returns one non-empty line of text without control characters."""
    value = given.get(flag, default)
    if not value.strip() or any(ord(character) < 32 for character in value):
        raise ConfigError(f"--{flag}={value!r}: it must be one line of text")
    return value


def get_choice(
    given: Mapping[str, Any], flag: str, choices: tuple[str, ...], default: str
) -> str:
    """Returns one of `choices`."""
    value = given.get(flag, default)
    if value not in choices:
        raise ConfigError(f"--{flag}={value}: use one of {', '.join(choices)}")
    return value


def get_positive_int(given: Mapping[str, Any], flag: str, default: int) -> int:
    """Returns a whole number from 1 to 2^31 - 1."""
    value = given.get(flag, default)
    if not 1 <= value < 2**31:
        raise ConfigError(f"--{flag}={value}: use a whole number from 1 to 2147483647")
    return int(value)


def get_finite_number(given: Mapping[str, Any], flag: str, default: float | None) -> float:
    """Returns a number that is neither NaN nor infinite."""
    value = float(given.get(flag, default))
    if not math.isfinite(value):
        raise ConfigError(f"--{flag}={given[flag]}: use a finite number")
    return value


def get_positive_float(given: Mapping[str, Any], flag: str, default: float) -> float:
    """Returns a finite number above 0."""
    value = get_finite_number(given, flag, default)
    if value <= 0:
        raise ConfigError(f"--{flag}={given[flag]}: use a number above 0")
    return value


def get_decay_rate(given: Mapping[str, Any], flag: str, default: float) -> float:
    """Returns a number in [0, 1): the decay rate of one of Adam's moments."""
    value = get_finite_number(given, flag, default)
    if not 0 <= value < 1:
        raise ConfigError(f"--{flag}={given[flag]}: use a number from 0 to below 1")
    return value


def default_data_dir() -> str:
    """Returns `${XDG_CACHE_HOME:-~/.cache}/neumf-bench`."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(_home_folder(), ".cache")
    return os.path.join(base, "neumf-bench")


def _home_folder() -> str:
    """Returns the home folder; the current folder if there is none."""
    home = os.path.expanduser("~")
    return home if os.path.isabs(home) else os.getcwd()
