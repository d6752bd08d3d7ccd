"""The coordinator's calls, typed. Everything that can go wrong on the way becomes an error of ``agent.errors`` here."""

import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from agent import __version__
from agent.errors import CoordinatorUnreachable, InsecureCoordinator, refusal
from agent.workspace import Identity
from shared.credentials import hash_secret
from shared.digest import content_digest_header
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

# of reading and writing for each piece, not for the whole: a slow line is no error, one that stands still is
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
# once the kernel has the last piece of a chunk, a slow line may still need its time for what waits in buffers
_CHUNK_TIMEOUT = httpx.Timeout(30.0, read=60.0, connect=10.0)
_PIECE_BYTES = 1 << 18
# httpx lets the errors of a TLS connection through that is there already: of records that were changed on the way
_BROKEN = (httpx.HTTPError, ssl.SSLError)
_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_BODY_IS_A_RETRY = frozenset({408, 425, 429, 500, 502, 503, 504, 507})

M = TypeVar("M", bound=BaseModel)


class CoordinatorApi:
    """One agent's connection. Raises CoordinatorRefused (LeaseLost for a lost lease) and CoordinatorUnreachable; when
    it is made, InsecureCoordinator, CoordinatorUnreachable for what is no URL, and OSError for *ca_file*."""

    def __init__(
        self, url: str, secret: str | None = None, *, ca_file: Path | None = None, insecure: bool = False
    ) -> None:
        try:
            confidential, base_url = is_confidential(url), httpx.URL(url)
        except (ValueError, httpx.InvalidURL) as error:
            raise CoordinatorUnreachable(f"{url} is no URL of a coordinator: {error}") from error
        if not (confidential or insecure):
            raise InsecureCoordinator(url)
        headers = {PROTOCOL_HEADER: PROTOCOL, "User-Agent": f"fedloom-agent/{__version__}"}
        if secret is not None:
            headers["Authorization"] = f"Bearer {secret}"
        verify = ssl.create_default_context(cafile=ca_file) if ca_file is not None else True
        self._http = httpx.AsyncClient(base_url=base_url, headers=headers, timeout=_TIMEOUT, verify=verify)

    @classmethod
    def of(cls, identity: Identity) -> Self:
        """The connection of an enrolled agent."""
        return cls(identity.coordinator, identity.secret, ca_file=identity.ca_file, insecure=identity.insecure)

    async def close(self) -> None:
        await self._http.aclose()

    async def enroll(self, token: str, name: str, secret: str) -> EnrollmentReply:
        """Become an agent with a secret of our own, of which only the hash is sent."""
        body = EnrollmentRequest(token=token, name=name, version=__version__, secret_hash=hash_secret(secret))
        return await self._call("POST", "/v1/enrollments", EnrollmentReply, body)

    async def change_secret(self, secret: str) -> None:
        """Have *secret* hold from now on; this connection goes on with the old one, which is void."""
        body = SecretRequest(secret_hash=hash_secret(secret))
        await self._call("POST", "/v1/agents/me/secret", SecretReply, body)

    async def acquire(self, instance_id: str, wait_s: float) -> TaskLease | None:
        """The next task; None after *wait_s* seconds without one."""
        reply = await self._send(
            "POST",
            "/v1/leases",
            LeaseRequest(instance_id=instance_id, version=__version__),
            headers={"Prefer": f"wait={wait_s:g}"},
            timeout=httpx.Timeout(wait_s + 30.0, connect=10.0),
        )
        if reply.status_code == httpx.codes.NO_CONTENT:
            return None
        lease = _read(reply, TaskLease)
        for name in (lease.task_id, lease.job.campaign_id):  # they name folders here, which are deleted in the end
            if not _ID.fullmatch(name):
                raise CoordinatorUnreachable(f"an id that cannot be one: {name!r}")
        return lease

    async def renew(self, lease: TaskLease, progress: Progress | None) -> RenewReply:
        return await self._call("PATCH", _path(lease), RenewReply, RenewRequest(progress=progress), lease)

    async def release(self, lease: TaskLease) -> None:
        await self._send("DELETE", _path(lease), headers=_lease_header(lease))

    async def put_result(self, lease: TaskLease, result: Result) -> None:
        # checking a large update takes the coordinator a while
        timeout = httpx.Timeout(600.0, connect=10.0)
        await self._send("PUT", _path(lease) + "/result", result, headers=_lease_header(lease), timeout=timeout)

    async def put_failure(self, lease: TaskLease, failure: Failure) -> None:
        await self._send("PUT", _path(lease) + "/failure", failure, headers=_lease_header(lease))

    async def start_upload(self, lease: TaskLease, request: UploadRequest) -> UploadReply:
        return await self._call("POST", _path(lease) + "/uploads", UploadReply, request, lease)

    async def append(self, lease: TaskLease, upload_id: str, offset: int, chunk: bytes) -> int:
        """Send a chunk; the upload's new offset."""
        headers = {
            **_lease_header(lease),
            "Upload-Offset": str(offset),
            "Content-Digest": content_digest_header(chunk),
            "Content-Type": "application/octet-stream",
        }
        path = f"/v1/uploads/{upload_id}"
        reply = await self._send("PATCH", path, content=chunk, headers=headers, timeout=_CHUNK_TIMEOUT)
        try:
            return int(reply.headers["Upload-Offset"])
        except (KeyError, ValueError) as error:
            message = "an answer to a chunk that does not say how much is there"
            raise CoordinatorUnreachable(message) from error

    @asynccontextmanager
    async def download(self, sha256: str, offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of a blob from *offset* on, as they come."""
        headers = {"Accept-Encoding": "identity"}  # an offset counts the blob's own bytes
        if offset:
            headers["Range"] = f"bytes={offset}-"
        try:
            async with self._http.stream("GET", f"/v1/blobs/{sha256}", headers=headers) as reply:
                if reply.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
                    await reply.aread()
                _check(reply)
                if offset and reply.status_code != httpx.codes.PARTIAL_CONTENT:
                    message = "the coordinator ignored the range of a download"
                    raise CoordinatorUnreachable(message)
                yield reply.aiter_bytes()  # as they come: gathered into larger pieces, a cut would lose them
        except _BROKEN as error:
            raise CoordinatorUnreachable(_reason(error)) from error

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
        timeout: httpx.Timeout = _TIMEOUT,
    ) -> httpx.Response:
        sent: dict[str, Any] = {"headers": dict(headers), "timeout": timeout}
        if content is not None:
            sent["content"] = _in_pieces(content)
            sent["headers"]["Content-Length"] = str(len(content))
        if body is not None:
            sent["content"] = body.model_dump_json()
            sent["headers"]["Content-Type"] = "application/json"
        try:
            reply = await self._http.request(method, path, **sent)
        except _BROKEN as error:
            raise CoordinatorUnreachable(_reason(error)) from error
        _check(reply)
        return reply


def _check(reply: httpx.Response) -> None:
    """Raise what an error reply means. One that is not the coordinator's own (a proxy's page) says nothing of us."""
    if PROTOCOL_HEADER not in reply.headers:
        raise CoordinatorUnreachable(f"{reply.status_code} from something that is not a Fedloom coordinator")
    if reply.is_success:
        return
    retry_after = reply.headers.get("Retry-After", "")
    pause_s = float(retry_after) if retry_after.isdecimal() else None
    try:
        problem = Problem.model_validate_json(reply.content)
    except ValidationError as error:
        raise CoordinatorUnreachable(f"{reply.status_code} without an explanation", pause_s) from error
    if reply.status_code in _BODY_IS_A_RETRY or not reply.headers.get("Content-Type", "").startswith(MEDIA_TYPE):
        raise CoordinatorUnreachable(problem.detail or problem.title, pause_s)
    raise refusal(problem)


async def _in_pieces(content: bytes) -> AsyncIterator[bytes]:
    """httpx writes whatever it is given at once within one time-out: a slow line needs longer for a chunk."""
    for at in range(0, len(content), _PIECE_BYTES):
        yield content[at : at + _PIECE_BYTES]


def _read(reply: httpx.Response, model: type[M]) -> M:
    """What an answer says, without the fields that only a newer coordinator knows. A job carries sections of a campaign
    file, which forbid unknown fields where a person wrote them; here they are left out at every level."""
    try:
        return model.model_validate_json(reply.content, extra="ignore")
    except ValidationError as error:
        raise CoordinatorUnreachable(f"an answer that cannot be read: {error.error_count()} errors") from error


def _path(lease: TaskLease) -> str:
    return f"/v1/leases/{lease.task_id}"


def _lease_header(lease: TaskLease) -> dict[str, str]:
    return {LEASE_HEADER: f"{lease.attempt}.{lease.token}"}


def _reason(error: httpx.HTTPError | ssl.SSLError) -> str:
    return f"the coordinator cannot be reached: {type(error).__name__} {error}".rstrip()
