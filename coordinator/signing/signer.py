"""The signing key of a running coordinator, which is the same for all of its replicas.

The database has the public half of the key by now. A replica with another key would contradict the others, and agents
would refuse both; so it signs nothing.
"""

import asyncio
import logging

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.clock import Clock
from coordinator.database.prepared import Prepared, Transaction
from coordinator.database.sessions import add_or_find
from coordinator.database.tables import SigningKeyRow
from coordinator.errors import SigningKeyNotLost, SigningKeyUnusable
from coordinator.settings import Settings
from coordinator.signing.key_file import KeyFile, Keys
from shared import crash_points
from shared.signing.keys import SigningKey

log = logging.getLogger(__name__)

_PUBLIC_KEY = Prepared(select(SigningKeyRow.public_key).order_by(SigningKeyRow.id.desc()).limit(1))
"""The newest key's public half."""


class Signer:
    """Reads, makes and rotates the signing key."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.file = KeyFile(settings.signing_key_file)
        self._clock = clock
        self._keys: Keys | None = None

    async def open(self, session: AsyncSession) -> Keys:
        """The key, made if the coordinator has none yet. Raises SigningKeyUnusable and OSError.

        session: of a transaction that may write.
        """
        known, found = await _newest(session), await asyncio.to_thread(self.file.read)
        if known is None:
            keys: Keys = found if found is not None else await asyncio.to_thread(self.file.make)
            crash_points.reach("signing key: made")
            first = select(SigningKeyRow).where(SigningKeyRow.id == 1)
            self._check((await add_or_find(session, self._row(1, keys), first)).public_key, keys)
        elif found is not None and known.public_key in found.earlier:
            # a rotation was interrupted after the file, or the database is that of an older backup
            keys = found
            session.add(self._row(known.id + 1, keys))
        else:
            keys = self._check(known.public_key, found)
        if self.file.is_open_to_others():
            log.warning("other users of this machine can read the signing key %s; make it private", self.file.path)
        self._keys = keys
        return keys

    async def keys(self, within: AsyncSession | Transaction) -> Keys:
        """The key by now, read again if another process rotated it. Raises SigningKeyUnusable."""
        known = await _PUBLIC_KEY.first(within)
        if known is None:
            raise SigningKeyUnusable(self.file.path, "it was never opened")
        if self._keys is None or (self._keys.public,) != known:
            self._keys = self._check(known[0], await asyncio.to_thread(self.file.read))
        return self._keys

    async def rotate(self, session: AsyncSession, *, is_lost: bool) -> Keys:
        """Make the next key, signed by the one before, or with *is_lost* by none.

        Raises SigningKeyUnusable if the key before is not here, SigningKeyNotLost if it is in spite of *is_lost*, and
        OSError.
        """
        known, keys = await _newest(session), await asyncio.to_thread(self.file.read)
        is_here = keys is not None and known is not None and known.public_key in (keys.public, *keys.earlier)
        if is_lost and is_here:
            raise SigningKeyNotLost(self.file.path)
        if keys is not None and is_here:
            new = keys.succeeded_by(SigningKey.generate())
        elif is_lost or known is None:
            new = Keys(SigningKey.generate())
        else:
            new = self._check(known.public_key, keys)
        # the file first: a key that is known, but in no file, would be lost
        await asyncio.to_thread(self.file.store, new)
        crash_points.reach("signing key: in the file")
        session.add(self._row(known.id + 1 if known is not None else 1, new))
        self._keys = new
        return new

    def _row(self, number: int, keys: Keys) -> SigningKeyRow:
        return SigningKeyRow(id=number, public_key=keys.public, created_at=self._clock.now())

    def _check(self, known: str, keys: Keys | None) -> Keys:
        """Return the keys if they are those of the database. Raises SigningKeyUnusable."""
        if keys is None:
            raise SigningKeyUnusable(self.file.path, "it is missing")
        if keys.public != known:
            reason = f"its public half is {keys.public[:12]}…, and this coordinator signs by {known[:12]}…"
            raise SigningKeyUnusable(self.file.path, reason)
        return keys


async def _newest(session: AsyncSession) -> SigningKeyRow | None:
    row: SigningKeyRow | None = await session.scalar(select(SigningKeyRow).order_by(SigningKeyRow.id.desc()).limit(1))
    return row
