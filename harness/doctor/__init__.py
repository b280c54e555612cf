"""`--doctor`: what a run on this machine would use, and what would disturb it.

    command       prints the findings, decides whether the machine is fit
    findings      one finding: a state, a fact and its fix
    resources     processors, memory, disk, caches, versions
    data          the track's dataset: at hand, or reachable
    devices       devices and runtime, by a child process (`device_process`)
    steadiness    a second of fixed work, and how much its seconds vary
    disturbances  load, steal, frequency, swap, clock, checkout
    gpu_users     other programs on the GPUs

Nothing is written to the disk. The parent process does not import TensorFlow.

Imports: base, config, devices, logs, processes; compliance.base, compliance.cli,
reference_model.base, reference_model.data, reference_model.sampling, numpy.
"""
