"""How memory and time grow with a dataset: `python -m scripts.scaling --help`."""
