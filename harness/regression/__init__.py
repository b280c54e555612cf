"""The pytest plug-in: measures a user's own engine, kernel or machine with pytest-benchmark.

    plugin       options and fixtures; pytest loads it by the entry point `neumf`
    subject      what the fixtures return: the engine on a track, and what is measured of it
    measuring    one benchmark, with the version of its input
    calibration  benchmarks of the machine alone, which `regress` divides the others by

pytest imports `plugin` in every run on a machine where this distribution is installed, so that
module imports nothing else before a fixture is used.

Imports: config, engine_conformance; compliance.tracks, numpy, pytest, reference_model.base,
reference_model.data, reference_model.engine, reference_model.events, tensorflow (late).
"""
