"""Tests of `scripts/accelerators`; those that compile need the extra `accelerators`."""
