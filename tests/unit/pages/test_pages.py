"""The statements in docs/ about algorithms and tests are true."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from shared import algorithms
from tests.support.suite.tiers import COLLECTED

ROOT = Path(__file__).parents[3]
DOCS, TESTS = ROOT / "docs", ROOT / "tests"
ALGORITHMS, KTO = ROOT / "examples" / "algorithms", TESTS / "e2e" / "kto"
PAGE = (DOCS / "algorithms.md").read_text(encoding="utf-8")

UNCOVERED = {
    "tests.md": {
        "three owners on a real model; plain `peft` agrees on the loss to 1e-3": "needs the real model: make test-real",
    },
    "reliability.md": {
        "coordinator and agents at random, for half an hour": "make soak: at random what other tests kill in order",
        "a wrong clock at an agent": "there is nothing to run: no decision uses it",
    },
}
"""Rows that no fast or deep test covers, and why."""


def section(name: str) -> str:
    match = re.search(rf"^### `{name}`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match, f"docs/algorithms.md has no section {name}"
    return match.group(1)


@pytest.mark.parametrize("name", sorted(algorithms.bundled()))
def test_an_algorithms_section_has_its_parameters_and_what_it_keeps(name: str) -> None:
    algorithm = algorithms.find(name)
    documented = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", section(name), re.MULTILINE))
    assert {key: float(value) for key, value in documented.items()} == algorithm.params().model_dump()
    [row] = [line for line in PAGE.splitlines() if line.startswith(f"| [`{name}`](#{name}) |")]
    server, client = algorithm.server, algorithm.client
    slots = [*server.state, *server.broadcast, *client.extras, *client.state]
    assert re.findall(r"`(\w+)`", row)[1:] == slots


@pytest.mark.parametrize(
    ("page", "path"),
    [
        ("algorithms.md", ALGORITHMS / "fedloom_trimmed_mean.py"),
        ("algorithms.md", ALGORITHMS / "fedloom_svd.py"),
        ("algorithms.md", ALGORITHMS / "fedloom_krum.py"),
        ("algorithms.md", ALGORITHMS / "fedloom_clipping.py"),
        ("algorithms.md", ALGORITHMS / "pyproject.toml"),
        ("kinds.md", KTO / "fedloom_kto.py"),
        ("kinds.md", KTO / "fedloom_kto_agent.py"),
        ("kinds.md", KTO / "pyproject.toml"),
    ],
)
def test_the_example_on_the_page_is_the_file(page: str, path: Path) -> None:
    language = "toml" if path.suffix == ".toml" else "python"
    text = (DOCS / page).read_text(encoding="utf-8")
    match = re.search(rf"^`{re.escape(path.name)}`\n\n```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert match
    assert match.group(1) == path.read_text(encoding="utf-8")


def test_the_metric_on_the_page_is_the_examples() -> None:
    text = (DOCS / "kinds.md").read_text(encoding="utf-8")
    entry = re.search(r"^## A metric\n.*?```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert entry
    assert textwrap.indent(entry.group(1).rstrip(), "    ") in (KTO / "fedloom_kto.py").read_text(encoding="utf-8")


def named_in(text: str) -> list[tuple[str, str]]:
    """Files and tests named in a text; the test is "" for a whole file. "…::test_b" belongs to the file before it."""
    file, named = "", []
    for path, test in re.findall(r"`(?:tests/)?((?:\w+/)+test_\w+\.py)?(?:…?::(\w+))?`", text):
        file = path or file
        if file and (path or test):
            named.append((file, test))
    return named


@pytest.mark.parametrize("page", ["openfedllm.md", "tests.md", "reliability.md", "algorithms.md", "kinds.md"])
def test_the_tests_that_a_page_names_exist(page: str) -> None:
    named = named_in((DOCS / page).read_text(encoding="utf-8"))
    assert named
    for file, test in named:
        assert (TESTS / file).exists(), file
        if test:
            content = (TESTS / file).read_text(encoding="utf-8")
            assert re.search(rf"^(?:async )?def {test}\(", content, re.MULTILINE), test


def rows_of(page: str) -> list[tuple[str, str]]:
    """Rows of a page's tables that name tests: the promise or fault, and the cell with the tests."""
    rows, is_promise = [], False
    for line in (DOCS / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            is_promise = False
        elif cells[-1] in ("test", "shown by"):
            is_promise = True
        elif is_promise and not set(line) <= set("|-: "):
            rows.append((cells[0], cells[-1]))
    return rows


def often_run(config: pytest.Config, files: set[str]) -> set[str]:
    """Fast and deep tests of some files: from this run if it collected all these files, else from a new collection."""
    collected = config.stash[COLLECTED]
    if files <= {name.partition("::")[0] for name in collected}:
        return {name for name, tier in collected.items() if tier in ("fast", "deep")}
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-m", "not (soak or real)", *sorted(files)]
    return set(subprocess.run(argv, check=True, cwd=ROOT, capture_output=True, text=True).stdout.splitlines())


def test_each_fault_and_each_promise_has_a_fast_or_a_deep_test(request: pytest.FixtureRequest) -> None:
    pages = [each for page in UNCOVERED for each in rows_of(page)]
    rows = [(row, [f"tests/{file}::{test}" for file, test in named_in(cell)]) for row, cell in pages]
    assert len(rows) > 100
    files = {name.partition("::")[0] for _, names in rows for name in names}
    tests = {name.partition("[")[0] for name in often_run(request.config, files)}
    uncovered = {row for row, names in rows if not any(_is_among(name, tests) for name in names)}
    assert uncovered == {row for reasons in UNCOVERED.values() for row in reasons}


def _is_among(name: str, tests: set[str]) -> bool:
    """Whether *tests* has this test or, for a name that ends with "::", any test of the file."""
    return any(test.startswith(name) for test in tests) if name.endswith("::") else name in tests
