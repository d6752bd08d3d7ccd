"""Chunks in any order and of any length: an upload never outgrows its size, and its bytes are those that were sent."""

from pathlib import Path

import httpx
from hypothesis import strategies as st

from shared.digest import content_digest_header
from tests.fuzz import bounds
from tests.fuzz.world import World, errors_logged
from tests.support.scripted import adapter_bytes
from tests.support.server import RunningCoordinator

DIGESTS = {"other": f"sha-256=:{'A' * 43}=:", "malformed": "sha-256=:!:", "unknown": "md5=:AAAA:", "empty": ""}
OFFSETS = st.one_of(st.integers(-2, 700), st.sampled_from([2**31, 2**63, 10**30]))
CHUNKS = st.lists(
    st.tuples(OFFSETS, st.integers(0, 700), st.sampled_from(["right", *DIGESTS]), st.booleans()), max_size=6
)


@bounds.examples(8)
def test_chunks(coordinator: RunningCoordinator, tmp_path: Path, examples: int) -> None:
    world = World(coordinator, tmp_path)
    data = adapter_bytes(tmp_path, fill=2.0)  # what the world's agent announced
    secret = world.secrets["agent"]
    headers = {"Authorization": f"Bearer {secret}", "Fedloom-Lease": world.lease_header}
    path = f"/v1/uploads/{world.ids['upload_id']}"
    staged = coordinator.services.settings.data_dir / "uploads" / world.ids["upload_id"]

    with httpx.Client(base_url=coordinator.url, headers=headers, timeout=20) as http, errors_logged() as errors:

        def holds(chunks: list[tuple[int, int, str, bool]]) -> None:
            for offset, length, digest, follows in chunks:
                received = int(http.head(path).headers["Upload-Offset"])
                start = received if follows else offset
                chunk = data[max(0, min(start, 1000)) :][:length] if digest == "right" else bytes(length)
                _send(http, path, start, chunk, digest)
                now = int(http.head(path).headers["Upload-Offset"])
                assert now == received or (now == start + len(chunk) <= len(data) and digest == "right")
                assert (staged.stat().st_size if staged.exists() else 0) <= len(data)
                assert staged.read_bytes()[:now] == data[:now] if now else True

        bounds.check(holds, examples, chunks=CHUNKS)
        assert not errors
    world.operator.http.close()


def _send(http: httpx.Client, path: str, offset: int, chunk: bytes, digest: str) -> None:
    told = content_digest_header(chunk) if digest == "right" else DIGESTS[digest]
    headers = {"Upload-Offset": str(offset), "Content-Digest": told}
    reply = http.patch(path, content=chunk, headers=headers)
    assert reply.status_code == 204 or 400 <= reply.status_code < 500, reply.text
