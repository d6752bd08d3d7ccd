"""Migrations: they make what the models say, go down and up again, and know a newer schema when they see one."""

import asyncio
import copy
import json
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select, text
from sqlalchemy.engine import Connection

from coordinator.db import Database
from coordinator.main import prepare
from coordinator.migrate import SchemaTooNew, alembic_config, migrate
from coordinator.settings import Settings
from coordinator.storage import FileBlobs
from coordinator.tables import Base, CampaignRow
from shared.adapters import AdapterFile
from shared.digest import sha256_hex
from tests.support.operator import Operator
from tests.support.scripted import FINGERPRINT, ScriptedAgent, adapter_bytes, slots_bytes
from tests.support.server import quick_settings, running_coordinator
from tests.support.tiers import deep


def with_database(data_dir: Path, database_url: str | None, work: Callable[[Database], Any]) -> Any:
    async def run() -> Any:
        database = Database(Settings(data_dir=data_dir, database_url=database_url).sqlalchemy_url)
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


async def on_connection(database: Database, work: Callable[[Connection], Any]) -> Any:
    async with database.engine.begin() as connection:
        return await connection.run_sync(work)


def test_the_migrations_make_what_the_models_say(data_dir: Path, database_url: str | None) -> None:
    def differences(connection: Connection) -> Any:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return compare_metadata(context, Base.metadata)

    assert with_database(data_dir, database_url, lambda database: on_connection(database, differences)) == []


def test_down_and_up_again(data_dir: Path, database_url: str | None) -> None:
    async def work(database: Database) -> list[list[str]]:
        found = []
        for step in ("downgrade", "upgrade"):
            target = "base" if step == "downgrade" else "head"
            await on_connection(
                database, lambda connection, s=step, t=target: getattr(command, s)(alembic_config(connection), t)
            )
            found.append(await on_connection(database, lambda connection: inspect(connection).get_table_names()))
        await migrate(database)  # changes nothing
        return found

    down, up = with_database(data_dir, database_url, work)
    assert down == ["alembic_version"]
    assert sorted(up) == sorted([*Base.metadata.tables, "alembic_version"])


def run_migrations(connection: Connection, step: str, target: str) -> None:
    getattr(command, step)(alembic_config(connection), target)


async def fill(database: Database) -> None:
    """Have the database be one of revision 0002, with rows in all states."""
    script = (Path(__file__).parent / "schema_0002.sql").read_text(encoding="utf-8")
    if not database.is_sqlite:
        script = re.sub(r"\bX'([0-9a-f]*)'", r"'\\x\1'", script)

    def insert(connection: Connection) -> None:
        if not database.is_sqlite:
            connection.exec_driver_sql("SET LOCAL TIME ZONE 'UTC'")
        for statement in re.sub(r"^--.*\n", "", script, flags=re.MULTILINE).split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)

    await on_connection(database, lambda connection: run_migrations(connection, "downgrade", "base"))
    await migrate(database, "0002")
    await on_connection(database, insert)


def put_updates(data_dir: Path, folder: Path) -> None:
    """The files of updates that belong to those rows."""
    for data in (*(adapter_bytes(folder, fill) for fill in (1.0, 3.0, 4.0)), slots_bytes(folder, 4.0, "delta_c")):
        path = FileBlobs(data_dir / "updates").path(sha256_hex(data))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


class KnownAgent(ScriptedAgent):
    """One that was enrolled long ago."""

    def __init__(self, url: str, name: str) -> None:
        self.name, self.instance_id = name, uuid4().hex
        headers = {"Authorization": f"Bearer fla_{name}"}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=30, verify=False)

    def work(self, folder: Path, fills: Mapping[str, float]) -> bool:
        """Do what there is to do; whether there was something. fills: what its updates consist of."""
        reply = self.ask(0)
        if reply.status_code == 204:
            return False
        assert reply.status_code == 201, reply.text
        lease = reply.json()
        match lease["job"]["kind"]:
            case "prepare":
                body = {"kind": "prepare", "fingerprint": FINGERPRINT, "n_train": 10, "n_held_out": 0}
                assert self.result(lease, body).status_code == 200
            case "init":
                digest = self.upload(lease, "adapter", adapter_bytes(folder))
                assert self.result(lease, {"kind": "init", "adapter": digest}).status_code == 200
            case "train":
                fill = fills.get(self.name, 1.0)
                extras = slots_bytes(folder, fill, "delta_c") if lease["job"]["algorithm"] == "scaffold" else None
                self.train(adapter_bytes(folder, fill), lease, extras)
            case "evaluate":
                body = {"kind": "evaluate", "loss": 2.0, "n_rows": 5, "n_tokens": 100}
                assert self.result(lease, body).status_code == 200
        return True


def states(operator: Operator) -> dict[str, str]:
    return {each["name"]: each["state"] for each in operator.items("/v1/campaigns")}


def contents(operator: Operator, folder: Path, campaign_id: str, number: int) -> set[float]:
    """The values of an adapter's elements."""
    adapter = operator.get(f"/v1/campaigns/{campaign_id}/adapters/{number}")
    path = folder / "adapter"
    path.write_bytes(operator.http.get(f"/v1/blobs/{adapter['blob']['sha256']}").content)
    with AdapterFile(path) as file:
        return {float(value) for name in file.tensors for value in file.read(name).reshape(-1)}


