"""What all of the checker shares: errors, bounded reading, strict YAML, statistics.

Imports: nothing of this room; numpy, yaml.
"""
