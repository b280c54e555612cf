"""Extracts the prose of a file, without code.

Every function keeps line numbers, so that findings refer to lines of the file.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

FENCE = re.compile(r"^ *```.*?^ *```[^\n]*$", re.MULTILINE | re.DOTALL)
HTML_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
INLINE_CODE = re.compile(r"``.+?``|`[^`]+`", re.DOTALL)
LINK_TARGET = re.compile(r"\]\([^)\s]+\)")

MIN_SPACES = 3


def _blank(match: re.Match) -> str:
    """Replaces a match by the same number of blank lines."""
    return "\n" * match.group().count("\n")


def markdown_prose(text: str) -> str:
    """Returns the text of a Markdown page without code blocks, code, link targets and tables."""
    text = HTML_COMMENT.sub(_blank, FENCE.sub(_blank, text))
    text = INLINE_CODE.sub(lambda m: "`" + _blank(m), text)
    text = LINK_TARGET.sub("]", text)
    lines = text.split("\n")
    return "\n".join("" if line.startswith("    ") or line.lstrip().startswith("|") else line
                     for line in lines)


def python_prose(source: str) -> str:
    """Returns the docstrings, messages and comments of a module, each in its original line.

    A message is a string with at least MIN_SPACES spaces.
    """
    lines = [""] * (source.count("\n") + 1)

    def put(line: int, text: str) -> None:
        for i, part in enumerate(text.split("\n")[:len(lines) - line + 1]):
            lines[line - 1 + i] = f"{lines[line - 1 + i]} {part}".strip()

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.count(" ") >= MIN_SPACES:
                put(node.lineno, node.value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith("#!"):
            put(token.start[0], token.string.lstrip("# "))
    return INLINE_CODE.sub(lambda m: "`" + _blank(m), "\n".join(lines))


def comments_prose(text: str) -> str:
    """Returns the whole-line comments of a shell script or a YAML or TOML file."""
    lines = (line.strip() for line in text.split("\n"))
    return "\n".join(line.lstrip("# ") if line.startswith("#") and not line.startswith("#!") else ""
                     for line in lines)


def prose_of(path: Path) -> str:
    """Returns the prose of a file, depending on its type; blank lines end a sentence."""
    text = path.read_text(encoding="utf-8")
    extract = {".md": markdown_prose, ".py": python_prose}.get(path.suffix, comments_prose)
    return re.sub(r"^[ \t]*$", ".", extract(text), flags=re.MULTILINE)
