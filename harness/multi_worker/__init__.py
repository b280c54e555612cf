"""Workers of one run: how they find each other, agree, and notice a lost one.

Imports: base, config, devices, logs; tensorflow (late).
"""
