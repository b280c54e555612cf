"""TODO."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


class DataError(ValueError):
    """A dataset that cannot be used; the message is one line for the user."""


class NonFiniteLoss(ArithmeticError):
    """The loss or a score became NaN or infinite; the run cannot converge."""


class PreparationStalled(RuntimeError):
    """The next epoch's batches did not arrive within the stated time."""


class Cancelled(Exception):
    """The run ended before this epoch's batches were wanted."""
