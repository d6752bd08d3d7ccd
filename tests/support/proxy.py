"""A TCP proxy between agent and coordinator that injects network faults.

It listens on loopback and runs in its own thread. Its attributes and methods set the faults while it runs:

    cut, cut_replies     end the connection after each given number of bytes from clients, or from the server
    delay_s              latency of each piece, in seconds, in each direction
    bytes_per_s          bandwidth in each direction, shared by all connections
    drop_replies         pass a request on, wait for the reply, and end the connection instead of passing the reply on
    spoil_next_reply     flip a bit in the next bytes from the server
    answer_with_page     answer a request with an HTML page, like a proxy that does not reach its server
    is_away              end all open connections and each new one

Random choices follow from the seed. With *tls* it terminates TLS, and the server behind it gets plain HTTP. With
*is_http* false it passes bytes through, TLS included, and cuts in the middle of TLS records.
"""

import asyncio
import re
import ssl
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Self

_PIECE_BYTES = 1 << 14
_PIECES_IN_FLIGHT = 64
_PAGE = b"<html><body><h1>Something is in between</h1></body></html>"


@dataclass
class Request:
    """One client request. n_bytes: size of its body. came: bytes of it received so far.

    fate: its outcome: "passed", "cut", "reply dropped" or "page".
    """

    method: str
    path: str
    n_bytes: int
    came: int = 0
    fate: str = "passed"


class _Cut(Exception):
    """Ends the connection."""


class _Rule:
    """Selects the requests that a fault applies to: the first request to each matching path."""

    def __init__(self, method: str, path: str, status: int = 0) -> None:
        self.status = status
        self._method, self._path = method, re.compile(path)
        self._taken_paths: set[str] = set()

    def takes(self, request: Request) -> bool:
        if request.method != self._method or request.path in self._taken_paths or not self._path.search(request.path):
            return False
        self._taken_paths.add(request.path)
        return True


class _Cuts:
    """Cut points of one direction: one cut after each gap. gaps: in bytes."""

    def __init__(self, gaps: Iterable[int] = (), path: str = "") -> None:
        self.n_cuts = 0
        self._path = re.compile(path)
        self._left = deque(gaps)

    def allow(self, path: str, n_bytes: int) -> int | None:
        """How many of the next *n_bytes* pass before a cut. Returns None if all do."""
        if not self._left or not self._path.search(path):
            return None
        if n_bytes < self._left[0]:
            self._left[0] -= n_bytes
            return None
        self.n_cuts += 1
        return self._left.popleft()


class _Pipe:
    """One direction of a connection: pieces come out after the delay, at the line's bandwidth."""

    def __init__(self, proxy: "FaultyProxy", line: "_Line", out: asyncio.StreamWriter) -> None:
        self._proxy, self._line, self._out = proxy, line, out
        self._pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES_IN_FLIGHT)

    async def put(self, piece: bytes) -> None:
        await self._line.carry(len(piece), self._proxy.bytes_per_s)
        await self._pieces.put((asyncio.get_running_loop().time() + self._proxy.delay_s, piece))

    async def run(self) -> None:
        while True:
            due, piece = await self._pieces.get()
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            self._out.write(piece)
            await self._out.drain()
            self._pieces.task_done()

    async def empty(self) -> None:
        """Wait until all pieces have come out."""
        await self._pieces.join()


class _Line:
    """The bandwidth that all connections share in one direction."""

    def __init__(self) -> None:
        self._free_at = 0.0

    async def carry(self, n_bytes: int, bytes_per_s: float | None) -> None:
        if bytes_per_s is None:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + n_bytes / bytes_per_s
        await asyncio.sleep(self._free_at - now)


