"""A typed client of the coordinator's API. Every network error becomes one of ``agent.errors`` here."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode

import httpx
from pydantic import BaseModel, ValidationError

from agent import __version__
from agent.configuration.settings import NetworkSettings
from agent.errors import (
    AskedTooOften,
    BadEnvironment,
    CoordinatorUnreachable,
    InsecureCoordinator,
    InvalidOption,
    LedgerUnusable,
    LedgerUnwritable,
    UnreadableAssignment,
)
from agent.ledger.ledger import Ledger
from agent.ledger.outbound import Chunk, Outbound, Purpose
from agent.network.chunk_size import ChunkSize
from agent.network.outage import Outage
from agent.network.replies import (
    LEASE_BYTES,
    REPLY_BYTES,
    STATEMENTS_BYTES,
    check_origin,
    check_status,
    parse,
    receive,
    what_is_wrong,
)
from agent.network.replies import origin as _origin
from agent.workspace import Identity
from shared.campaign.sections import FROM_COORDINATOR
from shared.credentials import hash_secret
from shared.digest import content_digest_of
from shared.network import environment
from shared.network.connection_errors import cause_in_words, is_about_certificate
from shared.network.proxies import proxy_for
from shared.network.tls import refresh, trust
from shared.network.urls import is_confidential
from shared.wire.adapters import OwnAdapter
from shared.wire.agents import OwnCampaigns, Part, PartRequest, ReleaseReply
from shared.wire.base import LEASE_HEADER, PROTOCOL, PROTOCOL_HEADER, Page
from shared.wire.benchmarks import BenchmarkOffer
from shared.wire.enrollments import EnrollmentReply, EnrollmentRequest, SecretReply, SecretRequest
from shared.wire.gains import GainRequest
from shared.wire.statements import SignedStatements, SigningKeys
from shared.wire.tasks.leases import (
    Failure,
    LeaseGrant,
    LeaseRequest,
    Progress,
    RenewReply,
    RenewRequest,
    TaskLease,
    UploadReply,
    UploadRequest,
)
from shared.wire.tasks.results import Result

log = logging.getLogger(__name__)

_PIECE_BYTES = 1 << 18
_ADAPTERS_AT_ONCE = 1000
"""Adapters in one reply, which has about 300 bytes for each."""
# httpx does not wrap the errors of an established TLS connection, such as records that were altered in transit
_CONNECTION_ERRORS = (httpx.HTTPError, ssl.SSLError)

M = TypeVar("M", bound=BaseModel)


class CoordinatorApi:
    """One agent's connection to the coordinator. Each request is in the owner's ledger before it leaves.

    Every call raises CoordinatorUnreachable, CoordinatorRefused, of which LeaseLost means a lost lease, and
    LedgerUnusable. The constructor raises InsecureCoordinator, InvalidOption for an invalid URL, BadEnvironment, and
    OSError for *ca_file*.
    """

    def __init__(
        self,
        url: str,
        secret: str | None = None,
        *,
        ledger: Ledger,
        ca_file: Path | None = None,
        insecure: bool = False,
        network: NetworkSettings | None = None,
    ) -> None:
        try:
            confidential, base_url = is_confidential(url), httpx.URL(url)
        except (ValueError, httpx.InvalidURL) as error:
            raise InvalidOption(f"{url} is not a valid URL of a coordinator: {error}") from error
        if not (confidential or insecure):
            raise InsecureCoordinator(url)
        # no encoding: a reply is read as it is, and an offset counts the blob's own bytes
        headers = {PROTOCOL_HEADER: PROTOCOL, "User-Agent": f"fedloom-agent/{__version__}"}
        headers["Accept-Encoding"] = "identity"
        if secret is not None:
            headers["Authorization"] = f"Bearer {secret}"
        self._network = network or NetworkSettings()
        self._ledger = ledger
        self._outage = Outage()
        self.chunk_size = ChunkSize()
        """As large as the line allows, from what uploads found."""
        self._ca_file = ca_file
        try:
            self._proxy, self._trusted = proxy_for(url), trust(ca_file)
        except environment.BadEnvironment as error:
            raise BadEnvironment(str(error)) from error
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers=headers,
            timeout=self._timeout(),
            verify=self._trusted,
            proxy=self._proxy.url if self._proxy is not None else None,
            trust_env=False,  # the proxy and the authorities of the environment are those above
        )

    @classmethod
    def of(cls, identity: Identity, ledger: Ledger, network: NetworkSettings | None = None) -> Self:
        """Return the connection of an enrolled agent."""
        return cls(
            identity.coordinator,
            identity.secret,
            ledger=ledger,
            ca_file=identity.ca_file,
            insecure=identity.insecure,
            network=network,
        )

    @property
    def timeout_s(self) -> float:
        """Seconds without progress after which a transfer is cut."""
        return self._network.timeout_s

    async def close(self) -> None:
        await self._http.aclose()
        try:
            await self._ledger.close()
        except (LedgerUnusable, OSError) as error:  # the count of the last polls stays unknown, as after a kill
            log.warning("the end of the latest polls is not in the ledger: %s", error)

    async def enroll(self, token: str, name: str, secret: str) -> EnrollmentReply:
        """Enrol with a secret of our own. Only its hash is sent."""
        body = EnrollmentRequest(token=token, name=name, version=__version__, secret_hash=hash_secret(secret))
        return await self._call(Purpose.ENROLMENT, "POST", "/v1/enrollments", EnrollmentReply, body, has_secret=True)

    async def change_secret(self, secret: str) -> None:
        """Replace the agent's secret by *secret*. This connection still uses the old one, which becomes invalid."""
        body = SecretRequest(secret_hash=hash_secret(secret))
        await self._call(Purpose.SECRET, "POST", "/v1/agents/me/secret", SecretReply, body)

    async def own_campaigns(self) -> OwnCampaigns:
        """Return the states of this agent's campaigns."""
        return await self._call(Purpose.NEWS, "GET", "/v1/agents/me/campaigns", OwnCampaigns)

    async def set_part(self, campaign_id: str, part: Part) -> None:
        """Say what the owner wants of this agent in a campaign."""
        path, body = f"/v1/agents/me/campaigns/{campaign_id}", PartRequest(part=part)
        await self._send(Purpose.OWNERS_WORD, "PUT", path, body, campaign=campaign_id)

    async def offer_benchmarks(self, campaign_id: str, offer: BenchmarkOffer) -> None:
        """Say which of a campaign's public benchmarks this agent runs, in place of what it said before."""
        path = f"/v1/agents/me/campaigns/{campaign_id}/benchmarks"
        await self._send(Purpose.BENCHMARKS, "PUT", path, offer, campaign=campaign_id)

    async def statements(self, campaign_id: str, since: int) -> SignedStatements:
        """Return signed statements of a campaign, from a number on."""
        path = f"/v1/agents/me/campaigns/{campaign_id}/statements?since={since}"
        _, content = await self._send(Purpose.SIGNATURES, "GET", path, campaign=campaign_id, max_bytes=STATEMENTS_BYTES)
        return parse(content, SignedStatements)

    async def signing_keys(self) -> SigningKeys:
        """Return the key that statements are signed by, and those before."""
        return await self._call(Purpose.SIGNATURES, "GET", "/v1/signing-keys", SigningKeys)

    async def own_adapters(self, campaign_id: str, cursor: str | None = None) -> Page[OwnAdapter]:
        """Return a page of the global adapters of a campaign that this agent took part in. cursor: of a later page."""
        path = f"{_own_adapters(campaign_id)}?limit={_ADAPTERS_AT_ONCE}"
        path += f"&cursor={quote(cursor, safe='')}" if cursor is not None else ""
        _, body = await self._send(Purpose.ADAPTERS, "GET", path, campaign=campaign_id)
        return parse(body, Page[OwnAdapter])

    async def tell_gain(self, campaign_id: str, sha256: str, gain: GainRequest) -> None:
        """Tell what this owner gains by the adapter of a digest."""
        path = f"/v1/agents/me/campaigns/{campaign_id}/gains/{sha256}"
        await self._send(Purpose.GAIN, "PUT", path, gain, campaign=campaign_id)

    async def hold(self, lease: TaskLease) -> None:
        """Keep a task's finished update back, which ends the lease."""
        await self._send(Purpose.OWNERS_WORD, "PUT", _path(lease) + "/hold", lease=lease)

    async def release_update(self, campaign_id: str, task_id: str) -> ReleaseReply:
        """Say that a held update was let go: the task is granted again. Returns what the task is by now."""
        path = f"/v1/agents/me/tasks/{task_id}/release"
        _, content = await self._send(Purpose.OWNERS_WORD, "PUT", path, campaign=campaign_id)
        return parse(content, ReleaseReply)

    async def acquire(
        self, instance_id: str, wait_s: float | None = None, statements: Mapping[str, int] | None = None
    ) -> TaskLease | None:
        """Return the next task, or None if there is none in time.

        Raises UnreadableAssignment for a task that this agent can fail and not do.

        Args:
            instance_id: of this process.
            wait_s: how long to wait, in seconds; by default as the settings say.
            statements: number of the newest statement that is known, by campaign; the lease brings what follows.
        """
        wait_s = self._network.wait_s if wait_s is None else wait_s
        reply, body = await self._send(
            Purpose.WORK,
            "POST",
            "/v1/leases",
            LeaseRequest(instance_id=instance_id, version=__version__, statements=dict(statements or {})),
            headers={"Prefer": f"wait={wait_s:g}"},
            timeout=self._timeout(read_s=wait_s + self._network.timeout_s),
            max_bytes=LEASE_BYTES,
        )
        return None if reply.status_code == httpx.codes.NO_CONTENT else _lease(body)

    async def renew(self, lease: TaskLease, progress: Progress | None) -> RenewReply:
        body = RenewRequest(progress=progress)
        return await self._call(Purpose.RENEWAL, "PATCH", _path(lease), RenewReply, body, lease=lease)

    async def release(self, lease: TaskLease) -> None:
        await self._send(Purpose.RELEASE, "DELETE", _path(lease), lease=lease)

    async def put_result(self, lease: TaskLease, result: Result) -> OwnCampaigns:
        """End a task with its result. Returns the states of this agent's campaigns after it."""
        timeout = self._timeout(read_s=self._network.result_timeout_s)
        path = _path(lease) + "/result"
        _, content = await self._send(Purpose.RESULT, "PUT", path, result, lease=lease, timeout=timeout)
        return parse(content, OwnCampaigns)

    async def put_failure(self, lease: LeaseGrant, failure: Failure) -> None:
        await self._send(Purpose.FAILURE, "PUT", _path(lease) + "/failure", failure, lease=lease)

    async def start_upload(self, lease: TaskLease, request: UploadRequest, first: Chunk | None = None) -> UploadReply:
        """Begin an upload, or ask where it goes on. first: its first chunk, which a begun upload ignores."""
        path = f"{_path(lease)}/uploads?{urlencode(request.model_dump(mode='json'))}"
        if first is None:
            return await self._call(Purpose.UPLOAD, "POST", path, UploadReply, lease=lease)
        _, content = await self._send_chunk(Purpose.UPLOAD, "POST", path, lease, first, {})
        return parse(content, UploadReply)

    async def append(self, lease: TaskLease, upload_id: str, offset: int, chunk: Chunk) -> int:
        """Send a chunk and return the upload's new offset."""
        path, headers = f"/v1/uploads/{upload_id}", {"Upload-Offset": str(offset)}
        reply, _ = await self._send_chunk(Purpose.CHUNK, "PATCH", path, lease, chunk, headers)
        stored = reply.headers.get("Upload-Offset", "")
        # the whole chunk or an error: with any other offset, an upload could go on for ever
        if stored != str(offset + len(chunk.data)):
            message = "the coordinator's reply to a chunk lacks the upload's offset, or names another one"
            raise CoordinatorUnreachable(message)
        return offset + len(chunk.data)

    async def _send_chunk(
        self,
        purpose: Purpose,
        method: str,
        path: str,
        lease: TaskLease,
        chunk: Chunk,
        headers: Mapping[str, str],
    ) -> tuple[httpx.Response, bytes]:
        of_chunk = {"Content-Digest": content_digest_of(chunk.sha256), "Content-Type": "application/octet-stream"}
        # once the kernel has the last piece of a chunk, a slow line may still need its time for what waits in buffers
        timeout = self._timeout(read_s=self._network.chunk_timeout_s)
        return await self._send(
            purpose, method, path, content=chunk, lease=lease, headers={**headers, **of_chunk}, timeout=timeout
        )

    @asynccontextmanager
    async def download(self, lease: TaskLease, sha256: str, offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """Stream the bytes of a blob from *offset* on, however many the coordinator sends."""
        async with self._stream(Purpose.DOWNLOAD, f"/v1/blobs/{sha256}", _campaign(lease), offset) as pieces:
            yield pieces

    @asynccontextmanager
    async def pull(self, campaign_id: str, sha256: str, offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """Stream the bytes of an adapter of a campaign that this agent took part in; otherwise as ``download``."""
        async with self._stream(Purpose.PULL, f"{_own_adapters(campaign_id)}/{sha256}", campaign_id, offset) as pieces:
            yield pieces

    @asynccontextmanager
    async def _stream(
        self, purpose: Purpose, path: str, campaign: str | None, offset: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        await self._note(Outbound(purpose, "GET", path, campaign, headers=headers))
        header_s = self._network.connect_timeout_s + self._network.timeout_s
        try:
            async with (
                asyncio.timeout(header_s) as total,
                self._http.stream("GET", path, headers=headers) as reply,
            ):
                total.reschedule(None)  # the header is there; how fast the bytes must come is the caller's matter
                check_origin(reply)
                if reply.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
                    async with asyncio.timeout(self._network.timeout_s):
                        check_status(reply, await receive(reply, REPLY_BYTES))
                    message = f"the coordinator answered a download with status {reply.status_code}"
                    raise CoordinatorUnreachable(message)
                if bool(offset) != (reply.status_code == httpx.codes.PARTIAL_CONTENT):
                    message = "the coordinator did not send the part of a file that was asked for"
                    raise CoordinatorUnreachable(message)
                # unbuffered: collected into larger pieces, bytes would be lost when the connection breaks
                self._outage.answered()
                yield reply.aiter_raw()
        except _CONNECTION_ERRORS as error:
            raise self._unreachable(error) from error
        except TimeoutError as error:
            raise self._too_slow() from error

    def _timeout(self, read_s: float | None = None) -> httpx.Timeout:
        """Time-outs of each read and write, not of the whole: a slow line is no error, one that stands still is."""
        network = self._network
        return httpx.Timeout(network.timeout_s, read=read_s or network.timeout_s, connect=network.connect_timeout_s)

    async def _call(
        self,
        purpose: Purpose,
        method: str,
        path: str,
        model: type[M],
        body: BaseModel | None = None,
        *,
        lease: TaskLease | None = None,
        has_secret: bool = False,
    ) -> M:
        _, content = await self._send(purpose, method, path, body, lease=lease, has_secret=has_secret)
        return parse(content, model)

    async def _send(
        self,
        purpose: Purpose,
        method: str,
        path: str,
        body: BaseModel | None = None,
        *,
        lease: LeaseGrant | None = None,
        campaign: str | None = None,
        content: Chunk | None = None,
        headers: Mapping[str, str] | None = None,
        has_secret: bool = False,
        timeout: httpx.Timeout | None = None,
        max_bytes: int = REPLY_BYTES,
    ) -> tuple[httpx.Response, bytes]:
        """Note a request in the ledger and send it. Returns the reply and its body.

        Args:
            purpose: what it is for.
            method: of HTTP.
            path: with the query.
            body: sent as JSON.
            lease: of the task that it is about.
            campaign: the one that it is about, if *lease* does not say so.
            content: sent instead of *body*.
            headers: further ones.
            has_secret: whether the ledger must not keep the body.
            timeout: instead of the one of the settings.
            max_bytes: most bytes of the reply's body.
        """
        text = body.model_dump_json() if body is not None else None
        about = campaign or _campaign(lease)
        noted = Outbound.of(purpose, method, path, about, text, content, headers or {}, has_secret=has_secret)
        await self._note(noted)
        options: dict[str, Any] = {"headers": dict(headers or {}), "timeout": timeout or self._timeout()}
        if lease is not None:
            options["headers"] |= _lease_header(lease)
        if text is not None:
            options["content"] = text
            options["headers"]["Content-Type"] = "application/json"
        return await self._exchange(method, path, options, content, max_bytes)

    async def _note(self, outbound: Outbound) -> None:
        """Put a request into the ledger. Raises LedgerUnwritable and LedgerUnusable: then it must not leave."""
        try:
            await self._ledger.note(outbound)
        except OSError as error:
            raise LedgerUnwritable(error) from error

    async def _exchange(
        self, method: str, path: str, options: dict[str, Any], chunk: Chunk | None, max_bytes: int
    ) -> tuple[httpx.Response, bytes]:
        """Send a request that is in the ledger. Returns the reply and its body.

        Once the request is on its way, the whole reply has as long as the first byte of it, and ``timeout_s`` more. A
        reply that comes a byte at a time would otherwise never end.

        Args:
            method: of HTTP.
            path: with the query.
            options: of httpx; headers and time-out are among them.
            chunk: the body, if it is part of a file.
            max_bytes: most bytes of the reply's body.
        """
        timeout: httpx.Timeout = options["timeout"]
        reply_s = (timeout.read or 0) + self._network.timeout_s
        try:
            async with asyncio.timeout(None) as total:

                def sent() -> None:
                    total.reschedule(asyncio.get_running_loop().time() + reply_s)

                if chunk is not None:
                    options["content"] = _in_pieces(chunk.data, sent)
                    options["headers"]["Content-Length"] = str(len(chunk.data))
                else:
                    total.reschedule(asyncio.get_running_loop().time() + reply_s + self._network.connect_timeout_s)
                async with self._http.stream(method, path, **options) as reply:
                    received = await receive(reply, max_bytes)
            check_status(reply, received)
        except _CONNECTION_ERRORS as error:
            raise self._unreachable(error) from error
        except TimeoutError as error:
            raise self._too_slow() from error
        except AskedTooOften:
            self._outage.answered()
            raise
        except CoordinatorUnreachable:
            self._outage.failed()
            raise
        self._outage.answered()
        return reply, received

    def _too_slow(self) -> CoordinatorUnreachable:
        self._outage.failed()
        message = f"the coordinator at {_origin(self._http.base_url)} began a reply and did not end it in time"
        return CoordinatorUnreachable(message)

    def _unreachable(self, error: httpx.HTTPError | ssl.SSLError) -> CoordinatorUnreachable:
        self._outage.failed()
        if is_about_certificate(error):
            refresh(self._trusted, self._ca_file)  # for the next try: the coordinator may have another authority by now
        cause = cause_in_words(error, timed_out=isinstance(error, httpx.TimeoutException))
        coordinator = f"the coordinator at {_origin(self._http.base_url)}"
        if isinstance(error, httpx.ProxyError | httpx.ConnectError | httpx.ConnectTimeout) and self._proxy is not None:
            proxied = f"{coordinator} cannot be reached through the proxy {self._proxy}"
            return CoordinatorUnreachable(f"{proxied}: {cause}")
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return CoordinatorUnreachable(f"{coordinator} cannot be reached: {cause}")
        return CoordinatorUnreachable(f"the connection to {coordinator} failed: {cause}")


def _lease(body: bytes) -> TaskLease:
    """Parse the grant of a task. Raises UnreadableAssignment if only the token that ends the task can be read."""
    try:
        return TaskLease.model_validate_json(body, extra="ignore", context=FROM_COORDINATOR)
    except ValidationError as error:
        raise UnreadableAssignment(parse(body, LeaseGrant), what_is_wrong(error)) from error


async def _in_pieces(content: bytes, sent: Callable[[], None]) -> AsyncIterator[memoryview]:
    """Split a body, because httpx applies its write time-out to each piece: a slow line needs longer for a chunk.

    sent: called at the end.
    """
    view = memoryview(content)
    for offset in range(0, len(view), _PIECE_BYTES):
        yield view[offset : offset + _PIECE_BYTES]
    sent()


def _campaign(lease: LeaseGrant | None) -> str | None:
    """The campaign of a task; None if there is no task, or if its assignment cannot be read."""
    return lease.assignment.campaign_id if isinstance(lease, TaskLease) else None


def _own_adapters(campaign_id: str) -> str:
    return f"/v1/agents/me/campaigns/{campaign_id}/adapters"


def _path(lease: LeaseGrant) -> str:
    return f"/v1/leases/{lease.task_id}"


def _lease_header(lease: LeaseGrant) -> dict[str, str]:
    return {LEASE_HEADER: f"{lease.attempt}.{lease.token}"}
