"""The fused engine's programs as StableHLO: lowering, export, and execution on a PJRT device.

    lowering          TensorFlow traces a program and lowers it to StableHLO
    program_folder    exported programs with their manifest
    client            compiles and runs StableHLO through JAX's public interface
    executor          the executor of `fused.engine` on one PJRT device

Only `lowering` imports TensorFlow, and only `client` imports JAX.

Imports: base, fused; jax (late), numpy, tensorflow (late).
"""
