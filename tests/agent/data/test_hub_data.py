"""Data sets of the hub: the real library, in its own process, fetches them from a fake hub on loopback."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.agent.data.test_formats import RECORDS
from tests.support.hub import COMMIT, HubHandler, running_hub

pytest.importorskip("datasets")
pytestmark = pytest.mark.train

API, FILES = "/api/datasets/tiny/rows", "/datasets/tiny/rows/resolve/"
READ = """
import json, os, sys
from agent.errors import TaskFailed
from agent.data.files.tables import NO_REPORTS
from agent.data.reading import read_rows
from agent.configuration.settings import DataSource
from shared.kinds import find
os.environ.update(NO_REPORTS)
from huggingface_hub.utils import _http
# an unreachable hub is tried again after pauses that double four times: start at 0.01 s instead of 1 s
_http.http_backoff.__kwdefaults__["base_wait_time"] = 0.01
for settings in json.loads(sys.argv[1]):
    try:
        print(json.dumps([row.parts for row in read_rows(DataSource(**settings), find("sft")).rows]))
    except TaskFailed as error:
        print(json.dumps(str(error)))
"""


class Hub(HubHandler):
    """The endpoints of the hub that a data set needs."""

    files: ClassVar[dict[str, bytes]] = {
        f"{split}.jsonl": json.dumps(record).encode() + b"\n"
        for split, record in zip(("train", "test"), RECORDS, strict=True)
    }

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(("/api/datasets/tiny/gated", "/datasets/tiny/gated/")):
            self.refuse(403, "GatedRepo")
        elif path in (API, f"{API}/revision/main", f"{API}/revision/{COMMIT}"):
            self.send_json({"id": "tiny/rows", "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]})
        elif path.startswith(f"{API}/tree/{COMMIT}"):
            files = [{"path": name, "size": len(content)} for name, content in self.files.items()]
            self.send_json([{"type": "file", "oid": "0" * 40} | file for file in files])
        elif path.startswith(f"{API}/revision/"):
            self.refuse(404, "RevisionNotFound")
        elif path.startswith(FILES):
            name = path.rpartition("/")[2]
            if name in self.files:
                self.answer(self.files[name], 200, {"X-Repo-Commit": COMMIT, "ETag": f'"{name}"'})
            else:
                self.refuse(404, "EntryNotFound")
        else:
            self.refuse(404, "RepoNotFound")


class TableHub(Hub):
    """The same data set as a table."""

    files: ClassVar[dict[str, bytes]] = {"train.csv": b"prompt,completion\nNA,null\nnan,None\nx,\n"}


@pytest.fixture
def hub() -> Iterator[str]:
    with running_hub(Hub) as address:
        yield address


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[Any]]:
    """Reads data in its own process; for each source the rows, or the error message."""

    def run(endpoint: str, *settings: dict[str, str], code: str = READ) -> list[Any]:
        home = {"HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "", "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        environment = os.environ | home | {"HF_ENDPOINT": endpoint}
        argv = [sys.executable, "-c", code, json.dumps(settings)]
        process = subprocess.run(argv, check=True, capture_output=True, text=True, env=environment, timeout=240)
        return [json.loads(line) for line in process.stdout.splitlines()]

    return run


def test_a_data_set_is_fetched_and_every_refusal_says_what_to_do(hub: str, read: Callable[..., list[Any]]) -> None:
    train, test, split, revision, gated, absent = read(
        hub,
        {"hub": "tiny/rows"},
        {"hub": "tiny/rows", "split": "test", "revision": COMMIT},
        {"hub": "tiny/rows", "split": "gone"},
        {"hub": "tiny/rows", "revision": "gone"},
        {"hub": "tiny/gated"},
        {"hub": "tiny/absent"},
    )
    assert train == [["oñe", "", "two"]]
    assert test == [["three\tx", "", "four, five"]]
    assert split == "tiny/rows: the data set has no split 'gone'; it has train, test"
    assert revision == "tiny/rows: the data set has no such revision: correct it in agent.toml"
    assert gated == "tiny/gated: the data set is gated: ask for access at the hub, and set HF_TOKEN here"
    assert absent == "tiny/absent: the hub has no such data set, or it is private: correct its name, or set HF_TOKEN"


@pytest.mark.deep
def test_cells_such_as_na_and_null_are_text_in_a_table_of_the_hub_too(read: Callable[..., list[Any]]) -> None:
    expected = [["NA", "", "null"], ["nan", "", "None"], ["x", "", ""]]
    with running_hub(TableHub) as address:
        assert read(address, {"hub": "tiny/rows"}) == [expected]
    assert read("http://127.0.0.1:1", {"hub": "tiny/rows"}) == [expected], "of the copy on this machine"


@pytest.mark.deep
def test_a_copy_of_a_table_that_another_program_made_without_such_cells_is_refused(
    read: Callable[..., list[Any]],
) -> None:
    with running_hub(TableHub) as address:
        read(address, code='import datasets; datasets.load_dataset("tiny/rows", split="train")')
    assert read("http://127.0.0.1:1", {"hub": "tiny/rows"}) == [
        "tiny/rows: the copy on this machine lacks cells such as NA and null: connect to the hub once more"
    ]


def test_no_download_is_counted_anywhere() -> None:
    """By default, the library reports the name of each data set to a bucket of its own."""
    code = (
        "from agent.data.files.tables import _library; print(_library('datasets', '').config.HF_UPDATE_DOWNLOAD_COUNTS)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert process.stdout == "False\n"


@pytest.mark.deep
def test_fetched_data_is_read_while_the_hub_is_unreachable(hub: str, read: Callable[..., list[Any]]) -> None:
    assert read(hub, {"hub": "tiny/rows"}) == [[["oñe", "", "two"]]]
    again, other = read("http://127.0.0.1:1", {"hub": "tiny/rows"}, {"hub": "tiny/other"})
    assert again == [["oñe", "", "two"]]
    assert other == ("tiny/other: the hub cannot be reached: check the network, or give a copy of the data by path")
