"""What the pages in docs/ say of algorithms and tests is so."""

import re
from pathlib import Path

import pytest

from shared import algorithms

ROOT = Path(__file__).parents[2]
DOCS, TESTS, EXAMPLE = ROOT / "docs", ROOT / "tests", ROOT / "examples" / "algorithm"
PAGE = (DOCS / "algorithms.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    match = re.search(rf"^### `{name}`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match, f"docs/algorithms.md has no section {name}"
    return match.group(1)


@pytest.mark.parametrize("name", sorted(algorithms.bundled()))
def test_an_algorithms_section_has_its_parameters_and_what_it_keeps(name: str) -> None:
    found = algorithms.find(name)
    said = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", section(name), re.MULTILINE))
    assert {key: float(value) for key, value in said.items()} == found.params().model_dump()
    [row] = [line for line in PAGE.splitlines() if line.startswith(f"| [`{name}`](#{name}) |")]
    slots = [*found.server.state, *found.server.broadcast, *found.client.extras, *found.client.kept]
    assert re.findall(r"`(\w+)`", row)[1:] == slots


@pytest.mark.parametrize(("file", "language"), [("fedloom_trimmed_mean.py", "python"), ("pyproject.toml", "toml")])
def test_the_example_on_the_page_is_the_file(file: str, language: str) -> None:
    match = re.search(rf"^`{re.escape(file)}`\n\n```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert match
    assert match.group(1) == (EXAMPLE / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["openfedllm.md", "tests.md", "algorithms.md"])
def test_the_tests_that_a_page_names_exist(page: str) -> None:
    named = re.findall(r"`(?:tests/)?(\w+/test_\w+\.py)?(?:…?::(\w+))?`", (DOCS / page).read_text(encoding="utf-8"))
    assert any(path for path, _ in named)
    file = ""
    for path, test in named:
        file = path or file  # "…::test_b" is of the file before it
        assert (TESTS / file).exists(), file
        if test:
            assert re.search(rf"^(?:async )?def {test}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE), (
                test
            )
    assert named