@pytest.mark.parametrize("revision", ["0001", deep("0002")])
def test_a_data_folder_of_an_earlier_version_opens_and_its_campaigns_go_on(
    data_dir: Path, database_url: str | None, tmp_path: Path, revision: str
) -> None:
    async def fill_old(database: Database) -> None:
        await fill(database)
        await on_connection(database, lambda connection: run_migrations(connection, "downgrade", revision))

    with_database(data_dir, database_url, fill_old)
    put_updates(data_dir, tmp_path)
    with running_coordinator(quick_settings(data_dir, database_url)) as running, ExitStack() as stack:
        running.clock.move(400)  # the leases that were held have run out, whatever this machine's clock says
        operator = Operator(running.url, running.key)
        assert states(operator) == {
            "undone": "paused",
            "given-up": "cancelled",
            "done": "completed",
            "stuck": "paused",
            "finishing": "finishing",
            "main": "running",
            "beginning": "initializing",
            "waiting": "preparing",
        }
        ids = {each["name"]: each["id"] for each in operator.items("/v1/campaigns")}
        main = operator.get(f"/v1/campaigns/{ids['main']}")
        said = ("state", "client_number", "joined_round", "failures_in_a_row", "set_aside_until")
        assert {part["agent_name"]: tuple(part[field] for field in said) for part in main["participants"]} == {
            "cyd": ("prepared", 0, 1, 0, None),
            "dan": ("prepared", 1, 1, 0, None),
            "eve": ("mismatched", None, None, 0, None),
            "fay": ("prepared", 2, 1, 0, None),
            "gus": ("failed", None, None, 0, None),
            "hal": ("prepared", 3, 1, 0, None),
            "ivy": ("failed", None, None, 0, None),
        }
        [*_, open_round] = operator.items(f"/v1/campaigns/{ids['main']}/rounds")
        assert (open_round["number"], open_round["state"]) == (2, "open")
        assert len(operator.items(f"/v1/campaigns/{ids['main']}/tasks", state="done", round=2)) == 1

        for name in ("stuck", "undone"):
            assert operator.campaign(ids[name], "resume").is_success
        agents = [KnownAgent(running.url, name) for name in ("ada", "bob", "cyd", "dan", "hal", "kim", "lea")]
        for agent in agents:
            stack.callback(agent.http.close)
        fills = {"cyd": 3.0, "dan": 5.0, "hal": 6.0}

        def at_work() -> dict[str, str]:
            while any(agent.work(tmp_path, fills) for agent in agents):
                pass
            return states(operator)

        operator.wait_until(at_work, lambda found: set(found.values()) == {"completed", "cancelled"})
        # rounds of main: 0.5, then 0.1 · 1 + 0.3 · 2 + 0.6 · 3, then cyd's that was there: 0.1 · 4 + 0.3 · 5 + 0.6 · 6
        assert [contents(operator, tmp_path, ids["main"], number) for number in range(3)] == [{0.5}, {3.0}, {8.5}]
        assert contents(operator, tmp_path, ids["stuck"], 1) == {2.0}
        assert contents(operator, tmp_path, ids["undone"], 2) == {2.0}
        updates = operator.get(f"/v1/campaigns/{ids['main']}/adapters/2")["contributions"]
        assert [share["update_sha256"] for share in updates] == [
            sha256_hex(adapter_bytes(tmp_path, fill)) for fill in (4.0, 5.0, 6.0)
        ]


Rows = dict[str, list[dict[str, Any]]]
_NEW_IN_0003 = """
UPDATE participants SET failures_in_a_row = 2, set_aside_until = 9 WHERE agent_name = 'hal';
UPDATE participants SET state = 'preparing' WHERE agent_name = 'gus';
UPDATE tasks SET state = 'cancelled', failure = '{"kind": "late", "message": "slow"}'
    WHERE state = 'pending' AND kind = 'train';
UPDATE tasks SET failure = '{"kind": "transfer", "message": "cut"}' WHERE state = 'failed' AND kind = 'train'
"""
"""Slow and failing clients, and one that joins the running campaign."""


async def all_rows(database: Database) -> Rows:
    """Everything, with columns of text and numbers as SQL knows them."""

    def read(connection: Connection) -> Rows:
        found: Rows = {}
        for table in sorted(set(inspect(connection).get_table_names()) - {"alembic_version"}):
            columns = inspect(connection).get_pk_constraint(table)["constrained_columns"]
            key = ", ".join(f'"{column}"' for column in columns)  # OFFSET is a word of PostgreSQL
            rows = connection.execute(text(f"SELECT * FROM {table} ORDER BY {key}")).mappings().all()
            found[table] = [dict(row) for row in rows]
        return found

    found: Rows = await on_connection(database, read)
    for row in (*found["campaigns"], *found["tasks"]):
        for column in ("spec_json", "failure"):
            if isinstance(row.get(column), str):  # PostgreSQL's driver has read it, SQLite's has not
                row[column] = json.loads(row[column])
    return found


