"""Where and when a benchmark ran: machine, versions, commit, and what else used the processor. Linux only."""

import os
import platform
import resource
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("numpy", "pydantic", "fastapi", "uvicorn", "sqlalchemy", "httpx")
"""Distributions whose versions decide how fast Fedloom is."""
_TICKS = os.sysconf("SC_CLK_TCK")
_OTHERS = 0.05
"""Share of the processor from which other work is mentioned."""


def machine() -> str:
    """Processor, cores, memory, system."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{_processor()}, {os.cpu_count()} cores, {gigabytes:.0f} GB, Linux {platform.release().partition('-')[0]}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.machine()


def versions() -> str:
    """Python and the libraries."""
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in LIBRARIES)])


def commit() -> str:
    """Short name of the commit, with a plus if code differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()

    name = git("rev-parse", "--short", "HEAD")
    return f"{name}+" if git("status", "--porcelain", "--", ".", ":!docs") else name


class Beside:
    """How much of the processor others used since this object was made, as a share of all cores."""

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.monotonic(), _busy_s(), _own_s()

    def share(self) -> float:
        """From 0 to 1. Processes that this one started and waited for are not others."""
        others_s = _busy_s() - self._busy - (_own_s() - self._own)
        return max(0.0, others_s / (time.monotonic() - self._began) / (os.cpu_count() or 1))

    def words(self) -> str:
        """``an otherwise idle machine``, or how much else it did."""
        share = self.share()
        return "an otherwise idle machine" if share < _OTHERS else f"other work used {share:.0%} of the cores meanwhile"


def _busy_s() -> float:
    """Seconds that the cores worked since the machine started."""
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + interrupts + soft + stolen) / _TICKS


def _own_s() -> float:
    used = (resource.getrusage(each) for each in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def in_words(beside: Beside) -> str:
    """All conditions of a run, in one sentence."""
    day = datetime.now(UTC).date().isoformat()
    return f"{day}, commit `{commit()}`, {machine()}; {versions()}; {beside.words()}."
