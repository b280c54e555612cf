"""Calibrations: the current speed of the machine, by which all other times are divided."""

from __future__ import annotations

from harness.regression.calibration import test_copy, test_matrix_product, test_python_loop

__all__ = ["test_copy", "test_matrix_product", "test_python_loop"]
