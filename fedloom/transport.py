"""HTTP to one coordinator: authentication, retries, and problem replies as errors."""

import random
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from fedloom.errors import (
    BadEnvironment,
    BadUrl,
    FedloomError,
    InsecureUrl,
    MalformedKey,
    MissingKey,
    Unauthenticated,
    Unreachable,
)
from fedloom.refusals import refused
from shared.campaign.sections import FROM_COORDINATOR
from shared.network import environment
from shared.network.connection_errors import cause_in_words, is_about_certificate
from shared.network.http_headers import foreign_encoding, seconds_to_wait
from shared.network.proxies import proxy_for
from shared.network.tls import trust
from shared.network.urls import is_confidential
from shared.text.unsafe import one_line
from shared.wire.base import PROTOCOL, PROTOCOL_HEADER
from shared.wire.problems import MEDIA_TYPE, Problem, ProblemType

ATTEMPTS = 4
BACKOFF_S = 0.3
LONGEST_PAUSE_S = 10.0
REPLY_BYTES = 64 << 20
"""The longest reply that is read as a whole."""
OUTAGE_S = 300.0
"""Seconds for which a caller that follows a campaign waits for a coordinator that stopped answering."""
_KEY = re.compile(r"[!-~]+")
_NONE: Mapping[str, str] = MappingProxyType({})

M = TypeVar("M", bound=BaseModel)


