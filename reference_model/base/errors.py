"""The errors that the reference model raises across module boundaries."""

from __future__ import annotations


class DataError(ValueError):
    """A dataset cannot be used; the message is one line for the user."""


class NonFiniteLoss(ArithmeticError):
    """The loss or a score became NaN or infinite; the run cannot converge."""


class PreparationStalled(RuntimeError):
    """The next epoch's batches did not arrive within the allowed time."""


class Cancelled(Exception):
    """The run ended while this epoch's batches were still being prepared."""
