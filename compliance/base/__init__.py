"""Used by all of the checker: errors, bounded reading, strict YAML, statistics, text.

Imports: nothing of this room; numpy, yaml.
"""
