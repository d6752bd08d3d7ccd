"""A bare server of files: Starlette on uvicorn, which streams, hashes, stores and adds. It checks and records nothing.

    POST  /v1/leases/TASK/uploads   stores the body as the file ``TASK``, as the agent begins an upload
    PATCH /v1/uploads/TASK          appends the body at Upload-Offset, as the agent goes on
    GET   /v1/blobs/NAME            Starlette's FileResponse
    POST  /add                      adds the files d0, d1, … to the file ``adapter``, tensor by tensor in numpy
    GET   /cpu                      the server's CPU seconds

What it stores is synced before the reply, unless it is started with ``--unsynced``. ``serve`` runs it as a process.
"""

import asyncio
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

ROOT = Path(__file__).resolve().parents[1]
OURS = {"Fedloom-Protocol": "bare"}
"""By this header, an agent knows a coordinator."""


class Files:
    """The server's files. synced: whether what is stored is on the disk before the reply."""

    def __init__(self, folder: Path, *, synced: bool) -> None:
        self.folder = folder
        self._synced = synced

    async def begin(self, request: Request) -> Response:
        name, n_bytes = request.path_params["name"], int(request.query_params["n_bytes"])
        end = await self._store(request, name, 0)
        return JSONResponse({"id": name, "offset": end, "n_bytes": n_bytes}, 201, OURS)

    async def go_on(self, request: Request) -> Response:
        end = await self._store(request, request.path_params["name"], int(request.headers["Upload-Offset"]))
        return Response(None, 204, {"Upload-Offset": str(end), **OURS})

    async def _store(self, request: Request, name: str, offset: int) -> int:
        digest = hashlib.sha256()
        with (self.folder / name).open("r+b" if offset else "wb") as file:
            file.seek(offset)
            async for piece in request.stream():
                digest.update(piece)
                file.write(piece)
            digest.digest()
            file.flush()
            if self._synced:
                await asyncio.to_thread(os.fsync, file.fileno())
            return file.tell()

    async def send(self, request: Request) -> Response:
        return FileResponse(self.folder / request.path_params["name"], headers=OURS)

    async def add(self, request: Request) -> Response:
        deltas = [self.folder / f"d{number}" for number in range(int(request.query_params["agents"]))]
        n_tensors = int(request.query_params["tensors"])
        return PlainTextResponse(await asyncio.to_thread(add, self.folder / "adapter", deltas, n_tensors))


async def _cpu(_: Request) -> Response:
    return PlainTextResponse(str(time.process_time()))


def add(adapter: Path, deltas: list[Path], n_tensors: int) -> str:
    """Store x + Σ Δ_k / K in the adapter's place, tensor by tensor in float64. Returns its digest."""
    following = adapter.with_name("following")
    sources = [np.memmap(path, dtype=np.float32, mode="r") for path in (adapter, *deltas)]
    digest = hashlib.sha256()
    with following.open("wb") as file:
        for part in zip(*(np.array_split(source, n_tensors) for source in sources), strict=True):
            total = part[0].astype(np.float64)
            for delta in part[1:]:
                total += np.multiply(delta, 1 / len(deltas), dtype=np.float64)
            values = total.astype(np.float32)
            digest.update(values.data)
            file.write(values.data)
        file.flush()
        os.fsync(file.fileno())
    following.replace(adapter)
    return digest.hexdigest()


@contextmanager
def serve(folder: Path, port: int, *, synced: bool = True) -> Iterator[str]:
    """Serve a folder while the block runs. Yields the URL."""
    argv = [sys.executable, __file__, str(folder), str(port), *([] if synced else ["--unsynced"])]
    with subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + 60
        try:
            while not answers(url) and time.monotonic() < until:
                time.sleep(0.05)
            yield url
        finally:
            process.terminate()


def answers(url: str) -> bool:
    """Whether a server listens."""
    try:
        return httpx.get(url, trust_env=False).status_code > 0
    except httpx.HTTPError:
        return False


def main() -> None:
    files = Files(Path(sys.argv[1]), synced="--unsynced" not in sys.argv)
    routes = [
        Route("/v1/leases/{name}/uploads", files.begin, methods=["POST"]),
        Route("/v1/uploads/{name}", files.go_on, methods=["PATCH"]),
        Route("/v1/blobs/{name}", files.send),
        Route("/add", files.add, methods=["POST"]),
        Route("/cpu", _cpu),
    ]
    uvicorn.run(Starlette(routes=routes), port=int(sys.argv[2]), log_level="error", access_log=False)


if __name__ == "__main__":
    main()
