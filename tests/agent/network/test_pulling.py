"""Adapters for their owner, from a coordinator that breaks off, lies or goes on for ever."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agent.errors import CoordinatorRefused, CoordinatorUnreachable, NotTakenPart, TransferCorrupted
from agent.network.api import CoordinatorApi
from agent.network.pulling import list_adapters, pull_adapter
from shared.wire.adapters import OwnAdapter
from shared.wire.problems import ProblemType
from tests.agent.network.test_transfer import DATA, REF, blob, broken_off
from tests.agent.parts import SHA, in_turn, ours, problem
from tests.cli.owner.known import known_campaign
from tests.support.ledgers import api_of
from tests.unit.stub_server import Answer, Stub, hang_up, stub_server

KNOWN = known_campaign()
"""A campaign of three rounds."""


def listed(number: int, sha256: str = REF.sha256, **changes: Any) -> dict[str, Any]:
    facts = {"stored": True, "created_at": "2026-01-31T00:00:00Z", "final": False, "best": False}
    return {"number": number, "blob": {"sha256": sha256, "n_bytes": len(DATA)}, **facts, **changes}


def page(*items: dict[str, Any], cursor: str | None = None) -> Answer:
    return ours(200, json.dumps({"items": items, "next_cursor": cursor}))


def asked(stub: Stub) -> list[OwnAdapter]:
    async def work() -> list[OwnAdapter]:
        api = api_of(stub.url, "secret")
        try:
            return await list_adapters(api, KNOWN)
        finally:
            await api.close()

    return asyncio.run(work())


def pulled(stub: Stub, path: Path, **changes: Any) -> bytes:
    async def work(api: CoordinatorApi) -> None:
        try:
            await pull_adapter(api, KNOWN, OwnAdapter.model_validate(listed(1, **changes)), path)
        finally:
            await api.close()

    asyncio.run(work(api_of(stub.url, "secret")))
    return path.read_bytes()


def test_a_listing_is_read_page_by_page() -> None:
    pages = in_turn(page(listed(0), listed(1), cursor="1.a b&c"), page(listed(3)))
    with stub_server(pages) as stub:
        assert [each.number for each in asked(stub)] == [0, 1, 3]
        paths = [path for _, path, _ in stub.seen]
    assert paths[0] == "/v1/agents/me/campaigns/c1/adapters?limit=1000"
    assert paths[1] == f"{paths[0]}&cursor=1.a%20b%26c"


@pytest.mark.parametrize(
    "answer",
    [
        page(listed(0), cursor="again"),  # the same page for ever
        page(cursor="again"),
        page(listed(4)),  # more rounds than the campaign has
        page(listed(1), listed(0)),
        page(listed(0), listed(0, SHA)),
        page(listed(0, sha256="../../identity.json")),
        page(listed(-1)),
        hang_up,
        ours(200, "{}"),
        ours(200, "x" * (2 << 20)),
    ],
)
def test_a_listing_that_cannot_be_is_refused(answer: Answer) -> None:
    with stub_server(answer) as stub, pytest.raises(CoordinatorUnreachable):
        asked(stub)


def test_who_took_no_part_is_told_so() -> None:
    with (
        stub_server(problem(404, ProblemType.NOT_FOUND)) as stub,
        pytest.raises(NotTakenPart, match="none of its rounds"),
    ):
        asked(stub)
    with (
        stub_server(problem(403, ProblemType.AGENT_REVOKED)) as stub,
        pytest.raises(CoordinatorRefused, match="revoked"),
    ):
        asked(stub)


def test_a_download_that_breaks_goes_on_where_it_was(tmp_path: Path) -> None:
    with stub_server(in_turn(broken_off(100, sends_length=True), hang_up, blob)) as stub:
        assert pulled(stub, tmp_path / "adapter") == DATA
        assert {path for _, path, _ in stub.seen} == {f"/v1/agents/me/campaigns/c1/adapters/{REF.sha256}"}


def test_a_download_without_progress_is_given_up(tmp_path: Path) -> None:
    with stub_server(hang_up) as stub:
        with pytest.raises(CoordinatorUnreachable):
            pulled(stub, tmp_path / "adapter")
        assert len(stub.seen) == 4


def test_other_bytes_than_the_listed_ones_are_refused(tmp_path: Path) -> None:
    with stub_server(ours(200, DATA[::-1])) as stub, pytest.raises(TransferCorrupted, match="after 1 download; "):
        pulled(stub, tmp_path / "adapter")
    with stub_server(ours(200, DATA * 3)) as stub:
        assert pulled(stub, tmp_path / "longer") == DATA, "no byte beyond the size that was listed"
    with stub_server(problem(404, ProblemType.NOT_FOUND)) as stub, pytest.raises(CoordinatorRefused):
        pulled(stub, tmp_path / "gone")


def test_an_adapter_that_no_disk_holds_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    with stub_server(blob) as stub:
        with pytest.raises(OSError, match="the disk is too full: the adapter has "):
            pulled(stub, tmp_path / "adapter", blob={"sha256": REF.sha256, "n_bytes": 1 << 50})
        assert stub.seen == []
