"""`fedloom campaign export`: all pages, as CSV and JSON lines, to files that nobody loses."""

import csv
import io
import json
import math
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fedloom import Client
from fedloom.exporting.csv_table import write_csv
from fedloom.exporting.export import metric_rows
from shared.wire.campaigns import ClientView
from tests.cli.conftest import Campaign, Run


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_metrics_have_round_client_unit_and_time_over_all_pages(
    run: Run, finished: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(Client().metrics(finished.id))
    exported = run("campaign", "export", "small").out
    monkeypatch.setattr(Client, "_listing", in_small_pages(Client._listing))
    rows = read(run("campaign", "export", "small").out)
    assert rows == read(exported)
    assert exported.splitlines()[0] == "round,client,name,value,unit,n_clients,of_clients,at"
    assert len(rows) == len(whole) > 20
    for row, metric in zip(rows, whole, strict=True):
        assert (int(row["round"]), row["client"] or None) == (metric.round, metric.agent_name)
        assert (row["name"], float(row["value"]), row["unit"]) == (metric.name, metric.value, metric.unit)
        assert datetime.fromisoformat(row["at"]) == metric.at
    [mean] = [row for row in rows if (row["name"], row["round"], row["client"]) == ("held_out_loss", "1", "")]
    assert (mean["value"], mean["unit"]) == ("1.5", "nats a token")
    assert {(row["n_clients"], row["of_clients"]) for row in rows if row["client"]} == {("", "")}
    assert (mean["n_clients"], mean["of_clients"]) == ("2", "2")


def in_small_pages(listing: Any) -> Any:
    """A client's listing with pages of three."""

    def small(self: Client, model: Any, path: str, **params: Any) -> Any:
        cursor = None
        while True:
            page = self._transport.request("GET", path, params={**params, "cursor": cursor, "limit": 3}).json()
            yield from map(model.model_validate, page["items"])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    return small


@pytest.mark.parametrize(
    ("what", "columns", "n_rows"),
    [
        ("rounds", "number,state,opened_at,deadline_at,closed_at,learning_rate,eligible,sampled,contributors", 1),
        ("events", "number,at,type,data", None),
        ("clients", None, 2),
    ],
)
def test_rounds_events_and_clients_are_exported_in_both_formats(
    run: Run, finished: Campaign, what: str, columns: str | None, n_rows: int | None
) -> None:
    text = run("campaign", "export", "small", "--what", what).out
    lines = run("campaign", "export", "small", "--what", what, "--format", "jsonl").out.splitlines()
    assert columns in (None, text.splitlines()[0])
    assert len(read(text)) == len(lines) == (n_rows or len(lines))
    assert len(lines) > 0
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_a_clients_metrics_are_columns_with_the_names_of_the_registry(run: Run, finished: Campaign) -> None:
    ada, bob = read(run("campaign", "export", "small", "--what", "clients").out)
    assert (ada["agent_name"], ada["update_weight"], ada["update_round"]) == ("ada", "0.75", "1")
    assert (ada["training.train_loss_mean"], ada["base.held_out_loss"], ada["held_out.held_out_loss"]) == (
        *("1.5", "2.0", "1.5"),
    )
    assert (bob["worse_than_base"], bob["report"], bob["away_since"]) == ("false", "live", "")
    line = run("campaign", "export", "small", "--what", "clients", "--format", "jsonl").out.splitlines()[0]
    assert ClientView.model_validate_json(line) == next(Client().clients(finished.id))


def test_a_file_is_private_complete_and_never_replaced_without_force(
    run: Run, finished: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.csv"
    assert run("campaign", "export", "small", "-o", path).out == ""
    whole = path.read_text()
    assert whole == run("campaign", "export", "small").out
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("years of work")
    refused = run("campaign", "export", "small", "-o", path)
    assert (refused.code, refused.err) == (2, f"fedloom: {path} exists; --force replaces it\n")
    assert path.read_text() == "years of work"

    def cut(self: Client, *_: Any, **__: Any) -> Any:
        yield from ()
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(Client, "metrics", cut)
        assert run("campaign", "export", "small", "-o", path, "--force").code == 130
    assert path.read_text() == "years of work"
    assert run("campaign", "export", "small", "-o", path, "--force").code == 0
    assert path.read_text() == whole
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.csv"]


def test_what_cannot_be_written_or_is_unknown_is_one_line(run: Run, finished: Campaign, tmp_path: Path) -> None:
    folder = run("campaign", "export", "small", "-o", tmp_path, "--force")
    assert (folder.code, folder.err) == (2, f"fedloom: {tmp_path} is not a file\n")
    nowhere = run("campaign", "export", "small", "-o", tmp_path / "no" / "file.csv")
    assert nowhere.code == 1
    assert nowhere.err.endswith("No such file or directory\n")
    unknown = run("campaign", "export", "nobody", "-o", tmp_path / "new.csv")
    assert unknown.code == 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "written"),
    [
        *((text, f"'{text}") for text in ("=1+1", "+1", "-1", "@SUM(A1)", " =HYPERLINK(1)", "＝1", "＠x")),
        *((text, f"'{text}") for text in ("\u00a0+1", '"=1')),
        # an escape begins with a backslash, which no spreadsheet runs
        *((text, ascii(text)[1:-1]) for text in ("\ufeff=1", "\u200b=1", "\u2060 \u200d-1")),
        ("\t=1", "\t'=1"),
        ("\r=1", "\n'=1"),
        ("x;=1+1;y", "x;'=1+1;y"),
        ('x; "@SUM(A1)";-2', "x;' \"@SUM(A1)\";'-2"),
        ("x\t\u200b+1", "x\t\\u200b+1"),
        ("a-b = c; d=e, -f", "a-b = c; d=e, -f"),
    ],
)
def test_what_a_spreadsheet_would_run_as_a_formula_begins_with_an_apostrophe(text: str, written: str) -> None:
    file = io.StringIO(newline="")
    write_csv(file, ["text", "list"], [{"text": text, "list": [text]}])
    [row] = csv.DictReader(io.StringIO(file.getvalue(), newline=""))
    assert row["text"] == written
    assert json.loads(row["list"]) == [text], "a list begins with its bracket"
    assert not any(cell.lstrip(' "\u200b').startswith(("=", "+", "-", "@")) for cell in row["list"].split(";"))


def test_numbers_stay_numbers_and_times_have_a_zone() -> None:
    file = io.StringIO(newline="")
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    values = {"a": -1.5, "b": -7, "c": 0.1 + 0.2, "d": True, "e": None, "f": at, "g": 'a,"b"\nc', "h": {"x": -1}}
    write_csv(file, [*values, "missing"], [values])
    [row] = csv.DictReader(io.StringIO(file.getvalue(), newline=""))
    assert (float(row["a"]), int(row["b"]), float(row["c"])) == (-1.5, -7, 0.1 + 0.2)
    assert not math.isnan(float(row["c"]))
    assert (row["d"], row["e"], row["f"], row["g"]) == ("true", "", "2026-01-02T03:04:05+00:00", 'a,"b"\nc')
    assert (json.loads(row["h"]), row["missing"]) == ({"x": -1}, "")


def test_rows_of_metrics_name_the_client_as_people_do(finished: Campaign) -> None:
    clients = {row["client"] for row in metric_rows(Client(), finished.id)}
    assert clients == {"ada", "bob", None}
