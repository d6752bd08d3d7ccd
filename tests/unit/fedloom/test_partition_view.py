import io
import json
import re

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from fedloom.simulation.partition import assign
from fedloom.simulation.partition_plan import PartitionKind, PartitionPlan
from fedloom.simulation.partition_view import BAR_WIDTH, as_json, show

PLAN = PartitionPlan(PartitionKind.DIRICHLET, by="topic", alpha=0.3)


def rows(*sizes: int) -> list[NDArray[np.int64]]:
    ends = np.cumsum(sizes)
    return [np.arange(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def names(count: int) -> list[str]:
    return [f"client-{number:02}" for number in range(count)]


def drawn(
    parts: list[NDArray[np.int64]],
    values: list[str] | None,
    plan: PartitionPlan = PLAN,
    *,
    colours: bool = False,
    width: int = 80,
) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=colours, color_system="standard" if colours else None)
    console.print(show(names(len(parts)), parts, values, plan))
    return file.getvalue()


def line_of(page: str, client: str) -> str:
    return next(line for line in page.splitlines() if line.startswith(client))


@pytest.mark.parametrize("n_values", [1, 3, 40])
def test_a_hundred_clients_are_all_listed_within_80_columns(n_values: int) -> None:
    values = [f"a rather long topic, number {row % n_values}" for row in range(123_456)]
    parts = assign(PLAN, n_rows=len(values), n_clients=100, seed=1, values=values)
    page = drawn(parts, values)
    assert [line.split()[0] for line in page.splitlines() if line.startswith("client-")] == names(100)
    assert max(map(len, page.splitlines())) <= 80
    for name, part in zip(names(100), parts, strict=True):
        assert f" {len(part):,} " in line_of(page, name)
    assert "123,456 rows, 100 clients: smallest" in page


def test_a_pipe_gets_letters_and_no_escape_codes() -> None:
    values = ["news"] * 75 + ["blogs"] * 25 + ["blogs"] * 50
    page = drawn(rows(100, 50), values)
    assert "\x1b" not in page
    assert "A news  B blogs" in page or "A blogs  B news" in page
    letters = re.findall(r" ([AB]+) ", line_of(page, "client-00"))[0]
    assert len(letters) == BAR_WIDTH
    assert sorted(map(letters.count, "AB")) == [6, 18]
    assert "news 75%, blogs 25%" in line_of(page, "client-00")


def test_a_terminal_gets_a_colour_for_each_value() -> None:
    page = drawn(rows(10, 10), ["news"] * 10 + ["blogs"] * 10, colours=True)
    bars = [re.findall(r"\x1b\[(\d+)m█+", line) for line in page.splitlines() if line.startswith("client-")]
    assert [len(colours) for colours in bars] == [1, 1]
    assert bars[0] != bars[1]
    assert "█" not in drawn(rows(10, 10), ["news"] * 10 + ["blogs"] * 10)


def test_the_length_of_a_bar_is_the_clients_rows_relative_to_the_largest() -> None:
    page = drawn(rows(240, 120, 1), None, PartitionPlan(PartitionKind.QUANTITY))
    assert [line_of(page, name).count("█") for name in names(3)] == [BAR_WIDTH, BAR_WIDTH // 2, 1]
    assert "361 rows, 3 clients: smallest 1, median 120, largest 240" in page


def test_values_past_the_most_common_are_drawn_as_other() -> None:
    values = [f"v{number}" for number in range(8) for _ in range(10 - number)]
    page = drawn(rows(len(values)), values)
    assert "F v5  . other" in page
    bar = line_of(page, "client-00").split()[2]
    assert bar == "".join(sorted(bar.replace(".", ""))) + "." * bar.count(".")
    assert bar.count(".") > 0
    assert "v0 19%, v1 17% +6" in page


def test_a_value_cannot_write_to_the_terminal_or_style_the_page() -> None:
    page = drawn(rows(2), ["\x1b[2J[red]x", "a\nb"])
    assert "\x1b" not in page
    assert "[red]x" in page
    assert "a\ufffdb 50%" in page


def test_a_narrow_screen_shortens_the_values_and_not_the_names_or_sizes() -> None:
    page = drawn(rows(1000), ["some topic"] * 500 + ["another one"] * 500, width=60)
    assert max(map(len, page.splitlines())) <= 60
    assert line_of(page, "client-00").startswith("client-00  1,000  ")


def test_json_holds_rows_and_counts() -> None:
    parts = rows(3, 1)
    shown = as_json(names(2), parts, ["news", "blogs", "blogs", "news"])
    assert shown == {
        "client-00": {"rows": 3, "values": {"blogs": 2, "news": 1}},
        "client-01": {"rows": 1, "values": {"news": 1}},
    }
    assert json.loads(json.dumps(shown)) == shown
    assert as_json(names(2), parts, None) == {"client-00": {"rows": 3}, "client-01": {"rows": 1}}
