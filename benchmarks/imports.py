"""Measures what a start costs before any work: importing the coordinator, and the command line's help.

    python benchmarks/imports.py [--repeat 5] [--json FILE]

Prints the median milliseconds, of wall and of processor time, of fresh interpreters, beside ``python -c pass`` and an
import of three libraries that the coordinator cannot do without. Bytecode is compiled before, as after an installation.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rows import Ratio, Row, add_option, at_most, write

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = "fastapi, sqlalchemy, pydantic"
PROGRAMS = {
    "python -c pass": ["-c", "pass"],
    f"import {LIBRARIES}": ["-c", f"import {LIBRARIES}"],
    "import coordinator.app": ["-c", "import coordinator.app"],
    "fedloom --help": ["-m", "fedloom", "--help"],
}


@dataclass(frozen=True)
class Start:
    """One start of an interpreter: seconds on the clock, and seconds of processor time."""

    wall_s: float
    cpu_s: float


def start(arguments: list[str], bytecode: Path) -> Start:
    """Run an interpreter to its end. Its output is thrown away."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(bytecode)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    began = time.perf_counter()
    pid = os.posix_spawn(sys.executable, [sys.executable, *arguments], environment, file_actions=silent)
    _, status, used = os.wait4(pid, 0)
    wall_s = time.perf_counter() - began
    if status != 0:
        sys.exit(f"{' '.join(arguments)} failed")
    return Start(wall_s, used.ru_utime + used.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    add_option(parser)
    given = parser.parse_args()
    starts: dict[str, list[Start]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as bytecode:
        for turn in range(given.repeat + 1):  # alternately; the first turn compiles
            for name, arguments in PROGRAMS.items():
                one = start(arguments, Path(bytecode))
                if turn:
                    starts[name].append(one)
    wall_s = {name: statistics.median(each.wall_s for each in runs) for name, runs in starts.items()}
    cpu_s = {name: statistics.median(each.cpu_s for each in runs) for name, runs in starts.items()}
    print("                                        wall       CPU  x pass  x libraries")
    for name in PROGRAMS:
        times = f"{1000 * wall_s[name]:7.0f} ms  {1000 * cpu_s[name]:5.0f} ms"
        ratios = [cpu_s[name] / cpu_s[reference] for reference in list(PROGRAMS)[:2]]
        print(f"{name:34}  {times}  {ratios[0]:6.1f}  {ratios[1]:11.2f}")
    write(given.json, rows(wall_s, cpu_s))


def rows(wall_s: dict[str, float], cpu_s: dict[str, float]) -> list[Row]:
    """The rows of both starts. Ratios are of processor time, which other work disturbs less."""
    goals = {"import coordinator.app": 0.6, "fedloom --help": 0.25}
    library = f"import {LIBRARIES}"
    return [
        Row(f"`{name}`", wall_s[name], "s", Ratio(cpu_s[name] / cpu_s[library], f"`{library}`"), at_most(goal))
        for name, goal in goals.items()
    ]


if __name__ == "__main__":
    main()
