"""Bodies of requests: how large they may be, and JSON that is read in bounded time and refused in words."""

import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope

from coordinator.database.numbers import read_number
from coordinator.errors import Invalid, TooLarge, WrongMediaType

DEFAULT_BODY_BYTES = 64 << 10
"""Largest body of a request whose endpoint says nothing else."""
MAX_VALUES = 4_000
"""Most values in a body. Reading as many and saying what is wrong with each takes some hundredths of a second, in which
nobody else is answered. Long texts are not concerned."""
E = TypeVar("E", bound=Callable[..., Any])


def takes(n_bytes: int) -> Callable[[E], E]:
    """Declare the largest body that an endpoint takes, in bytes."""

    def declare(endpoint: E) -> E:
        endpoint.body_bytes = n_bytes  # type: ignore[attr-defined]
        return endpoint

    return declare


def declared_limit(endpoint: Callable[..., Any]) -> int | None:
    """What ``takes`` declared for an endpoint; None if nothing."""
    limit: int | None = getattr(endpoint, "body_bytes", None)
    return limit


def has_body(headers: Headers) -> bool:
    """Whether a body follows the header of a request."""
    return headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in headers


class BoundedRequest(Request):
    """A request whose body is read up to a limit. parsed: what ``parse`` gave, which ``json`` gives too."""

    def __init__(self, scope: Scope, receive: Receive, limit: int) -> None:
        super().__init__(scope, receive)
        self._limit = limit
        self.parsed: Any = None

    async def stream(self) -> AsyncIterator[bytes]:  # type: ignore[override]  # an asynchronous generator, as there
        """Yield the pieces of the body. Raises TooLarge."""
        n_bytes = 0
        async for piece in super().stream():
            n_bytes += len(piece)
            if n_bytes > self._limit:
                raise TooLarge(None, self._limit)
            yield piece

    async def json(self) -> Any:
        return self.parsed

    async def is_disconnected(self) -> bool:
        """Whether the caller has gone. Call it once the body was read."""
        # Starlette asks within a cancelled scope, which takes ten times as long
        if not self._is_disconnected:
            asking = self._receive()
            assert isinstance(asking, Coroutine)
            try:
                asking.send(None)
            except StopIteration as said:
                self._is_disconnected = said.value["type"] == "http.disconnect"
            finally:
                asking.close()  # it was still waiting
        return self._is_disconnected

    def check_size(self) -> None:
        """Raise TooLarge if the announced body is too large."""
        announced = read_number(self.headers.get("Content-Length", "0"))
        if announced is None or announced > self._limit:
            raise TooLarge(announced, self._limit)

    async def parse(self, *, required: bool) -> None:
        """Read and parse the body. Raises WrongMediaType, TooLarge, and Invalid if it is missing or no JSON."""
        if has_body(self.headers) and not _is_json(self.headers.get("Content-Type", "")):
            raise WrongMediaType
        body = await self.body()
        if body:
            self.parsed = parse_json(body)
        elif required:
            raise Invalid(("body", "the request has no body; send one in JSON"))


def _is_json(media_type: str) -> bool:
    essence = media_type.partition(";")[0].strip().lower()
    return essence == "application/json" or (essence.startswith("application/") and essence.endswith("+json"))


def parse_json(body: bytes) -> Any:
    """Parse a body strictly: UTF-8, no NaN, each key once. Raises Invalid with the place; it never quotes the body."""
    if _has_too_many_values(body):
        raise Invalid(("body", f"the JSON has more than {MAX_VALUES:,} values"))
    try:
        parsed = json.loads(body.decode(), object_pairs_hook=_each_once, parse_constant=_no_constant)
        if b"\\ud" in body.lower():  # an escape that may be half a character
            json.dumps(parsed, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise Invalid((f"byte {error.start + 1}", "not UTF-8; send JSON in UTF-8")) from None
    except UnicodeEncodeError:
        raise Invalid(
            (_place_of_half(parsed), r"not JSON: an escape \ud800 to \udfff stands alone; it is half a character")
        ) from None
    except json.JSONDecodeError as error:
        raise Invalid((f"line {error.lineno}, column {error.colno}", f"not JSON: {error.msg}")) from None
    except RecursionError:
        raise Invalid(("body", "the JSON is nested too deeply")) from None
    except ValueError as error:  # a number of thousands of digits; the text names its length only
        raise Invalid(("body", "the JSON has a number with too many digits")) from error
    return parsed


def _place_of_half(parsed: Any) -> str:
    """The field with half of a character; "body" if that is in a name at the top."""
    left: list[tuple[tuple[str, ...], Any]] = [((), parsed)]
    while left:  # no recursion: the JSON may be nested as deep as the parser allows
        place, value = left.pop()
        texts = [value] if isinstance(value, str) else list(value) if isinstance(value, dict) else []
        if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
            return ".".join(place)[:60] or "body"
        if isinstance(value, dict):
            left += [((*place, key), part) for key, part in value.items()]
        elif isinstance(value, list):
            left += [((*place, str(number)), part) for number, part in enumerate(value)]
    return "body"


def _has_too_many_values(body: bytes) -> bool:
    """Whether JSON has more than MAX_VALUES values, without parsing it. Marks within texts do not count."""
    if _count_marks(body) <= MAX_VALUES:
        return False
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 4 * MAX_VALUES:  # each value is one text or none, with a key before it or none
        return True
    return _count_marks(b"".join(plain.split(b'"')[::2])) > MAX_VALUES


def _count_marks(text: bytes) -> int:
    """At least the number of values, which marks separate or begin."""
    return sum(text.count(mark) for mark in (b",", b"[", b"{"))


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Invalid((key[:60], "the JSON has this key twice in one object"))
            seen.add(key)
    return members


def _no_constant(name: str) -> NoReturn:
    raise Invalid(("body", f"the JSON has {name}, which is not a number there"))
