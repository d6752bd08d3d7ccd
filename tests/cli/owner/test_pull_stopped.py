"""``fedloom agent pull`` that is stopped by Ctrl-C, or meets bytes that are no adapter, leaves no folder."""

import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from agent.configuration.open_policy import with_open_policy
from agent.workspace import Identity, Workspace
from shared.digest import sha256_hex
from shared.signing.keys import SigningKey
from shared.wire.statements import SignedStatements
from tests.agent.parts import OURS
from tests.cli.owner.known import known_campaign
from tests.support.processes import ROOT
from tests.support.signed import SignedChain
from tests.unit.stub_server import Answer, stub_server

DATA = b"these bytes are no adapter" * 100


DATA_PATH = f"/adapters/{sha256_hex(DATA)}"
KEY = SigningKey.generate()


def chain(signed: str = sha256_hex(DATA)) -> SignedChain:
    """What is signed of the campaign. signed: digest of adapter 1."""
    signs = SignedChain(KEY, "c1")
    signs.say_specification(known_campaign().spec_sha256)
    signs.say_adapter(0, "0" * 64)
    signs.say_roster(1, ["ada"])
    signs.say_adapter(1, signed)
    return signs


def coordinator(began: threading.Event, stop: threading.Event | None, signs: SignedChain | None = None) -> Answer:
    """Lists one adapter, and sends half of it and then nothing until *stop*; all of it at once if that is None."""
    statements = SignedStatements(statements=(signs or chain()).signed(), has_more=False)
    facts = {"number": 1, "stored": True, "final": True, "best": False, "created_at": "2026-01-31T00:00:00Z"}
    item = facts | {"blob": {"sha256": sha256_hex(DATA), "n_bytes": len(DATA)}}

    def answer(request: BaseHTTPRequestHandler) -> None:
        is_listing = "?" in request.path
        listed = json.dumps({"items": [item], "next_cursor": None}).encode()
        if "/statements?" in request.path:
            listed = statements.model_dump_json().encode()
        body = listed if is_listing else DATA
        request.send_response(200)
        for name, value in {**OURS, "Content-Length": str(len(body)), "Content-Type": "application/json"}.items():
            request.send_header(name, value)
        request.end_headers()
        if is_listing or stop is None:
            request.wfile.write(body)
            return
        request.wfile.write(body[: len(body) // 2])
        request.wfile.flush()
        began.set()
        stop.wait(30)
        request.close_connection = True

    return answer


def pull(url: str, folder: Path) -> "subprocess.Popen[str]":
    """The command in a process of its own, in the folder ``here``."""
    home = Workspace(folder / "home")
    home.create()
    home.record.create()
    home.write_identity(Identity(coordinator=url, agent_id="a", name="ada", secret="s", signing_key=KEY.public))
    home.settings_file.write_text(with_open_policy('[data.notes]\npath = "notes.jsonl"\n'))
    known = known_campaign()
    home.record.campaigns.add("c1", url, known.spec_sha256, known.spec, known.terms)
    (folder / "here").mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "fedloom", "agent", "pull", "small", "--home", str(home.home)],
        cwd=folder / "here",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    began, stop = threading.Event(), threading.Event()
    with stub_server(coordinator(began, stop)) as stub:
        running = pull(stub.url, tmp_path)
        assert began.wait(30)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=20)
        stop.set()
    assert (running.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert list((tmp_path / "here").iterdir()) == []


def test_an_adapter_that_was_not_signed_is_not_downloaded(tmp_path: Path) -> None:
    with stub_server(coordinator(threading.Event(), None, chain("f" * 64))) as stub:
        running = pull(stub.url, tmp_path)
        _, err = running.communicate(timeout=30)
        assert not [path for path in stub.seen if DATA_PATH in str(path)]
    assert running.returncode == 1
    said = f"adapter.sha256: adapter 1 with {sha256_hex(DATA)[:12]}… is asked for, and ffffffffffff… was signed"
    assert said in " ".join(err.split())
    assert list((tmp_path / "here").iterdir()) == []


def test_bytes_that_are_no_adapter_are_refused(tmp_path: Path) -> None:
    with stub_server(coordinator(threading.Event(), None)) as stub:
        running = pull(stub.url, tmp_path)
        _, err = running.communicate(timeout=30)
    assert running.returncode == 2
    assert "small-adapter-1: what was downloaded is no adapter: " in err
    assert list((tmp_path / "here").iterdir()) == []
