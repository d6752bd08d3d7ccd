"""What a program may use."""

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Limits of each process of a program, except where they say otherwise.

    Args:
        memory: bytes of address space.
        file: bytes of a file.
        scratch: bytes of all files in ``/tmp``, which is the only place that can be written.
        processes: most processes and threads of a program's answer.
        descriptors: most open files.
        output: bytes of standard output and error that are kept; the rest is read and dropped.
        start_seconds: until a process has started; longer is a harness error.
    """

    memory: int = 1024 * MIB
    file: int = 16 * MIB
    scratch: int = 64 * MIB
    processes: int = 16
    descriptors: int = 64
    output: int = 16 * 1024
    start_seconds: float = 60.0


FUNCTION = Limits()
"""For a function of plain Python."""

DATA_SCIENCE = Limits(memory=8192 * MIB, file=64 * MIB, scratch=256 * MIB, processes=256, descriptors=256)
"""For programs that import numerical libraries."""