class _Connection:
    """A client's connection and its counterpart to the server."""

    def __init__(
        self,
        proxy: "FaultyProxy",
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._from_client, self._to_client = client
        self._from_server, self._to_server = server
        self._up = _Pipe(proxy, proxy.up, self._to_server)
        self._down = _Pipe(proxy, proxy.down, self._to_client)
        self._request = Request("", "", 0)
        self._drops_reply = False

    async def run(self) -> None:
        """Pass bytes until either peer or a fault ends the connection."""
        from_client = self._requests() if self._proxy.is_http else self._bytes()
        works = (from_client, self._replies(), self._up.run(), self._down.run())
        tasks = [asyncio.create_task(work) for work in works]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # not `close`, which sends a TLS close_notify
            self._to_client.transport.abort()
            self._to_server.transport.abort()

    async def _requests(self) -> None:
        while True:
            head = await self._from_client.readuntil(b"\r\n\r\n")
            method, path = head.split(b" ", 2)[:2]
            request = self._request = Request(method.decode(), path.decode(), _length(head))
            self._proxy.requests.append(request)
            page = next((rule for rule in self._proxy.pages if rule.takes(request)), None)
            self._drops_reply = any(rule.takes(request) for rule in self._proxy.drops)
            if page is None:
                await self._send(head)
            while request.came < request.n_bytes:
                piece = await self._from_client.read(min(_PIECE_BYTES, request.n_bytes - request.came))
                if not piece:
                    return
                request.came += len(piece)
                if page is None:
                    await self._send(piece)
            if page is not None:
                await self._answer_with(page)
                return

    async def _bytes(self) -> None:
        while piece := await self._from_client.read(_PIECE_BYTES):
            await self._send(piece)

    async def _send(self, piece: bytes) -> None:
        """Pass a piece to the server, or end the connection inside it."""
        allowed = self._proxy.cuts.allow(self._request.path, len(piece))
        await self._up.put(piece[:allowed])
        if allowed is not None:
            await self._up.empty()
            self._request.fate = "cut"
            raise _Cut

    async def _answer_with(self, page: _Rule) -> None:
        self._request.fate = "page"
        head = f"HTTP/1.1 {page.status} Page\r\nContent-Type: text/html\r\nContent-Length: {len(_PAGE)}\r\n"
        await self._down.put(head.encode() + b"Connection: close\r\n\r\n" + _PAGE)
        await self._down.empty()

    async def _replies(self) -> None:
        while piece := await self._from_server.read(_PIECE_BYTES):
            if self._drops_reply:
                await self._read_whole_reply(piece)
                self._request.fate = "reply dropped"
                raise _Cut
            if self._proxy.spoil_next_reply:
                self._proxy.spoil_next_reply = False
                piece = bytes([piece[0] ^ 1]) + piece[1:]
            allowed = self._proxy.reply_cuts.allow(self._request.path, len(piece))
            await self._down.put(piece[:allowed])
            if allowed is not None:
                await self._down.empty()
                self._request.fate = "cut"
                raise _Cut
        await self._down.empty()

    async def _read_whole_reply(self, reply: bytes) -> None:
        while b"\r\n\r\n" not in reply:
            reply += await self._from_server.read(_PIECE_BYTES)
        head, _, body = reply.partition(b"\r\n\r\n")
        await self._from_server.readexactly(_length(head) - len(body))


class FaultyProxy:
    """The proxy, as a context manager. Its public methods may be called from any thread."""

    def __init__(self, target_port: int, seed: int, *, is_http: bool = True, tls: ssl.SSLContext | None = None) -> None:
        self.is_http = is_http
        self.requests: list[Request] = []
        self.up, self.down = _Line(), _Line()
        self._seed = seed
        self._target_port = target_port
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.mend()

    def mend(self) -> None:
        """Remove all faults and recorded requests."""
        self.delay_s = 0.0
        self.bytes_per_s: float | None = None
        self.spoil_next_reply = False
        self.cuts, self.reply_cuts = _Cuts(), _Cuts()
        self.drops: list[_Rule] = []
        self.pages: list[_Rule] = []
        self.requests.clear()
        self._random = Random(self._seed)
        self._is_away = False

    def cut(self, gaps: Iterable[int], path: str = "") -> None:
        """Cut client data to matching paths after each gap: a number of bytes since the previous cut."""
        self.cuts = _Cuts(gaps, path)

    def cut_replies(self, gaps: Iterable[int], path: str = "") -> None:
        """The same for data from the server."""
        self.reply_cuts = _Cuts(gaps, path)

    def random_gaps(self, times: int, n_bytes: int) -> list[int]:
        """Gaps between *times* random positions within *n_bytes* bytes."""
        positions = sorted(self._random.sample(range(1, n_bytes), times))
        return [position - before for before, position in zip([0, *positions], positions, strict=False)]

    def drop_replies(self, method: str, path: str) -> None:
        """Drop the reply to the first request to each path that matches."""
        self.drops.append(_Rule(method, path))

    def answer_with_page(self, status: int, method: str, path: str) -> None:
        """Answer the first request to each path that matches with a page."""
        self.pages.append(_Rule(method, path, status))

    @property
    def is_away(self) -> bool:
        return self._is_away

    @is_away.setter
    def is_away(self, value: bool) -> None:
        self._is_away = value
        if value:
            self._loop.call_soon_threadsafe(self._end_all)

    def of_fate(self, fate: str) -> list[Request]:
        """Requests with this outcome."""
        return [request for request in self.requests if request.fate == fate]

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(20)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        self._end_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end_all(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self._is_away:
                with suppress(OSError):
                    server = await asyncio.open_connection("127.0.0.1", self._target_port)
                    await _Connection(self, (reader, writer), server).run()
        except asyncio.CancelledError:
            pass  # asyncio's server would log it
        finally:
            writer.transport.abort()
            self._tasks.discard(task)


def _length(head: bytes) -> int:
    match = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return int(match[1]) if match else 0
