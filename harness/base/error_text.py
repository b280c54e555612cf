"""Error messages on one line, for the console, the log and the pipe to the parent process."""

from __future__ import annotations

# Longest description of an exception in a message to the parent process, in characters.
DESCRIPTION_LENGTH = 300


def one_line(error: object, limit: int | None = None, ellipsis: str = "") -> str:
    """Returns the text of an error on one line.

    Args:
      error: An exception or a text; runs of white space in it become single spaces.
      limit: Longest result in characters; None for no limit.
      ellipsis: Appended to a text that was cut; counts towards `limit`.

    Returns:
      The text, cut to `limit`.
    """
    text = " ".join(str(error).split())
    if limit is None or len(text) <= limit:
        return text
    return text[: limit - len(ellipsis)] + ellipsis


def type_and_message(error: BaseException) -> str:
    """Returns an exception's type and message as Python prints them, possibly on several lines."""
    return f"{type(error).__name__}: {error}"


def describe_exception(error: BaseException) -> str:
    """Returns an exception's type and message on one line of bounded length."""
    return one_line(type_and_message(error), DESCRIPTION_LENGTH, "...")
