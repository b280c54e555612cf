"""Lowers programs to portable StableHLO, by TensorFlow."""

from __future__ import annotations

from reference_model.fused.programs import Program

# A version that every JAX since 2024 reads. Newer libraries read portable artifacts of an older
# version: github.com/openxla/stablehlo, docs/compatibility.md.
STABLEHLO_VERSION = "1.8.0"


def lower(program: Program) -> bytes:
    """Traces a program and lowers it to a portable StableHLO artifact.

    The result does not depend on the machine. The plan in the program's specification determines
    the device type for which it is made.

    Args:
      program: the program.

    Returns:
      MLIR bytecode of the versioned StableHLO dialect.
    """
    import tensorflow as tf
    from tensorflow.compiler.mlir.stablehlo import stablehlo

    settings = tf.config.experimental
    is_tf32_allowed = settings.tensor_float_32_execution_enabled()
    specs = [tf.TensorSpec(spec.shape, spec.dtype) for spec in program.inputs]
    function = tf.function(program.function, jit_compile=True, autograph=False)
    try:
        # With TF32 disabled, TensorFlow lowers float32 products with the precision HIGHEST. With
        # TF32 enabled it uses DEFAULT, which lets the compiler round the operands.
        settings.enable_tensor_float_32_execution(not program.exact_float32)
        code = function.experimental_get_compiler_ir(*specs)(
            stage="stablehlo_serialized", platform_name="CPU"
        )
    finally:
        settings.enable_tensor_float_32_execution(is_tf32_allowed)
    return stablehlo.serialize_portable_artifact_str(code, STABLEHLO_VERSION)


def versions() -> dict[str, str]:
    """Returns the versions that determine the lowered code."""
    import tensorflow as tf

    return {"tensorflow": tf.__version__, "stablehlo": STABLEHLO_VERSION}
