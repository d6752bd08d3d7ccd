"""Pulls the adapters of campaigns that this agent took part in, for its owner: by its own secret, without a task."""

import errno
import shutil
from pathlib import Path

from agent.errors import CoordinatorRefused, CoordinatorUnreachable, NotTakenPart, TransferCorrupted
from agent.network.api import CoordinatorApi
from agent.network.parts import PartialFile
from agent.network.retry import Backoff
from agent.record.campaigns import KnownCampaign
from shared.wire.adapters import OwnAdapter
from shared.wire.problems import ProblemType

_TRIES = 4
"""Connections without a new byte after which a pull is given up: its owner waits for it, and can repeat it."""


async def list_adapters(api: CoordinatorApi, known: KnownCampaign) -> list[OwnAdapter]:
    """The adapters of a campaign by number, stored or not, by the coordinator's word.

    Raises NotTakenPart, CoordinatorRefused, CoordinatorUnreachable and LedgerUnusable.
    """
    adapters: list[OwnAdapter] = []
    cursor: str | None = None
    while True:
        try:
            page = await api.own_adapters(known.id, cursor)
        except CoordinatorRefused as refused:
            if refused.kind == ProblemType.NOT_FOUND:
                raise NotTakenPart(known.name) from refused
            raise
        adapters += page.items
        _check_order(adapters, known)
        cursor = page.next_cursor
        if cursor is None:
            return adapters
        if not page.items:
            message = "the coordinator sent an empty page of adapters, and says that more follow"
            raise CoordinatorUnreachable(message)


def _check_order(adapters: list[OwnAdapter], known: KnownCampaign) -> None:
    """Raise CoordinatorUnreachable if a listing could go on for ever: its numbers rise, up to the last round."""
    numbers = [each.number for each in adapters]
    if numbers != sorted(set(numbers)) or (numbers and numbers[-1] > known.spec.rounds):
        message = f"the coordinator lists adapters that a campaign of {known.spec.rounds} rounds cannot have"
        raise CoordinatorUnreachable(message)


async def pull_adapter(api: CoordinatorApi, known: KnownCampaign, adapter: OwnAdapter, path: Path) -> None:
    """Write the bytes of an adapter to a file, over as many connections as it takes, and check their digest.

    Raises CoordinatorUnreachable, CoordinatorRefused, TransferCorrupted, LedgerUnusable and OSError.
    """
    blob = adapter.blob
    _begin(path, blob.n_bytes)
    part, backoff, failures = PartialFile(path), Backoff(), 0
    while (done := part.n_bytes) < blob.n_bytes:
        try:
            async with api.pull(known.id, blob.sha256, done) as pieces:
                await part.append(pieces, blob.n_bytes, api.timeout_s, lambda _: None)
        except CoordinatorUnreachable as error:
            failures = 1 if part.n_bytes > done else failures + 1
            if failures >= _TRIES:
                raise
            await backoff.pause(error)
    if (actual := await part.sha256()) != blob.sha256:
        raise TransferCorrupted(blob.sha256, actual, 1)


def _begin(path: Path, n_bytes: int) -> None:
    """Create an empty file. Raises OSError (disk full) before the first byte if the disk has no room for it."""
    free = shutil.disk_usage(path.parent).free
    if n_bytes > free:
        message = f"the disk is too full: the adapter has {n_bytes:,} bytes, and {free:,} are free"
        raise OSError(errno.ENOSPC, message)
    path.touch()
