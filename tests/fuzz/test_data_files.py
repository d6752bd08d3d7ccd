"""Of any bytes in a data file, the check counts errors and training reads all rows or says why it cannot."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import strategies as st
from pyarrow import parquet

from agent.data.checks.checking import collect, guess_kind
from agent.data.reading import read_rows
from agent.data.source import DataSource
from agent.errors import TaskFailed
from shared.kinds import find
from tests.fuzz import bounds
from tests.fuzz.mutations import mutated

ROWS = [
    {"prompt": "oñe", "completion": "two", "chosen": "a", "rejected": "b"},
    {"prompt": "three\tx", "completion": "four, five", "chosen": '"c"', "rejected": "d"},
    {"prompt": "six", "completion": "7", "chosen": "e", "rejected": ""},
]
TALK = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "so", "weight": 1}]}
PIECES = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"'", b"\t", b"\n", b"\r", b"\r\n", b"\\", b"\\u0000", b"\\ud800"),
    *(b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"NaN", b"null", b"true", b"-1", b"1e999", b"1" * 5000),
    *(b"prompt", b"completion", b"messages", b"chosen", b"role", b"\xe2\x80\xa8", b"\x1b[2J", b"[" * 2000, b"a" * 9000),
]


def texts() -> dict[str, list[bytes]]:
    """Valid files by the ending of their names."""
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
    table = {
        separator: "\n".join(separator.join(f'"{cell}"' for cell in row) for row in (ROWS[0], *map(dict.values, ROWS)))
        for separator in (",", "\t")
    }
    return {
        "jsonl": [lines, json.dumps(TALK).encode() + b"\n"],
        "json": [json.dumps(ROWS).encode(), json.dumps([TALK]).encode()],
        "csv": [table[","].encode(), table[","].encode("utf-16")],
        "tsv": [table["\t"].encode()],
    }


def parquets() -> list[bytes]:
    found = []
    for rows in (ROWS, [TALK]):
        for compression in ("none", "snappy"):
            buffer = io.BytesIO()
            parquet.write_table(pa.Table.from_pylist(rows), buffer, compression=compression)
            found.append(buffer.getvalue())
    return found


def check_file(path: Path, content: bytes) -> None:
    """The check raises nothing; training raises TaskFailed where the check has an error, and nothing else."""
    path.write_bytes(content)
    source = DataSource(path=path)
    kind = guess_kind(source)
    for each in {kind.name, "sft"}:
        found = collect(source, find(each)).report("d", source, find(each))
        found.model_dump_json()  # it can be shown
        try:
            rows = read_rows(source, find(each))
        except TaskFailed as failed:
            failed.failure.model_dump_json()
            assert found.n_errors or not (found.train or found.held_out)
        else:
            assert not found.n_errors
            n_read = len(rows.located) + rows.skipped.total()
            assert n_read == found.train + found.held_out + sum(found.skipped.values()) == found.records


@bounds.examples(20)
@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv"])
def test_texts(tmp_path: Path, ending: str, examples: int) -> None:
    bounds.check(
        lambda content: check_file(tmp_path / f"rows.{ending}", content),
        examples,
        content=st.one_of(mutated(texts()[ending], PIECES), st.binary(max_size=100)),
    )


@bounds.examples(20)
def test_parquet(tmp_path: Path, examples: int) -> None:
    bounds.check(
        lambda content: check_file(tmp_path / "rows.parquet", content),
        examples,
        content=mutated(parquets(), [*PIECES[-12:], b"PAR1", b"\x15\x00", b"\xff\xff\xff\x7f"]),
    )
    assert pa.total_allocated_bytes() < 64 << 20
