"""PostgreSQL's NOTIFY: what one process says, the others that use the same database hear at once."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from coordinator.database.address import Address
from coordinator.database.postgres.connecting import connect_postgres
from coordinator.errors import DatabaseAway

_NAME = "fedloom"
MAX_BYTES = 7900
"""Most bytes of what is said at once; PostgreSQL takes fewer than 8,000."""


class Channel:
    """A connection of its own, open while ``opened`` lasts."""

    def __init__(self, address: Address, connection: Any) -> None:
        self._address = address
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, address: Address, hear: Callable[[str], None], when_lost: Callable[[], None]
    ) -> AsyncIterator["Channel"]:
        """Listen while the block runs. Raises DatabaseAway.

        Args:
            address: of the database.
            hear: called with what others say, not with our own.
            when_lost: called once the connection was lost.
        """
        connection = await connect_postgres(address)
        channel = cls(address, connection)
        try:
            own = connection.get_server_pid()

            def heard(_connection: Any, said_by: int, _channel: str, text: str) -> None:
                if said_by != own:
                    hear(text)

            connection.add_termination_listener(lambda _: when_lost())
            with channel._translated():
                await connection.add_listener(_NAME, heard)
            yield channel
        finally:
            with suppress(Exception):  # it may be broken; nothing is lost with it
                connection.terminate()

    @property
    def is_lost(self) -> bool:
        """Whether the connection is known to be lost."""
        return bool(self._connection.is_closed())

    async def say(self, text: str) -> None:
        """Have others hear *text*, of MAX_BYTES at most. Raises DatabaseAway."""
        assert len(text.encode()) <= MAX_BYTES
        with self._translated():
            await self._connection.execute("SELECT pg_notify($1, $2)", _NAME, text)

    async def check(self) -> None:
        """Raise DatabaseAway unless the connection answers: one that broke far away says nothing by itself."""
        with self._translated():
            await self._connection.execute("SELECT 1")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        from asyncpg import InterfaceError, PostgresError  # type: ignore[import-untyped]

        try:
            yield
        except (InterfaceError, PostgresError, OSError, TimeoutError) as error:
            raise DatabaseAway(f"{self._address.shown}: the connection for notifications was lost") from error
