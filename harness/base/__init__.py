"""Clock, seeds, exit codes, console, error texts, the machine's description, the page cache.

Imports: nothing of this package; compliance.base.
"""
