"""Shared by the whole package: errors, bounded reading, strict YAML, statistics, text.

Imports: nothing of this package; numpy, yaml.
"""
