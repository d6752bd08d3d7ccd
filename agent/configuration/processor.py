"""The precision of a frozen base model on a CPU: what a campaign asks for, what the owner set, what the processor has.

``auto`` goes by the flags that Linux lists, not by a measurement: so it is the same whenever it is asked, whatever else
the machine does.
"""

from collections.abc import Iterator
from pathlib import Path

from agent.configuration.settings import ComputeSettings
from shared.campaign.spec import AskedCpuDtype, CpuDtype

_CPUS = Path("/proc/cpuinfo")
_LISTS = ("flags", "Features")
"""The lines of flags: of x86 processors, and of ARM ones."""
_MULTIPLY_BFLOAT16 = (frozenset({"avx512_bf16", "amx_bf16"}), frozenset({"bf16"}))
"""Flags of fast products of bfloat16 matrices, of x86 and of ARM processors.

oneDNN takes AMX only together with ``avx512_bf16``. That alone is no gain: its products took twice as long as those of
float32 on a Xeon of 2023 whose AMX is hidden (``benchmarks/training.py``). Without any of these every number is
converted, which takes longer too."""


def cpu_dtype(asked: AskedCpuDtype, compute: ComputeSettings, cpuinfo: str | None = None) -> CpuDtype | None:
    """The precision of the base model on this machine's CPU; None if the owner's setting contradicts the campaign.

    Where the campaign leaves it open, the owner's setting decides, and without one the processor.

    Args:
        asked: the campaign's ``base.cpu_dtype``.
        compute: the owner's settings.
        cpuinfo: what Linux says of the processors; None reads it.
    """
    own = compute.dtype
    if own == "float16" or (own != "auto" and asked not in ("auto", own)):
        return None
    chosen = own if asked == "auto" else asked
    if chosen != "auto":
        return chosen
    return "bfloat16" if multiplies_bfloat16(read_cpuinfo() if cpuinfo is None else cpuinfo) else "float32"


def multiplies_bfloat16(cpuinfo: str) -> bool:
    """Whether all processors multiply bfloat16 matrices faster than float32 ones, by the text of ``/proc/cpuinfo``.

    Without flags, as on other systems than Linux, it is not known, and the answer is no.
    """
    flags = [*_flags(cpuinfo)]
    return bool(flags) and all(any(needed <= each for needed in _MULTIPLY_BFLOAT16) for each in flags)


def read_cpuinfo() -> str:
    """What Linux says of the processors; empty if it cannot be read, or on another system."""
    try:
        return _CPUS.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _flags(cpuinfo: str) -> Iterator[set[str]]:
    """The flags of each processor."""
    for line in cpuinfo.splitlines():
        name, _, values = line.partition(":")
        if name.strip() in _LISTS:
            yield set(values.split())
