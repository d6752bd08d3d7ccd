"""Files without an end, and lines without one: no reader takes them into memory."""

import gzip
from pathlib import Path

import pytest

from agent.configuration.settings import load_settings
from agent.data.reading import read_rows
from agent.data.source import DataSource
from agent.errors import SettingsError, TaskFailed
from shared import kinds
from shared.campaign.file import read_campaign_file
from shared.network.tls import context_trusting
from shared.text.text_file import MAX_FILE_BYTES, read_text

SFT = kinds.find("sft")
LONG = 32_000_001
pytestmark = pytest.mark.skipif(not Path("/dev/zero").exists(), reason="a device of POSIX")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet", "rows.jsonl.gz", "rows.txt"])
def test_data_from_a_device_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(TaskFailed, match="a device or a pipe, which cannot be read again; name a file or a folder"):
        read_rows(DataSource(path=tmp_path / name, separator="\t"), SFT)


@pytest.mark.parametrize(("name", "opened"), [("rows.jsonl", open), ("rows.txt", open), ("rows.jsonl.gz", gzip.open)])
def test_a_line_that_fills_the_memory_is_refused_with_what_to_look_at(
    tmp_path: Path, name: str, opened: object
) -> None:
    with opened(tmp_path / name, "wt") as file:  # type: ignore[operator]
        file.write('{"prompt": "q", "completion": "a"}\n' + "x" * LONG)
    with pytest.raises(TaskFailed, match="a line has more than 32,000,000 characters"):
        read_rows(DataSource(path=tmp_path / name, separator="\t"), SFT)


@pytest.mark.parametrize("read", [read_text, read_campaign_file, context_trusting, load_settings])
def test_settings_from_a_device_and_from_the_wrong_file_are_refused(tmp_path: Path, read: object) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"a" * (MAX_FILE_BYTES + 1))
    for path in (Path("/dev/zero"), large):
        with pytest.raises((OSError, SettingsError), match="it has more than 16 MiB; is it the right file"):
            read(path)  # type: ignore[operator]


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file of Linux that opens and cannot be read")
def test_a_file_that_opens_and_cannot_be_read_is_named() -> None:
    with pytest.raises(OSError, match="/proc/self/mem"):
        read_text(Path("/proc/self/mem"))
