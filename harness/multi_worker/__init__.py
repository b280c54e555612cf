"""Workers that train one run together: rendezvous, shared decisions, lost workers.

Imports: base, config, devices, logs; tensorflow (late).
"""
