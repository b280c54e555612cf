"""Clock, seeds, exit codes, console, the machine's description, the page cache.

Imports: nothing of this room; compliance.base.
"""
