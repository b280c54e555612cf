"""Compiles the timed programs for accelerators that this machine lacks, and counts what they do.

    __main__        the command: python -m scripts.accelerators TARGET...
    targets         targets and chips; the figures of the chips are in chips.yaml
    settings        the programs of a track, batch size and precision
    lower_child     a process that lowers them, by TensorFlow
    source_lines    the lines of our source from which operations come
    compile_child   a process that compiles one, by JAX and the compiler of the target
    hlo_text        reads the optimized program
    loops           how often its loops run
    products        FLOPs of its matrix products
    access          what a fused computation reads and writes
    traffic         bytes that its kernels read and write
    program_cost    the cost of a step
    estimate        one compiled program: cost, memory, bound
    tables          tables, and comparisons with an earlier report

docs/accelerators.md explains the figures.
"""
