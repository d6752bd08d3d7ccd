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

import httpx
from pydantic import BaseModel, ValidationError

from fedloom.errors import FedloomError, InsecureUrl, MalformedKey, MissingKey, Unauthenticated, Unreachable, refused
from shared.campaign.spec import FROM_COORDINATOR
from shared.tls import context_trusting
from shared.urls import is_confidential
from shared.wire.base import PROTOCOL, PROTOCOL_HEADER
from shared.wire.problems import MEDIA_TYPE, Problem

ATTEMPTS = 4
BACKOFF_S = 0.3
LONGEST_PAUSE_S = 10.0
OUTAGE_S = 300.0
"""Seconds for which a caller that follows a campaign waits for a coordinator that stopped answering."""
_KEY = re.compile(r"[!-~]+")
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
_NONE: Mapping[str, str] = MappingProxyType({})

M = TypeVar("M", bound=BaseModel)


class Transport:
    """Sends requests to one coordinator, through the proxies that the environment names.

    Every method raises Unreachable and Refused. The constructor raises InsecureUrl for plain http:// to another host,
    MalformedKey, and OSError if *ca_file* cannot be read.
    """

    def __init__(self, url: str, key: str | None, *, ca_file: Path | None, insecure: bool, timeout_s: float) -> None:
        self.url = url.rstrip("/")
        try:
            confidential, _ = is_confidential(self.url), httpx.URL(self.url)
        except (ValueError, httpx.InvalidURL) as error:
            raise Unreachable(self.url, f"not a valid URL of a coordinator: {error}") from error
        if not (confidential or insecure):
            raise InsecureUrl(self.url)
        headers = {PROTOCOL_HEADER: PROTOCOL, "Accept": "application/json"}
        if key and (key := key.strip()):
            if not _KEY.fullmatch(key):
                raise MalformedKey  # checked here because httpx would quote the key in its error
            headers["Authorization"] = f"Bearer {key}"
        self._http = httpx.Client(
            headers=headers,
            timeout=timeout_s,
            verify=context_trusting(ca_file) if ca_file else True,
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
                reply = self._http.request(method, self.url + path, params=query, json=body, headers=headers)
            except httpx.RequestError as error:
                failure = self._unreachable(error)
                unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                retry = (repeatable or unsent) and not _is_about_certificates(error)
            else:
                if reply.is_success or reply.status_code == accept_status:
                    return reply
                failure = self._refusal(reply)
                unhandled = reply.status_code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
                retry = unhandled or (repeatable and reply.is_server_error)
                floor_s = _retry_after_s(reply)
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
                    reply.read()
                    raise self._refusal(reply)
                yield reply
        except httpx.RequestError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.RequestError) -> Unreachable:
        if _is_about_certificates(error):
            return Unreachable(self.url, "its certificate is not trusted; name its CA with --ca-file (ca_file=…)")
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Unreachable(
                self.url, f"cannot connect ({_ERRNO.sub('', str(error))}); is the coordinator running there?"
            )
        return Unreachable(self.url, str(error) or type(error).__name__)

    def _refusal(self, reply: httpx.Response) -> FedloomError:
        if reply.headers.get("Content-Type", "").startswith(MEDIA_TYPE):
            error = refused(self.read(Problem, reply))
            if isinstance(error, Unauthenticated) and "Authorization" not in self._http.headers:
                return MissingKey(error.problem)
            return error
        status = f"{reply.status_code} {reply.reason_phrase}".strip()
        return Unreachable(
            self.url, f"the reply ({status}) does not come from a coordinator; check the URL and any proxy"
        )


def pause(attempt: int, floor_s: float = 0.0) -> None:
    """Wait before the next attempt. Full jitter, so that clients that fail together do not retry together.

    attempt: number of the failed attempt, from 0. floor_s: seconds to wait at least.
    """
    longest_s = min(LONGEST_PAUSE_S, BACKOFF_S * 2**attempt)
    time.sleep(floor_s + random.uniform(0, longest_s))  # noqa: S311


def _retry_after_s(reply: httpx.Response) -> float:
    value = reply.headers.get("Retry-After", "")
    return min(float(value), LONGEST_PAUSE_S) if value.isdecimal() else 0.0


def _is_about_certificates(error: httpx.RequestError) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(error)