def as_0001_says_it(rows: Rows) -> Rows:
    """What is left of the rows where all are told in words of the first revision."""
    said = copy.deepcopy(rows)
    for row in said["campaigns"]:
        row["spec_json"].pop("stragglers", None)
    for row in said["participants"]:
        if row["agent_name"] == "gus":
            row.update(state="failed", reason="the campaign started without it")
    for row in said["tasks"]:
        if row["state"] == "superseded":
            row["state"] = "cancelled"
        if row["failure"] is not None:
            row["failure"] = {"late": None, "transfer": {"kind": "crash", "message": "cut"}}.get(
                row["failure"]["kind"], row["failure"]
            )
    return said


def test_down_to_the_first_revision_and_up_again_keeps_what_that_knows(
    data_dir: Path, database_url: str | None
) -> None:
    async def work(database: Database) -> tuple[Rows, Rows, Rows]:
        await fill(database)
        await migrate(database)
        async with database.write("test") as session:
            for statement in _NEW_IN_0003.split(";"):
                await session.execute(text(statement))
            for campaign in (await session.scalars(select(CampaignRow))).all():
                campaign.spec_json = campaign.spec.model_dump(mode="json")
        before = await all_rows(database)
        await on_connection(database, lambda connection: run_migrations(connection, "downgrade", "0001"))
        down = await all_rows(database)
        await migrate(database)
        return before, down, await all_rows(database)

    before, down, after = with_database(data_dir, database_url, work)
    assert all("stragglers" in row["spec_json"] for row in before["campaigns"])
    counted = [row for row in before["tasks"] if row["counts_in"] is not None]
    assert len(counted) == 11  # in rounds that were closed or aggregated; what else is done may count yet
    assert all((row["state"], row["counts_in"]) == ("done", row["round"]) for row in counted)
    expected = as_0001_says_it(before)
    for table, rows in down.items():
        known = [{column: row[column] for column in rows[0]} for row in expected[table]] if rows else []
        assert rows == known, table
        assert [{column: row[column] for column in rows[0]} for row in after[table]] == known, table
    assert [sorted(row) for row in after["tasks"]] == [sorted(row) for row in before["tasks"]]


_CHAINS = {"main": {"start_from": "done/1"}, "waiting": {"start_from": "done/final"}, "done": {"start_from": "x/0"}}


def test_down_to_0003_ends_what_that_cannot_run_and_has_the_rest_go_on(
    data_dir: Path, database_url: str | None
) -> None:
    async def work(database: Database) -> tuple[Rows, Rows]:
        await fill(database)
        await migrate(database)
        async with database.write("test") as session:
            for campaign in (await session.scalars(select(CampaignRow))).all():
                said = campaign.spec.model_dump(mode="json") | _CHAINS.get(campaign.name, {})
                if campaign.name == "stuck":
                    said["base"]["quantization"] = "nf4"
                campaign.spec_json = said
            await session.execute(text("UPDATE adapters SET origin_campaign_id = 'c', origin_number = 1"))
            progress = '{"phase": "training", "done": 1, "reward_margin": 0.5}'
            await session.execute(text("UPDATE tasks SET progress = :said WHERE state = 'done'"), {"said": progress})
        before = await all_rows(database)
        await on_connection(database, lambda connection: run_migrations(connection, "downgrade", "0003"))
        after = await all_rows(database)
        await migrate(database)
        async with database.read() as session:
            assert all(campaign.spec for campaign in (await session.scalars(select(CampaignRow))).all())
        return before, after

    before, after = with_database(data_dir, database_url, work)
    was, found = ({row["name"]: row for row in rows["campaigns"]} for rows in (before, after))
    ended = {name for name in found if found[name]["state"] != was[name]["state"]}
    assert ended == {"waiting", "stuck"}
    assert {found[name]["state"] for name in ended} == {"cancelled"}
    assert (found["waiting"]["final_adapter"], found["stuck"]["final_adapter"]) == (None, 0)
    for name in found:
        expected = copy.deepcopy(was[name]["spec_json"])
        expected.pop("start_from", None)
        expected["base"].pop("quantization", None)
        assert found[name]["spec_json"] == expected
    ids = {found[name]["id"] for name in ended}
    live = [row for row in after["tasks"] if row["campaign_id"] in ids and row["state"] in ("pending", "leased")]
    assert live == []
    assert {row["progress"] for row in after["tasks"] if row["state"] == "done"} == {None}
    assert "origin_number" not in after["adapters"][0]


def test_a_newer_schema_is_refused_and_left_alone(data_dir: Path, database_url: str | None) -> None:
    async def work(database: Database) -> str:
        async with database.write("test") as session:
            await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(SchemaTooNew, match="schema 9999, which this version does not know; upgrade fedloom"):
            await migrate(database)
        async with database.read() as session:
            return str(await session.scalar(text("SELECT version_num FROM alembic_version")))

    assert with_database(data_dir, database_url, work) == "9999"
    with pytest.raises(SchemaTooNew):  # so a coordinator does not start
        prepare(Settings(data_dir=data_dir, database_url=database_url))
