"""``--fetch`` from a hub on loopback, by the hub's own client."""

import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from fedloom.evaluation.tasks.files.hub import hub_rows
from fedloom.evaluation.tasks.registry import TASKS
from tests.support.published import harness as published

pytest.importorskip("pyarrow")
pytest.importorskip("huggingface_hub")

GATED = "walledai/AdvBench"


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


class Hub(ThreadingHTTPServer):
    """files: by data set and path on the branch. asked: what was asked for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files = files
        self.asked: list[str] = []


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path).removeprefix("/datasets/").replace("/resolve/refs/convert/parquet", "")
        self.server.asked.append(path)
        content = self.server.files.get(path, b"")
        code = 200 if content else 403 if path.startswith(GATED) else 404
        self.send_response(code)
        if code != 200:
            self.send_header("X-Error-Code", "GatedRepo" if code == 403 else "EntryNotFound")
        self.send_header("ETag", f'"{len(content)}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    rows = published.gsm8k_rows(12)
    files = {
        "openai/gsm8k/main/test/0000.parquet": as_parquet(rows),
        "openai/gsm8k/main/train/0000.parquet": as_parquet(published.gsm8k_rows(12, 600)),
        "GBaker/MedQA-USMLE-4-options/default/test/0000.parquet": b"PAR1 no Parquet",
    }
    server = Hub(files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(hub: Hub, data: Path, tasks: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command with a hub and with caches of its own."""
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    command = [sys.executable, "-m", "fedloom", "evaluate", "--list", "--fetch", "--tasks", tasks, "--data", str(data)]
    return subprocess.run(
        command, env=environment | variables, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.deep
def test_what_is_missing_is_downloaded_and_what_fails_stops_no_other(hub: Hub, tmp_path: Path) -> None:
    data, home = tmp_path / "data", tmp_path / "home"
    found = fetch(hub, data, "advbench,medqa,gsm8k,fpb", home)
    assert found.returncode == 0
    lines = found.stderr.splitlines()
    assert "gsm8k/test.jsonl: downloaded from openai/gsm8k" in lines
    assert f"advbench/advbench.csv: cannot be downloaded: {GATED} asks for an account" in found.stderr
    assert "medqa/medqa_us_4opt_test.jsonl: cannot be downloaded: GBaker/MedQA-USMLE-4-options: Arrow" in found.stderr
    assert "fpb/Sentences_50Agree.txt: the hub does not have it: " in found.stderr
    assert {path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file()} == {
        "gsm8k/test.parquet",
        "gsm8k/train.parquet",
    }
    assert not any(path.suffix == ".parquet" for path in home.rglob("*")), "nothing stays in the hub's cache"
    items = TASKS["gsm8k"]().load(data).items
    assert [item.content["question"] for item in items] == [row["question"] for row in published.gsm8k_rows(12)]
    hub.asked.clear()
    fetch(hub, data, "gsm8k", home)
    assert hub.asked == []  # it is here


@pytest.mark.deep
def test_offline_nothing_is_asked(hub: Hub, tmp_path: Path) -> None:
    found = fetch(hub, tmp_path / "data", "gsm8k", tmp_path / "home", HF_HUB_OFFLINE="1")
    assert found.returncode == 0
    assert "gsm8k/test.jsonl: cannot be downloaded: HF_HUB_OFFLINE is set; from " in found.stderr
    assert hub.asked == []


def test_addresses_are_those_of_files_of_rows() -> None:
    files = [file for make in TASKS.values() for file in make().files]
    at_hub = [file for file in files if hub_rows(file) is not None]
    assert len({file.path for file in at_hub}) > 100
    assert not any(file.is_text for file in at_hub)
    assert all(f"{name.split('/')[0]}/" for file in at_hub for name in hub_rows(file).files)  # type: ignore[union-attr]
