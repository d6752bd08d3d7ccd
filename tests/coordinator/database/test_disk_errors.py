"""A disk that refuses writes in a way other than being full: SQLite reports an I/O error, and goes on afterwards."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import asyncio, resource, signal, sys
from pathlib import Path
from sqlalchemy import insert, text
from coordinator.database.address import sqlite_address
from coordinator.database.sessions import Database
from coordinator.database.tables import BlobChunkRow
from coordinator.errors import DatabaseAway

async def put(database, blob):
    async with database.write("test") as session:
        await session.execute(insert(BlobChunkRow).values(blob=blob, offset=0, data=bytes(1 << 20)))

async def main():
    database = Database(sqlite_address(Path(sys.argv[1])))
    await put(database, "first")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))  # as a disk that fails: EFBIG
    for number in range(3):
        try:
            await put(database, f"refused {number}")
        except DatabaseAway as error:
            print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await put(database, "last")
    async with database.read() as session:
        print(*(await session.scalars(text("SELECT blob FROM blob_chunks ORDER BY blob"))).all())
    await database.close()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of the size of files")
def test_an_error_of_the_disk_is_an_absent_database_until_it_is_over(sqlite_template: Path, tmp_path: Path) -> None:
    file = tmp_path / "fedloom.db"
    file.write_bytes(sqlite_template.read_bytes())
    done = subprocess.run([sys.executable, "-c", SCRIPT, file], capture_output=True, text=True, check=True)
    *away, kept = done.stdout.splitlines()
    assert away == [f"{file}: its disk reports an error"] * 3
    assert kept == "first last"
