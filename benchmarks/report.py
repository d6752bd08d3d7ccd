"""Runs the benchmarks one after the other, and writes what they measured into docs/benchmarks.md.

    python benchmarks/report.py [NAME ...]

NAME: of a script below; by default all but those APART, as ``make bench`` does. Each has a table on the page, between
two comments with its name. Only the tables of the scripts that ran are replaced, each with the conditions of its run.
The words around them are written by hand.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from conditions import ROOT, Beside, in_words
from rows import Row, read, table

PAGE = ROOT / "docs" / "benchmarks.md"
SCRIPTS: dict[str, list[list[str]]] = {
    "rounds": [
        ["--mb", "0"],
        ["--mb", "0", "--agents", "20"],
        *(["--mb", size, "--agents", agents] for size in ("25", "100") for agents in ("2", "8")),
    ],
    "round_overhead": [[], ["--evaluate"]],
    "aggregation": [["--updates", "4,16"], ["--updates", "64", "--mb", "25"]],
    "transfer": [[]],
    "many_agents": [
        ["--idle", "10000"],
        *(["--campaign", "1000", "--per-round", "100", "--rounds", "20", *where] for where in ([], ["--postgres"])),
    ],
    "wire": [[]],
    "imports": [[]],
    "peers": [[]],
}
"""The scripts of the page's tables, each with the arguments of its runs."""
APART = {"peers"}
"""What only ``make bench-peers`` runs: it installs others' software, which takes most of an hour to measure."""


def measured(name: str) -> list[Row]:
    """Run a script with each of its arguments. Returns the rows of all runs."""
    rows: list[Row] = []
    for arguments in SCRIPTS[name]:
        print(f"== {name}.py {' '.join(arguments)}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "rows.json"
            argv = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *arguments, "--json", str(written)]
            subprocess.run(argv, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
            rows += read(written)
    return rows


def replaced(page: str, name: str, text: str) -> str:
    """The page with *text* between the two comments of a script. Raises ValueError if it lacks them."""
    begin, end = f"<!-- {name}: written by report.py -->", f"<!-- {name}: end -->"
    parts = re.split(f"({re.escape(begin)}\n).*?({re.escape(end)})", page, flags=re.DOTALL)
    if len(parts) != 4:
        raise ValueError(f"{PAGE.name} should have `{begin}` and, below it, `{end}`, once")
    before, begin, end, after = parts
    return f"{before}{begin}{text}\n{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = [name for name in SCRIPTS if name not in APART]
    parser.add_argument("name", nargs="*", choices=list(SCRIPTS), default=usual, metavar="NAME")
    for name in parser.parse_args().name:
        beside = Beside()
        text = f"{table(measured(name))}\n\n*{in_words(beside)}*"
        # after each script: what the next one fails at loses nothing
        PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), name, text), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} is written")


if __name__ == "__main__":
    main()
