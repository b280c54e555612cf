"""Errors that the reference model raises across module boundaries."""

from __future__ import annotations


class DataError(ValueError):
    """A dataset is unusable; the message is one line for the user."""


class NonFiniteLoss(ArithmeticError):
    """The loss or a score became NaN or infinite; the run cannot converge."""


class PreparationStalled(RuntimeError):
    """The batches of the next epoch were not ready within the time limit."""


class Cancelled(Exception):
    """The run ended while the batches of an epoch were being prepared."""
