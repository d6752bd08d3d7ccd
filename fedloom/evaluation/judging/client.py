"""One question to a judge over HTTP, asked again where it makes sense."""

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from fedloom.errors import BadEnvironment
from fedloom.evaluation.judging.endpoint import Endpoint, key_hint
from shared.network import environment
from shared.network.connection_errors import cause_in_words, is_about_certificate
from shared.network.http_headers import foreign_encoding, seconds_to_wait
from shared.network.proxies import proxy_for
from shared.network.tls import trust
from shared.text.unsafe import one_line

T = TypeVar("T")

REPLY_BYTES = 4 << 20
_SHOWN = 200
_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_OF_ONE_REQUEST = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
"""What a server says of one text, such as one that is too long for the judge or that a filter holds back."""


@dataclass(frozen=True)
class Patience:
    """How long a judge is waited for.

    Args:
        attempts: of each request.
        pause_s: seconds before the second one; each later pause is twice as long.
        longest_pause_s: that a pause may have, also where the server names one.
        timeout_s: for a reply. A judge may write for a minute.
        at_once: requests in flight.
    """

    attempts: int = 6
    pause_s: float = 1.0
    longest_pause_s: float = 60.0
    timeout_s: float = 300.0
    at_once: int = 4


class JudgeFailed(Exception):
    """The judge cannot be asked, now or at all. The text says why, and what to do. It holds no key."""


class RequestRefused(Exception):
    """The judge refused one request, and may accept others."""


class _Retryable(Exception):
    """An attempt failed. after_s: when the server wants to be asked again. may_cost: whether it may have replied."""

    def __init__(self, reason: str, *, after_s: float = 0.0, may_cost: bool = False) -> None:
        self.after_s = after_s
        self.may_cost = may_cost
        super().__init__(reason)


class Client:
    """Sends requests to one judge. An asynchronous context manager.

    Args:
        endpoint: the judge.
        patience: how long it is waited for.
    """

    def __init__(self, endpoint: Endpoint, patience: Patience) -> None:
        """Raises BadEnvironment if the environment names a proxy or authorities that cannot be used."""
        self._endpoint, self._patience = endpoint, patience
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if endpoint.key:
            headers["Authorization"] = f"Bearer {endpoint.key}"
        try:
            self._proxy, verify = proxy_for(endpoint.url), trust(None)
        except environment.BadEnvironment as error:
            raise BadEnvironment(str(error)) from error
        self._http = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(patience.timeout_s, connect=min(30.0, patience.timeout_s)),
            verify=verify,
            proxy=self._proxy.url if self._proxy is not None else None,
            trust_env=False,  # the proxy and the authorities of the environment are those above
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def ask(self, body: dict[str, Any], usable: Callable[[str], T], wasted: Callable[[], None]) -> T:
        """Send a request until there is a reply that can be used. Returns what *usable* makes of it.

        Raises RequestRefused, and JudgeFailed if no other request would fare better.

        Args:
            body: of the request.
            usable: makes something of the reply's body; raises ValueError, with the reason, if it cannot be used.
            wasted: called for each attempt that may have cost its tokens and gave no such reply; may raise JudgeFailed.
        """
        for attempt in range(1, self._patience.attempts + 1):
            try:
                text = await self._once(body)
                try:
                    return usable(text)
                except ValueError as error:
                    raise _Retryable(str(error), may_cost=True) from error
            except _Retryable as error:
                if error.may_cost:
                    wasted()
                if error.after_s > self._patience.longest_pause_s:
                    raise self._failed(f"{error}, and asks to wait for {error.after_s:,.0f} s") from error
                if attempt == self._patience.attempts:
                    raise self._failed(f"{error}, {attempt} times") from error
                after_s = error.after_s
            longest_s = min(self._patience.longest_pause_s, self._patience.pause_s * 2 ** (attempt - 1))
            await asyncio.sleep(after_s + random.uniform(longest_s / 2, longest_s))  # noqa: S311
        raise AssertionError  # the last attempt returned or raised

    async def _once(self, body: dict[str, Any]) -> str:
        """The body of a reply with the status 200."""
        try:
            async with (
                asyncio.timeout(self._patience.timeout_s),  # also for a server that sends a byte now and then
                self._http.stream("POST", f"{self._endpoint.url}/chat/completions", json=body) as reply,
            ):
                text = await self._text(reply)
        except TimeoutError:
            raise _Retryable("no answer in time", may_cost=True) from None
        except httpx.RequestError as error:
            raise self._unreachable(error) from error
        if reply.status_code == HTTPStatus.OK:
            return text
        raise self._refusal(reply, text)

    async def _text(self, reply: httpx.Response) -> str:
        if (encoding := foreign_encoding(reply.headers.get("Content-Encoding", ""))) is not None:
            raise self._failed(f"its reply is encoded ({encoding}), which nobody asked for")
        body = bytearray()
        async for piece in reply.aiter_raw():
            body += piece
            if len(body) > REPLY_BYTES:
                raise _Retryable(f"its reply has more than {REPLY_BYTES >> 20} MiB, and is not read", may_cost=True)
        return self._endpoint.without_key(body.decode(errors="replace"))

    def _unreachable(self, error: httpx.RequestError) -> Exception:
        cause = cause_in_words(error, timed_out=isinstance(error, httpx.TimeoutException))
        unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)
        through = f" through the proxy {self._proxy}" if unsent and self._proxy is not None else ""
        cause = f"it cannot be reached{through}: {cause}" if unsent else cause
        if is_about_certificate(error):
            return self._failed(cause.replace("name its CA with --ca-file", "name its CA in SSL_CERT_FILE"))
        return _Retryable(cause, may_cost=not unsent)

    def _refusal(self, reply: httpx.Response, text: str) -> Exception:
        status = f"{reply.status_code} {reply.reason_phrase}".strip()
        if reply.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return self._failed(f"it does not accept the key ({status}): {key_hint(self._endpoint)}")
        if reply.is_redirect:
            return self._failed(f"it points to another address ({status}); give that one with --judge-url")
        said = f"{status}{_detail(text)}"
        if reply.status_code == HTTPStatus.NOT_FOUND:
            return self._failed(
                f"{said}: either it has no model of this name, or no {self._endpoint.url}/chat/completions; most "
                "servers have it below /v1"
            )
        if reply.status_code in _AGAIN or reply.is_server_error:
            after_s = seconds_to_wait(reply.headers.get("Retry-After", "")) or 0.0
            return _Retryable(said, after_s=after_s)
        return RequestRefused(self._safe(said)) if reply.status_code in _OF_ONE_REQUEST else self._failed(said)

    def _failed(self, reason: str) -> JudgeFailed:
        return JudgeFailed(f"the judge {self._endpoint}: {self._safe(reason)}")

    def _safe(self, reason: str) -> str:
        """As one line without the key: status lines and headers are the server's words too, as its body is."""
        return one_line(self._endpoint.without_key(reason))


def _detail(text: str) -> str:
    """What an error's body says, as one line."""
    try:
        found = json.loads(text)
        error = found.get("error", found.get("detail", found.get("message")))
        said = error.get("message") if isinstance(error, dict) else error
    except (ValueError, AttributeError, RecursionError):
        return ""
    return f": {one_line(said, _SHOWN)}" if isinstance(said, str) and said.strip() else ""