class Transport:
    """Sends requests to one coordinator, through the proxies that the environment names.

    Every method raises Unreachable and Refused. The constructor raises InsecureUrl for plain http:// to another host,
    BadUrl, MalformedKey, BadEnvironment, and OSError if *ca_file* cannot be read.
    """

    def __init__(self, url: str, key: str | None, *, ca_file: Path | None, insecure: bool, timeout_s: float) -> None:
        self.url = url.strip().rstrip("/")
        try:
            confidential, _ = is_confidential(self.url), httpx.URL(self.url)
        except (ValueError, httpx.InvalidURL) as error:
            raise BadUrl(self.url, str(error)) from error
        if not (confidential or insecure):
            raise InsecureUrl(self.url)
        # no encoding: a few kilobytes could unpack to gigabytes
        headers = {PROTOCOL_HEADER: PROTOCOL, "Accept": "application/json", "Accept-Encoding": "identity"}
        if key and (key := key.strip()):
            if not _KEY.fullmatch(key):
                raise MalformedKey  # checked here because httpx would quote the key in its error
            headers["Authorization"] = f"Bearer {key}"
        try:
            self._proxy, verify = proxy_for(self.url), trust(ca_file)
        except environment.BadEnvironment as error:
            raise BadEnvironment(str(error)) from error
        self._http = httpx.Client(
            headers=headers,
            timeout=timeout_s,
            verify=verify,
            proxy=self._proxy.url if self._proxy is not None else None,
            trust_env=False,  # the proxy and the authorities of the environment are those above
        )

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] = _NONE,
        body: Any = None,
        headers: Mapping[str, str] = _NONE,
        repeatable: bool | None = None,
        accept_status: int | None = None,
    ) -> httpx.Response:
        """Send a request and return its reply.

        Args:
            params: Query parameters; those that are None are left out.
            body: Sent as JSON.
            repeatable: Send the request again when the connection breaks or the service fails. By default true for a
                GET. Other requests are sent again only if the service certainly did not handle them.
            accept_status: A status that is returned like a success.
        """
        if repeatable is None:
            repeatable = method == "GET"
        query = {name: value for name, value in params.items() if value is not None}
        for attempt in range(ATTEMPTS):
            floor_s = 0.0
            failure: FedloomError
            try:
                reply = self._receive(method, path, params=query, json=body, headers=headers)
            except httpx.RequestError as error:
                failure = self._unreachable(error)
                unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                retry = (repeatable or unsent) and not is_about_certificate(error)
            else:
                if reply.is_success or reply.status_code == accept_status:
                    return reply
                failure = self._refusal(reply)
                unhandled = reply.status_code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
                retry = unhandled or (repeatable and reply.is_server_error)
                floor_s = min(seconds_to_wait(reply.headers.get("Retry-After", "")) or 0.0, LONGEST_PAUSE_S)
            if not retry or attempt == ATTEMPTS - 1:
                raise failure
            pause(attempt, floor_s)
        raise AssertionError  # the last attempt returned or raised

    def fetch(self, model: type[M], path: str, **params: Any) -> M:
        """GET one resource."""
        return self.read(model, self.request("GET", path, params=params))

    def read(self, model: type[M], reply: httpx.Response) -> M:
        """Parse a reply. Fields that a newer coordinator added are ignored, also in a campaign file."""
        try:
            return model.model_validate_json(reply.content, context=FROM_COORDINATOR, extra="ignore")
        except ValidationError as error:
            raise Unreachable(
                self.url, "the reply does not come from a coordinator; check the URL and any proxy"
            ) from error

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str], *, read_timeout_s: float) -> Iterator[httpx.Response]:
        """GET a body piece by piece. Raises Unreachable also if the connection breaks within the body."""
        timeout = httpx.Timeout(self._http.timeout.connect, read=read_timeout_s)
        try:
            with self._http.stream("GET", self.url + path, headers=headers, timeout=timeout) as reply:
                if not reply.is_success:
                    raise self._refusal(self._whole(reply))
                self._check_encoding(reply)
                yield reply
        except httpx.RequestError as error:
            raise self._unreachable(error) from error

    def _receive(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request once and return its whole reply."""
        with self._http.stream(method, self.url + path, **options) as reply:
            return self._whole(reply)

    def _whole(self, reply: httpx.Response) -> httpx.Response:
        """Read an open reply to its end. Raises Unreachable if it is encoded or too long."""
        self._check_encoding(reply)
        body = bytearray()
        for piece in reply.iter_raw():
            body += piece
            if len(body) > REPLY_BYTES:
                raise Unreachable(self.url, f"the reply has more than {REPLY_BYTES:,} bytes, and is not read")
        return httpx.Response(reply.status_code, headers=reply.headers, content=bytes(body), request=reply.request)

    def _check_encoding(self, reply: httpx.Response) -> None:
        if (encoding := foreign_encoding(reply.headers.get("Content-Encoding", ""))) is not None:
            reason = f"the reply is encoded ({encoding}), which nobody asked for"
            raise Unreachable(self.url, f"{reason}; turn compression off at any proxy on the way")

    def _unreachable(self, error: httpx.RequestError) -> Unreachable:
        cause = cause_in_words(error, timed_out=isinstance(error, httpx.TimeoutException))
        if isinstance(error, httpx.ProxyError | httpx.ConnectError | httpx.ConnectTimeout) and self._proxy is not None:
            return Unreachable(self.url, f"cannot connect through the proxy {self._proxy}: {cause}")
        if is_about_certificate(error):
            return Unreachable(self.url, cause)
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Unreachable(self.url, f"cannot connect ({cause}); is the coordinator running there?")
        return Unreachable(self.url, cause)

    def _refusal(self, reply: httpx.Response) -> FedloomError:
        if reply.headers.get("Content-Type", "").startswith(MEDIA_TYPE):
            problem = self.read(Problem, reply)
            if problem.status == HTTPStatus.NOT_FOUND and problem.kind != ProblemType.NOT_FOUND:
                raise Unreachable(self.url, "no API of a coordinator is at this address; is its path right?")
            error = refused(problem)
            if isinstance(error, Unauthenticated) and "Authorization" not in self._http.headers:
                return MissingKey(error.problem)
            return error
        status = f"{reply.status_code} {reply.reason_phrase}".strip()
        return Unreachable(
            self.url, f"the reply ({status}) does not come from a coordinator; check the URL and any proxy"
        )


def path_part(kind: str, name: str) -> str:
    """A name as a part of a path. Raises NotFound for one that nothing has, and that would make it another path."""
    if "/" in name or name in ("", ".", ".."):
        detail = f"there is no {kind} {one_line(name, 200) or 'without a name'}"
        raise refused(Problem(type=ProblemType.NOT_FOUND.uri, title="Not found", status=404, detail=detail))
    return quote(name, safe="")


def path_of(kind: str, name: str) -> str:
    """The path of a campaign, an agent or a token. Raises NotFound, as ``path_part`` does."""
    return f"/v1/{kind}s/{path_part(kind, name)}"


def pause(attempt: int, floor_s: float = 0.0) -> None:
    """Wait before the next attempt. Full jitter, so that clients that fail together do not retry together.

    attempt: number of the failed attempt, from 0. floor_s: seconds to wait at least.
    """
    longest_s = min(LONGEST_PAUSE_S, BACKOFF_S * 2**attempt)
    time.sleep(floor_s + random.uniform(0, longest_s))  # noqa: S311
