"""HTTP to one coordinator: authentication, retries, and its problems as errors."""

import ipaddress
import random
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from fedloom.errors import FedloomError, InsecureUrl, MalformedKey, Unreachable, refused
from shared.campaign import FROM_COORDINATOR
from shared.wire.base import PROTOCOL, PROTOCOL_HEADER
from shared.wire.problems import MEDIA_TYPE, Problem

ATTEMPTS = 4
BACKOFF_S = 0.3
LONGEST_PAUSE_S = 10.0
OUTAGE_S = 300.0
"""How long something that follows a campaign puts up with a coordinator that was there and is gone."""
_MAY_BE_A_KEY = re.compile(r"[!-~]+")
_NONE: Mapping[str, str] = MappingProxyType({})

M = TypeVar("M", bound=BaseModel)


class Transport:
    """Sends requests to one coordinator and honours the proxies that the environment names.

    Every method raises Unreachable and Refused. Raises InsecureUrl for plain http:// to another host, MalformedKey,
    and OSError where *ca_file* cannot be read.
    """

    def __init__(self, url: str, key: str | None, *, ca_file: Path | None, insecure: bool, timeout_s: float) -> None:
        self.url = url.rstrip("/")
        self._check_url(insecure)
        headers = {PROTOCOL_HEADER: PROTOCOL, "Accept": "application/json"}
        if key and (key := key.strip()):
            if not _MAY_BE_A_KEY.fullmatch(key):
                raise MalformedKey  # here, for the errors of a header quote it
            headers["Authorization"] = f"Bearer {key}"
        self._http = httpx.Client(
            headers=headers,
            timeout=timeout_s,
            verify=ssl.create_default_context(cafile=ca_file) if ca_file else True,
        )

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def _check_url(self, insecure: bool) -> None:
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise Unreachable(self.url, f"not a URL: {error}") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise Unreachable(self.url, "not a URL of the form http://HOST:PORT or https://HOST:PORT")
        if url.scheme == "http" and not insecure and not _is_loopback(url.host):
            raise InsecureUrl(self.url)

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
        timeout_s: float | None = None,
    ) -> httpx.Response:
        """Send a request and return its reply, a success or the status that is *accept_status*.

        A request that is *repeatable* (by default a GET) is sent again when the connection breaks or the service
        fails; any other only when it certainly was not handled. timeout_s: for what takes the service long.
        """
        if repeatable is None:
            repeatable = method == "GET"
        chosen = {name: value for name, value in params.items() if value is not None}
        timeout = self._http.timeout if timeout_s is None else httpx.Timeout(timeout_s)
        for attempt in range(ATTEMPTS):
            floor_s = 0.0
            failure: FedloomError
            try:
                reply = self._http.request(
                    method, self.url + path, params=chosen, json=body, headers=headers, timeout=timeout
                )
            except httpx.RequestError as error:
                failure = self._unreachable(error)
                unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                again = (repeatable or unsent) and not _is_about_certificates(error)
            else:
                if reply.is_success or reply.status_code == accept_status:
                    return reply
                failure = self._refusal(reply)
                unhandled = reply.status_code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
                again = unhandled or (repeatable and reply.is_server_error)
                floor_s = _retry_after_s(reply)
            if not again or attempt == ATTEMPTS - 1:
                raise failure
            pause(attempt, floor_s)
        raise AssertionError  # the last attempt returned or raised

    def fetch(self, model: type[M], path: str, **params: Any) -> M:
        """GET one resource."""
        return self.read(model, self.request("GET", path, params=params))

    def read(self, model: type[M], reply: httpx.Response) -> M:
        """The model in a reply; what a newer coordinator says besides, in a campaign's file too, is passed over."""
        try:
            return model.model_validate_json(reply.content, context=FROM_COORDINATOR, extra="ignore")
        except ValidationError as error:
            raise Unreachable(self.url, "answered with something else than a coordinator does; check it") from error

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str], *, read_timeout_s: float) -> Iterator[httpx.Response]:
        """GET a body piece by piece. A connection that breaks on the way is Unreachable too."""
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
            return Unreachable(self.url, "its certificate is not trusted; name its CA with --ca-file (ca_file=...)")
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Unreachable(self.url, f"cannot connect ({error}); is the coordinator running there?")
        return Unreachable(self.url, str(error) or type(error).__name__)

    def _refusal(self, reply: httpx.Response) -> FedloomError:
        if reply.headers.get("Content-Type", "").startswith(MEDIA_TYPE):
            return refused(self.read(Problem, reply))
        status = f"{reply.status_code} {reply.reason_phrase}".strip()
        return Unreachable(self.url, f"answered {status}, but not as a coordinator does; check the URL and any proxy")


def pause(attempt: int, floor_s: float = 0.0) -> None:
    """Wait before the next attempt (from 0): full jitter, so that clients that fail together do not return together."""
    longest_s = min(LONGEST_PAUSE_S, BACKOFF_S * 2**attempt)
    time.sleep(floor_s + random.uniform(0, longest_s))  # noqa: S311


def _retry_after_s(reply: httpx.Response) -> float:
    value = reply.headers.get("Retry-After", "")
    return min(float(value), LONGEST_PAUSE_S) if value.isdecimal() else 0.0


def _is_about_certificates(error: httpx.RequestError) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
