"""Measures memory and time against the dataset size: `python -m scripts.scaling --help`."""
