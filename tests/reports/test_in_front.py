"""Reports of what stands in front of a server: monitors, compressing proxies, callers with a clock of their own."""

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from coordinator.settings import LimitSettings
from fedloom.cli import output
from fedloom.client import Client
from fedloom.errors import FedloomError
from tests.deploy.files import DEPLOY, dockerfile
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, campaign_body
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator
from tests.unit.stub_server import reply, stub_server

TOKEN = {"labels": {"site": "north"}}


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_monitor_may_ask_for_the_head_alone(coordinator: RunningCoordinator, path: str) -> None:
    head, whole = httpx.head(coordinator.url + path), httpx.get(coordinator.url + path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(whole.content))


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "zstd", "br", "gzip, identity"])
def test_a_compressed_body_is_refused_as_one(coordinator: RunningCoordinator, encoding: str) -> None:
    body = gzip.compress(json.dumps(TOKEN).encode())
    headers = {
        "Authorization": f"Bearer {coordinator.key}",
        "Content-Type": "application/json",
        "Content-Encoding": encoding,
    }
    for method, path in (("POST", "/v1/tokens"), ("POST", "/v1/enrollments"), ("PATCH", "/v1/uploads/u-1")):
        refused = httpx.request(method, coordinator.url + path, content=body, headers=headers)
        assert refused.status_code == 415
        assert (
            refused.json()["detail"] == f"the body has the Content-Encoding {encoding.lower()!r}; send it without any"
        )


def test_a_body_of_zeros_is_not_unpacked_and_one_without_encoding_is_taken(coordinator: RunningCoordinator) -> None:
    headers = {"Authorization": f"Bearer {coordinator.key}", "Content-Type": "application/json"}
    bomb = gzip.compress(bytes(200 << 20), 9)  # 200 kB that stand for 200 MB
    refused = httpx.post(f"{coordinator.url}/v1/tokens", content=bomb, headers={**headers, "Content-Encoding": "gzip"})
    assert refused.status_code == 415
    plain = httpx.post(f"{coordinator.url}/v1/tokens", json=TOKEN, headers={**headers, "Content-Encoding": "identity"})
    assert plain.status_code == 201


def test_a_stream_of_events_begins_at_once_and_is_not_to_be_transformed(
    coordinator: RunningCoordinator, operator: Operator
) -> None:
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "1000"}  # after the last one there is
    with operator.http.stream("GET", f"/v1/campaigns/{campaign_id}/events", headers=headers, timeout=2) as stream:
        first = next(stream.iter_raw())
    assert first == b": connected\n\n"
    assert {"no-store", "no-transform"} <= {each.strip() for each in stream.headers["Cache-Control"].split(",")}
    assert stream.headers["X-Accel-Buffering"] == "no"


def test_agents_at_two_coordinators_of_one_data_folder_do_each_task_once(
    coordinator: RunningCoordinator, operator: Operator, enroll: Callable[..., ScriptedAgent]
) -> None:
    folder = coordinator.services.settings.data_dir
    with running_coordinator(quick_settings(folder, None)) as second:
        ada, bob = enroll("ada"), enroll("bob")
        there = Operator(second.url, second.key)
        campaign_id = there.post("/v1/campaigns", campaign_body(rounds=1))["id"]
        assert operator.get(f"/v1/campaigns/{campaign_id}")["id"] == campaign_id
        bob.http.base_url = httpx.URL(second.url)
        for agent in (ada, bob):
            agent.prepare(n_train=10, n_held_out=5)
        tasks = operator.items(f"/v1/campaigns/{campaign_id}/tasks")
    assert sorted((task["kind"], task["state"]) for task in tasks if task["kind"] == "prepare") == [
        ("prepare", "done"),
        ("prepare", "done"),
    ]


@pytest.mark.parametrize("seconds", [3, 3600, 10**7])
def test_a_time_of_a_clock_that_is_ahead_is_just_now(seconds: int) -> None:
    assert output.ago(datetime.now(UTC) + timedelta(seconds=seconds)) == "0 s ago"


@pytest.mark.parametrize("pause", ["Wed, 21 Oct 2099 07:28:00 GMT", "-5", "1e9", "٣", "0x10", "", "9" * 400])
def test_no_retry_after_of_a_proxy_stops_a_client(pause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("fedloom.transport.time.sleep", slept.append)
    answer = reply(503, "<html>", kind="text/html", Retry_After=pause.encode("utf-8").decode("latin-1"))
    with stub_server(answer) as stub, Client(stub.url, "flo_key") as client, pytest.raises(FedloomError):
        client.storage()
    assert len(slept) == 3
    assert max(slept) <= 13


def test_the_containers_health_check_asks_no_proxy(coordinator: RunningCoordinator) -> None:
    [line] = [each for each in dockerfile() if each.startswith("HEALTHCHECK")]
    program, *arguments = json.loads(line.partition("CMD ")[2])
    assert program == "python"
    port = str(httpx.URL(coordinator.url).port)
    argv = [sys.executable, *(each.replace("8470", port) for each in arguments)]
    proxies = {
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
    }
    assert subprocess.run(argv, env=proxies, check=False, timeout=20).returncode == 0
    closed = [each.replace(port, "9") for each in argv]
    assert subprocess.run(closed, env=proxies, check=False, timeout=20, capture_output=True).returncode != 0


def test_clients_and_the_proxy_drop_idle_connections_before_the_coordinator_does() -> None:
    kept_s = LimitSettings().keep_alive_s
    [upstream] = re.findall(r"upstream [^{]*\{(.*?)\}", (DEPLOY / "nginx.conf").read_text(), re.DOTALL)
    [proxy_s] = re.findall(r"keepalive_timeout\s+(\d+)s;", upstream)
    client_s = httpx.Limits().keepalive_expiry
    assert client_s is not None
    assert max(int(proxy_s), client_s) < kept_s
