"""The command line's help, examples and shell completion.

Imports: nothing of this room; shtab (late).
"""
