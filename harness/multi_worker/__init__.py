"""Workers that train one run together: rendezvous, common decisions, lost workers.

Imports: base, config, devices, logs; tensorflow (late).
"""
