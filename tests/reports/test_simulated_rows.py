"""The rows of simulated clients: read and refused as those of a real owner."""

import datetime as dt
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agent.data.checks.notices import Occurrences
from agent.data.files.records import read_records
from agent.data.reading import read_rows
from agent.data.source import DataSource
from agent.errors import TaskFailed
from fedloom.simulation.clients import write_records
from shared import kinds

SFT = kinds.find("sft")
NOT_TEXT = [dt.datetime(2020, 1, 2, tzinfo=dt.UTC), dt.date(2020, 1, 2), decimal.Decimal("1.5"), b"bytes"]


def as_client(source: DataSource, folder: Path) -> DataSource:
    """The same rows as a simulated client gets them."""
    path = folder / "client.jsonl"
    write_records(path, [record for _, record in read_records(source, Occurrences())])
    return source.at(path)


def table(folder: Path, **columns: list[Any]) -> DataSource:
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    return DataSource(path=folder / "rows.parquet")


@pytest.mark.parametrize("value", NOT_TEXT)
@pytest.mark.parametrize("column", ["prompt", "completion", "input"])
def test_a_value_that_an_owner_may_not_train_on_is_refused_in_a_simulation_too(
    tmp_path: Path, column: str, value: object
) -> None:
    columns = {"prompt": ["when?"], "completion": ["then"], "input": ["there"]} | {column: [value]}
    source = table(tmp_path, **columns).model_copy(update={"input": "input"})
    for each in (source, as_client(source, tmp_path)):
        with pytest.raises(TaskFailed, match=rf"(row|line) 1: the column '{column}'"):
            read_rows(each, SFT)


@pytest.mark.parametrize("value", NOT_TEXT)
def test_such_a_value_in_a_column_that_is_not_read_changes_nothing(tmp_path: Path, value: object) -> None:
    source = table(tmp_path, prompt=["when?"], completion=["then"], day=[value])
    assert read_rows(as_client(source, tmp_path), SFT).rows == read_rows(source, SFT).rows


def test_decimals_that_an_owner_reads_as_numbers_arrive_with_their_spelling(tmp_path: Path) -> None:
    source = table(tmp_path, prompt=["how much?"], completion=[decimal.Decimal("1.50")])
    source = source.model_copy(update={"numbers": True})
    assert read_rows(as_client(source, tmp_path), SFT).rows == read_rows(source, SFT).rows
    assert read_rows(source, SFT).rows[0].completions[0].completion == "1.50"


def test_dates_inside_messages_are_refused_as_well(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": NOT_TEXT[0]}, {"role": "assistant", "content": NOT_TEXT[0]}]
    source = table(tmp_path, messages=[talk])
    for each in (source, as_client(source, tmp_path)):
        with pytest.raises(TaskFailed, match="'content' holds"):
            read_rows(each, SFT)


def test_half_a_character_is_reported_with_its_line_and_stops_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(
        '{"prompt": "q", "completion": "漢字 🙂"}\n{"prompt": "q", "completion": "half \\ud83d"}\n', encoding="utf-8"
    )
    source = DataSource(path=tmp_path / "rows.jsonl")
    for each in (source, as_client(source, tmp_path)):
        with pytest.raises(TaskFailed, match=r"line 2.*half a character"):
            read_rows(each, SFT)


def test_text_of_every_script_arrives_unchanged(tmp_path: Path) -> None:
    texts = ["漢字", "🙂", "é vs e\u0301", "\u2028\u0085\x00", "\\ud83d", 'quote "', "tab\tline\n"]
    source = table(tmp_path, prompt=texts, completion=texts)
    assert read_rows(as_client(source, tmp_path), SFT).rows == read_rows(source, SFT).rows
