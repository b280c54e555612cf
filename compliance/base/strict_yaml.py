"""A strict YAML reader that records line numbers.

It builds only plain data (the safe loader). A duplicate key is an error. Every mapping stores
the line of each key for error messages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

# The loader of libyaml is about 8 times as fast; not every build of PyYAML has it.
_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DataFileError(ValueError):
    """A data file that cannot be used; the message is one line with file, line and remedy."""

    def __init__(self, path: Path | str, line: int | None, message: str) -> None:
        where = f"{path}:{line}" if line else f"{path}"
        super().__init__(f"{where}: {message}")


class LineTrackedDict(dict):
    """A mapping with the line numbers of itself and its keys in the file.

    Attributes:
      line: The line where the mapping begins, from 1.
      key_lines: The line of each key, from 1.
    """

    __slots__ = ("line", "key_lines")

    def __init__(self) -> None:
        super().__init__()
        self.line: int = 0
        self.key_lines: dict[Any, int] = {}


class _StrictLoader(_SafeLoader):  # type: ignore[misc, valid-type]
    """The safe loader with its own constructor of mappings."""


def _construct_mapping(loader: Any, node: Any) -> LineTrackedDict:
    """Builds a mapping; refuses keys that are not text and duplicate keys."""
    result = LineTrackedDict()
    result.line = node.start_mark.line + 1
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        # The loader does not have the file's path; `load_mapping` adds it.
        if not isinstance(key, str):
            raise DataFileError("", line, f"key {key!r} must be text")
        if key in result:
            raise DataFileError("", line, f"key '{key}' appears twice")
        result[key] = loader.construct_object(value_node, deep=True)
        result.key_lines[key] = line
    return result


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def load_mapping(path: Path | str) -> LineTrackedDict:
    """Reads a YAML file that contains one mapping.

    Args:
      path: The file, in UTF-8.

    Raises:
      DataFileError: The file cannot be read, is not YAML, is not one mapping, or has a
        duplicate key. The message contains file and line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise DataFileError(path, None, f"cannot be read: {reason}") from None
    try:
        data = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a safe loader
    except DataFileError as error:
        # From `_construct_mapping`, as ":<line>: <message>": raise it again with the path.
        raise DataFileError(path, int(str(error).split(":")[1]),
                            str(error).split(": ", 1)[1]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise DataFileError(path, mark.line + 1 if mark else None,
                            f"not valid YAML: {problem}") from None
    if not isinstance(data, LineTrackedDict):
        raise DataFileError(path, 1, "must contain one mapping of keys to values")
    return data
