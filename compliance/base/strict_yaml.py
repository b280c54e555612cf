"""YAML that refuses what a data file must not contain, and knows its lines.

Only plain data is built (the safe loader); a duplicate key is an error; every
mapping remembers the 1-based line of each key, so that a message can name it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_Base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ~8x faster


class DataFileError(ValueError):
    """A data file that cannot be used: one line with file, line and remedy."""

    def __init__(self, path: Path | str, line: int | None, message: str) -> None:
        where = f"{path}:{line}" if line else f"{path}"
        super().__init__(f"{where}: {message}")


class LinedDict(dict):
    """A mapping that knows where it and its keys stand in the file."""

    __slots__ = ("line", "key_lines")

    def __init__(self) -> None:
        super().__init__()
        self.line: int = 0
        self.key_lines: dict[Any, int] = {}


class _Loader(_Base):  # type: ignore[misc, valid-type]
    pass


def _mapping(loader: Any, node: Any) -> LinedDict:
    result = LinedDict()
    result.line = node.start_mark.line + 1
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise DataFileError("", line, f"key {key!r} must be text")
        if key in result:
            raise DataFileError("", line, f"key '{key}' stands twice")
        result[key] = loader.construct_object(value_node, deep=True)
        result.key_lines[key] = line
    return result


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def load_mapping(path: Path | str) -> LinedDict:
    """The mapping in the YAML file `path`.

    Raises DataFileError (naming file and line) if the file cannot be read, is
    not YAML, is not one mapping, or repeats a key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise DataFileError(path, None, f"cannot be read: {reason}") from None
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except DataFileError as error:
        raise DataFileError(path, int(str(error).split(":")[1]),
                            str(error).split(": ", 1)[1]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise DataFileError(path, mark.line + 1 if mark else None,
                            f"not valid YAML: {problem}") from None
    if not isinstance(data, LinedDict):
        raise DataFileError(path, 1, "must hold one mapping of keys to values")
    return data
