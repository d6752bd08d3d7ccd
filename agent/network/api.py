"""A typed client of the coordinator's API. Every network error becomes one of ``agent.errors`` here."""

import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from agent import __version__
from agent.errors import CoordinatorUnreachable, InsecureCoordinator, refusal
from agent.settings import NetworkSettings
from agent.workspace import Identity
from shared.credentials import hash_secret
from shared.digest import content_digest_header
from shared.tls import context_trusting
from shared.urls import is_confidential
from shared.wire.base import LEASE_HEADER, PROTOCOL, PROTOCOL_HEADER
from shared.wire.enrollments import EnrollmentReply, EnrollmentRequest, SecretReply, SecretRequest
from shared.wire.jobs import Result
from shared.wire.leases import (
    Failure,
    LeaseRequest,
    Progress,
    RenewReply,
    RenewRequest,
    TaskLease,
    UploadReply,
    UploadRequest,
)
from shared.wire.problems import MEDIA_TYPE, Problem

_PIECE_BYTES = 1 << 18
# httpx does not wrap the errors of an established TLS connection, such as records that were altered in transit
_CONNECTION_ERRORS = (httpx.HTTPError, ssl.SSLError)
_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 507})

M = TypeVar("M", bound=BaseModel)


class CoordinatorApi:
    """One agent's connection to the coordinator.

    Every call raises CoordinatorUnreachable, and CoordinatorRefused, of which LeaseLost means a lost lease. The
    constructor raises InsecureCoordinator, CoordinatorUnreachable for an invalid URL, and OSError for *ca_file*.
    """

    def __init__(
        self,
        url: str,
        secret: str | None = None,
        *,
        ca_file: Path | None = None,
        insecure: bool = False,
        network: NetworkSettings | None = None,
    ) -> None:
        try:
            confidential, base_url = is_confidential(url), httpx.URL(url)
        except (ValueError, httpx.InvalidURL) as error:
            raise CoordinatorUnreachable(f"{url} is not a valid URL of a coordinator: {error}") from error
        if not (confidential or insecure):
            raise InsecureCoordinator(url)
        headers = {PROTOCOL_HEADER: PROTOCOL, "User-Agent": f"fedloom-agent/{__version__}"}
        if secret is not None:
            headers["Authorization"] = f"Bearer {secret}"
        self._network = network or NetworkSettings()
        verify = context_trusting(ca_file) if ca_file is not None else True
        self._http = httpx.AsyncClient(base_url=base_url, headers=headers, timeout=self._timeout(), verify=verify)

    @classmethod
    def of(cls, identity: Identity, network: NetworkSettings | None = None) -> Self:
        """Return the connection of an enrolled agent."""
        return cls(
            identity.coordinator,
            identity.secret,
            ca_file=identity.ca_file,
            insecure=identity.insecure,
            network=network,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def enroll(self, token: str, name: str, secret: str) -> EnrollmentReply:
        """Enrol with a secret of our own. Only its hash is sent."""
        body = EnrollmentRequest(token=token, name=name, version=__version__, secret_hash=hash_secret(secret))
        return await self._call("POST", "/v1/enrollments", EnrollmentReply, body)

    async def change_secret(self, secret: str) -> None:
        """Replace the agent's secret by *secret*. This connection still uses the old one, which becomes invalid."""
        body = SecretRequest(secret_hash=hash_secret(secret))
        await self._call("POST", "/v1/agents/me/secret", SecretReply, body)

    async def acquire(self, instance_id: str, wait_s: float | None = None) -> TaskLease | None:
        """Return the next task, or None if there is none within *wait_s* seconds, by default those of the settings."""
        wait_s = self._network.wait_s if wait_s is None else wait_s
        reply = await self._send(
            "POST",
            "/v1/leases",
            LeaseRequest(instance_id=instance_id, version=__version__),
            headers={"Prefer": f"wait={wait_s:g}"},
            timeout=self._timeout(read_s=wait_s + self._network.timeout_s),
        )
        if reply.status_code == httpx.codes.NO_CONTENT:
            return None
        lease = _read(reply, TaskLease)
        for name in (lease.task_id, lease.job.campaign_id):  # they name folders here, which are deleted later
            if not _ID.fullmatch(name):
                raise CoordinatorUnreachable(f"the coordinator sent an invalid id: {name!r}")
        return lease

    async def renew(self, lease: TaskLease, progress: Progress | None) -> RenewReply:
        return await self._call("PATCH", _path(lease), RenewReply, RenewRequest(progress=progress), lease)

    async def release(self, lease: TaskLease) -> None:
        await self._send("DELETE", _path(lease), headers=_lease_header(lease))

    async def put_result(self, lease: TaskLease, result: Result) -> None:
        timeout = self._timeout(read_s=self._network.result_timeout_s)
        await self._send("PUT", _path(lease) + "/result", result, headers=_lease_header(lease), timeout=timeout)

    async def put_failure(self, lease: TaskLease, failure: Failure) -> None:
        await self._send("PUT", _path(lease) + "/failure", failure, headers=_lease_header(lease))

    async def start_upload(self, lease: TaskLease, request: UploadRequest) -> UploadReply:
        return await self._call("POST", _path(lease) + "/uploads", UploadReply, request, lease)

    async def append(self, lease: TaskLease, upload_id: str, offset: int, chunk: bytes) -> int:
        """Send a chunk and return the upload's new offset."""
        headers = {
            **_lease_header(lease),
            "Upload-Offset": str(offset),
            "Content-Digest": content_digest_header(chunk),
            "Content-Type": "application/octet-stream",
        }
        path = f"/v1/uploads/{upload_id}"
        # once the kernel has the last piece of a chunk, a slow line may still need its time for what waits in buffers
        timeout = self._timeout(read_s=self._network.chunk_timeout_s)
        reply = await self._send("PATCH", path, content=chunk, headers=headers, timeout=timeout)
        try:
            return int(reply.headers["Upload-Offset"])
        except (KeyError, ValueError) as error:
            message = "the coordinator's reply to a chunk lacks the upload's offset"
            raise CoordinatorUnreachable(message) from error

    @asynccontextmanager
    async def download(self, sha256: str, offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """Stream the bytes of a blob from *offset* on."""
        headers = {"Accept-Encoding": "identity"}  # an offset counts the blob's own bytes
        if offset:
            headers["Range"] = f"bytes={offset}-"
        try:
            async with self._http.stream("GET", f"/v1/blobs/{sha256}", headers=headers) as reply:
                if reply.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
                    await reply.aread()
                _check(reply)
                if offset and reply.status_code != httpx.codes.PARTIAL_CONTENT:
                    message = "the coordinator ignored the range of a download and sent the whole file"
                    raise CoordinatorUnreachable(message)
                # unbuffered: collected into larger pieces, bytes would be lost when the connection breaks
                yield reply.aiter_bytes()
        except _CONNECTION_ERRORS as error:
            raise self._unreachable(error) from error

    def _timeout(self, read_s: float | None = None) -> httpx.Timeout:
        """Time-outs of each read and write, not of the whole: a slow line is no error, one that stands still is."""
        network = self._network
        return httpx.Timeout(network.timeout_s, read=read_s or network.timeout_s, connect=network.connect_timeout_s)

    async def _call(
        self, method: str, path: str, model: type[M], body: BaseModel | None = None, lease: TaskLease | None = None
    ) -> M:
        headers = _lease_header(lease) if lease is not None else {}
        return _read(await self._send(method, path, body, headers=headers), model)

    async def _send(
        self,
        method: str,
        path: str,
        body: BaseModel | None = None,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str],
        timeout: httpx.Timeout | None = None,
    ) -> httpx.Response:
        options: dict[str, Any] = {"headers": dict(headers), "timeout": timeout or self._timeout()}
        if content is not None:
            options["content"] = _in_pieces(content)
            options["headers"]["Content-Length"] = str(len(content))
        if body is not None:
            options["content"] = body.model_dump_json()
            options["headers"]["Content-Type"] = "application/json"
        try:
            reply = await self._http.request(method, path, **options)
        except _CONNECTION_ERRORS as error:
            raise self._unreachable(error) from error
        _check(reply)
        return reply

    def _unreachable(self, error: httpx.HTTPError | ssl.SSLError) -> CoordinatorUnreachable:
        coordinator = f"the coordinator at {_origin(self._http.base_url)}"
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return CoordinatorUnreachable(f"{coordinator} cannot be reached: {_cause(error)}")
        return CoordinatorUnreachable(f"the connection to {coordinator} failed: {_cause(error)}")


def _check(reply: httpx.Response) -> None:
    """Raise the error of a reply. A reply that is not the coordinator's own, such as a proxy's page, is retryable."""
    if PROTOCOL_HEADER not in reply.headers:
        message = f"status {reply.status_code} from {_origin(reply.request.url)}, which is not a Fedloom coordinator"
        raise CoordinatorUnreachable(f"{message}: check its URL, and any proxy on the way to it")
    if reply.is_success:
        return
    retry_after = reply.headers.get("Retry-After", "")
    pause_s = float(retry_after) if retry_after.isdecimal() else None
    try:
        problem = Problem.model_validate_json(reply.content)
    except ValidationError as error:
        message = f"the coordinator answered with status {reply.status_code} and no explanation"
        raise CoordinatorUnreachable(message, pause_s) from error
    if reply.status_code in _RETRYABLE_STATUSES or not reply.headers.get("Content-Type", "").startswith(MEDIA_TYPE):
        raise CoordinatorUnreachable(problem.detail or problem.title, pause_s)
    raise refusal(problem)


async def _in_pieces(content: bytes) -> AsyncIterator[bytes]:
    """Split a body, because httpx applies its write time-out to each piece: a slow line needs longer for a chunk."""
    for offset in range(0, len(content), _PIECE_BYTES):
        yield content[offset : offset + _PIECE_BYTES]


def _read(reply: httpx.Response, model: type[M]) -> M:
    """Parse a reply, ignoring fields that only a newer coordinator knows, at every level.

    A job carries sections of a campaign file, which forbid unknown fields when a person writes them.
    """
    try:
        return model.model_validate_json(reply.content, extra="ignore")
    except ValidationError as error:
        raise CoordinatorUnreachable(
            f"the coordinator sent a reply that cannot be read ({error.error_count()} errors)"
        ) from error


def _path(lease: TaskLease) -> str:
    return f"/v1/leases/{lease.task_id}"


def _lease_header(lease: TaskLease) -> dict[str, str]:
    return {LEASE_HEADER: f"{lease.attempt}.{lease.token}"}


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}"


def _cause(error: httpx.HTTPError | ssl.SSLError) -> str:
    """Say in plain words why a connection failed. The errors of httpx name the cause only in their chain."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ExceptionGroup):  # an attempt for each address of the host
            link = link.exceptions[0]
        if isinstance(link, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({link.verify_message})"
        if isinstance(link, ssl.SSLError):
            return f"the TLS connection failed ({link.reason or link})"
        if isinstance(link, socket.gaierror):
            return "its host name is unknown"
        if isinstance(link, OSError) and link.errno is not None:
            return os.strerror(link.errno).lower()
        link = link.__cause__ or link.__context__
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    text = str(error).rstrip(".") or "the connection was closed"
    return text[0].lower() + text[1:]
