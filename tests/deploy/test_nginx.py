"""deploy/nginx.conf in a real nginx, in front of a real coordinator."""

import asyncio
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme

from coordinator.app import ROUTERS
from coordinator.web.reference.document import openapi_document
from shared.wire.base import CHUNK_BYTES
from tests.deploy.files import DEPLOY
from tests.support.operator import Operator
from tests.support.processes import Process, wait_until
from tests.support.scripted import campaign_body
from tests.support.server import RunningCoordinator, free_port

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="needs nginx")

EVENT_STREAM = "text/event-stream"
MAIN = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/fedloom.conf;
}}
"""


@dataclass
class Proxy:
    """A running nginx. tls: trusts its certificate."""

    port: int
    folder: Path
    coordinator: RunningCoordinator

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.folder / "ca.pem")

    def connect(self, name: str = "localhost") -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        return self.tls.wrap_socket(plain, server_hostname=name)


def configure(folder: Path, port: int, upstream: str, **seconds: float) -> list[str]:
    """Write the configuration with the test's places, and the certificate. Returns nginx's command."""
    ca = trustme.CA()
    certificate = ca.issue_cert("localhost")
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    for part in certificate.cert_chain_pems:
        part.write_to_path(str(folder / "chain.pem"), append=True)
    text = (DEPLOY / "nginx.conf").read_text()
    changes = {
        r"listen 443": f"listen 127.0.0.1:{port}",
        r"coordinator\.example": "localhost",
        r"/etc/ssl/coordinator": str(folder),
        r"127\.0\.0\.1:8470;": f"{upstream};",
        **{rf"(?m)^( +{name}) +\S+;": rf"\1 {value}s;" for name, value in seconds.items()},
    }
    for pattern, place in changes.items():
        text, n_changed = re.subn(pattern, place, text)
        assert n_changed, pattern
    (folder / "fedloom.conf").write_text(text)
    user = "user root;\n" if folder.owner() == "root" else ""
    (folder / "nginx.conf").write_text(user + MAIN.format(folder=folder))
    assert NGINX is not None
    return [NGINX, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]


@pytest.fixture
def proxy(coordinator: RunningCoordinator, tmp_path: Path) -> Iterator[Proxy]:
    """The proxy, with short time-outs for slow clients."""
    folder, port = tmp_path / "nginx", free_port()
    folder.mkdir()
    upstream = coordinator.url.removeprefix("http://")
    argv = configure(folder, port, upstream, client_header_timeout=1, client_body_timeout=1)
    process = Process(argv, folder / "log")
    running = Proxy(port, folder, coordinator)
    try:
        wait_until(lambda: is_open(port), "nginx", 20, process._is_over)
        yield running
    finally:
        process.popen.terminate()
        process.popen.wait(10)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_nginx_accepts_the_file(tmp_path: Path) -> None:
    argv = configure(tmp_path, free_port(), "127.0.0.1:1")
    tested = subprocess.run([*argv, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    assert "warn" not in tested.stderr


def test_every_stream_is_in_the_location_of_streams() -> None:
    (pattern,) = re.findall(r"location ~ (\S+) \{[^}]*proxy_buffering +off;", (DEPLOY / "nginx.conf").read_text())
    streams = [
        path for path, operations in openapi_document(ROUTERS)["paths"].items() if EVENT_STREAM in str(operations)
    ]
    assert len(streams) == 2
    for path in (*streams, "/v1/blobs/{sha256}"):
        assert re.match(pattern, re.sub(r"\{\w+\}", "x", path)), path


@pytest.mark.parametrize("of_all", [False, True], ids=["of one campaign", "of all campaigns"])
def test_events_arrive_as_they_happen(proxy: Proxy, of_all: bool) -> None:
    operator = Operator(proxy.url, proxy.coordinator.key, ca_file=proxy.folder / "ca.pem")
    campaign = operator.post("/v1/campaigns", campaign_body())["id"]
    path = "/v1/events" if of_all else f"/v1/campaigns/{campaign}/events"
    with operator.http.stream("GET", path, headers={"Accept": EVENT_STREAM}, timeout=10) as stream:
        lines = stream.iter_lines()
        assert any("created" in line for line in lines)
        operator.campaign(campaign, "pause")
        assert any("paused" in line for line in lines)  # a proxy that buffers would run into the time-out


def test_bodies_have_limits_and_chunks_of_updates_pass(proxy: Proxy) -> None:
    headers = {"Authorization": f"Bearer {proxy.coordinator.key}"}
    with httpx.Client(base_url=proxy.url, verify=proxy.tls, headers=headers, timeout=30) as http:
        assert http.post("/v1/tokens", content=b" " * (2 << 20)).status_code == 413
        chunk = http.patch("/v1/uploads/none", content=bytes(CHUNK_BYTES))
        assert chunk.headers["Content-Type"] == "application/problem+json"  # the coordinator's own answer
        assert chunk.status_code in (403, 404, 409, 422)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /v1/enrollments HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n123456789",
        b"PATCH /v1/uploads/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n123456789",
    ],
    ids=["header", "body", "chunk"],
)
def test_a_client_that_stops_in_the_middle_is_cut(proxy: Proxy, sent: bytes) -> None:
    with proxy.connect() as client:
        client.sendall(sent)
        began = time.monotonic()
        while client.recv(4096):
            pass
        assert time.monotonic() - began < 10


def test_names_that_are_not_its_own_get_no_handshake(proxy: Proxy) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        proxy.connect("evil.example").close()


@pytest.mark.deep
def test_many_agents_share_an_address_and_strangers_are_slowed_down(proxy: Proxy) -> None:
    async def statuses(key: str | None, n_requests: int, n_connections: int, wait_s: float) -> list[int]:
        limits = httpx.Limits(max_connections=n_connections)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(verify=proxy.tls, headers=headers, limits=limits, timeout=60) as http:
            requests = [asyncio.create_task(http.get(f"{proxy.url}/healthz")) for _ in range(n_requests)]
            done, pending = await asyncio.wait(requests, timeout=wait_s)
            for each in pending:
                each.cancel()
            return [each.result().status_code for each in done if not is_cut(each)]

    def is_cut(request: asyncio.Task[httpx.Response]) -> bool:
        """Whether nginx closed the connection, because this process was too busy to send its header in time."""
        return isinstance(request.exception(), httpx.RemoteProtocolError)

    assert asyncio.run(statuses(proxy.coordinator.key, 300, 50, 60)) == [200] * 300
    strangers = asyncio.run(statuses(None, 300, 300, 5))
    assert strangers.count(429) >= 50
    assert strangers.count(200) < 100
    assert set(strangers) == {200, 429}
