"""`history DIR`: the sets of each benchmark over time, from ledgers and logs only.

    set_folders   finds the folders of sets in a results tree
    light_logs    reads of each log what a history needs; applies no rules
    ledgers       compares the logs of a set with the ledger
    set_entry     one set: score, settings, verdict
    timeline      the sets in order, with changed settings and steps

Imports: base, chain, checking, logs, logs.dialects, results; nothing else.
"""
