"""Help, examples and shell completion of the command line.

Imports: nothing of this package; shtab (late).
"""
