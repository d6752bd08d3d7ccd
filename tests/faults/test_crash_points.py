"""kill -9 at every crash point of coordinator and agent: the campaign ends with the result of an undisturbed run.

A process is started with the first point of a group; once killed there, it is restarted with the next one, and so on
through one campaign. At the end every update has counted once, nothing is left over, and the last adapter's digest
equals that of the unbroken run.
"""

import ast
import contextlib
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx
import pytest

from agent.record.record import OwnerRecord
from shared.credentials import read_secret
from shared.digest import sha256_hex
from tests.faults import test_held_kills, test_identity_kills, test_report_kills
from tests.faults.mortal_world import (
    Scenario,
    World,
    around,
    campaign,
    claims,
    early_stop,
    identities,
    large_rounds,
    large_rounds_with_state,
    mishaps,
    one_round,
    operators_calls,
    owners_words,
    rounded,
    rounds,
    slow_rounds,
    verifications,
    world,
)
from tests.support import audit
from tests.support.deaths import PatientOperator
from tests.support.forks.preloaded import Preloaded
from tests.support.processes import ROOT, Process, QuickCoordinator, ended
from tests.support.scripted import ScriptedAgent, adapter_bytes
from tests.support.server import free_port

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1200)]

# each group in the order in which a round reaches its points; NAME#N is the N-th time
LEASES = around("last seen", "acquire", "renew", "result")
ENGINE = (
    *around("free claims", "tick"),
    "aggregation: begun",
    "aggregation: part written",
    "aggregation: done",
    *(f"aggregation: {kind} stored" for kind in ("adapter", "broadcast", "server_state")),
    *around("close round"),
)
DECISIONS = ("result: committed#9", *around("tick", "result", "close round"))
CLEANING = ("upload: deleted", *around("collect", "release blobs"), "update: deleted")
CLEANING_DATABASE = around("loose chunks", "discard chunks", "collect", "release blobs")
UPLOADS = (
    *(*around("start_upload"), "chunk: written", "chunk: synced", *around("append")),
    *("update: checked", "update: renamed"),
    *(*around("chunk of a blob"), "chunk of a blob: committed#2", *around("blob")),
)
UPLOADS_DATABASE = around("start_upload", "chunk of an upload", "append", "chunk of a blob", "blob")
IN_DATABASE = around("loose chunks", "chunk of an upload", "discard chunks")
CLAIMS = around("renew claim")
CALLS = (
    *around("create_campaign", "pause_campaign", "resume_campaign", "release blobs", "roll back", "cancel_campaign"),
    *around("finish_campaign"),
)
OWNERS = around("owner", "gain")
MISHAPS = around("expire leases", "release", "failure", "release claim", "pause after failure")
DISCARDS = around("discard upload")
"""Of uploads that are stale or whose task was cancelled; scenarios have them by chance, a test below always."""
OFFERS = around("benchmarks")
"""Of benchmarks that an agent offers; no scenario has one, but a test below."""
NO_ASSIGNMENT = around("pause without assignment")
"""Of a campaign whose stored data makes no assignment; no scenario has one, but a test below."""
IDENTITIES = around("create_token", "enroll", "rotate_secret", "delete_token", "revoke_agent")
VERIFICATIONS = (
    *around("start_verification", "claim verification", "renew verification", "record verification"),
    *around("release verification", "cancel_verification", "delete verification"),
)
STARTING = (*around("migrate"), "signing key: made", *around("signing key", "first key"))
NEW_KEY = around("further key")
ROTATION = ("signing key: in the file", *around("next signing key"))
AGENT = (
    *("agent: before the ledger", "agent: in the ledger"),
    *("agent: leased", "agent: tokenizing", "agent: result there", "agent: ended"),  # prepare
    *("agent: loading model", "agent: adapter sent"),  # init
    *("agent: before booking", "agent: booked"),  # train
    *("agent: piece downloaded", "agent: download whole", "agent: downloaded", "agent: training", "agent: norm noted"),
    *(
        "agent: chunk sent",
        "agent: delta sent",
        "agent: extras sent",
        "agent: one more client state kept",
        "agent: client state kept",
    ),
    "agent: evaluating",
)

# one of each kind: in a request, an aggregation, an engine's transaction, a clean-up; agent: booked, written, then sent
FEW = ("result: committed", "aggregation: part written", "close round: committed", "update: deleted")
FEW_OF_AGENT = ("agent: booked", "agent: result there", "agent: delta sent", "agent: client state kept")
# where residuals are: written; sent and not kept; the client state kept without them; both kept; sent and not counted
RESIDUALS = (
    "agent: result there",
    "agent: extras sent",
    "agent: one more client state kept",
    "agent: one more client state kept#2",
    "agent: client state kept",
    "agent: ended",
)
COUNTING = ("result: committed", *around("close round"), "aggregation: part written", "result: before commit")

GROUPS = (
    *(LEASES, ENGINE, CLEANING, CLEANING_DATABASE, UPLOADS, UPLOADS_DATABASE),
    *(IN_DATABASE, CLAIMS, CALLS, OWNERS, MISHAPS, IDENTITIES, VERIFICATIONS, STARTING, NEW_KEY, ROTATION, AGENT),
)
POINTS = {point.partition("#")[0] for group in GROUPS for point in group}

SWEPT_AFTER_S = 20.0


@dataclass(frozen=True)
class Unbroken:
    """The digest of a scenario without deaths, and the points that it reached."""

    digest: str
    reached: set[str]


Run = Callable[..., Unbroken]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Plays each scenario once, without deaths."""

    @cache
    def run(scenario: Scenario, updates: str = "files") -> Unbroken:
        folder = tmp_path_factory.mktemp("unbroken")
        watched = folder / "reached"
        with world(folder, scenario, watched=watched, updates=updates) as whole:
            digest = scenario(whole)
            check_nothing_is_left(whole)
        return Unbroken(digest, set(watched.read_text().splitlines()))

    return run


def check_nothing_is_left(world: World) -> None:
    """Check that the last start deletes all leftovers of dead processes."""
    world.coordinator.process.stop()
    for path in (world.settings.data_dir / "scratch").iterdir():
        os.utime(path, (0, 0))  # young files may be in use
    world.coordinator.start()
    until = time.monotonic() + SWEPT_AFTER_S
    while (left := audit.leftovers(world.settings)) and time.monotonic() < until:
        time.sleep(0.05)
    world.coordinator.process.stop()
    assert left == []


def check_deaths(points: Sequence[str], scenario: Scenario, tmp_path: Path, unbroken: Run, **stored: str) -> None:
    with world(tmp_path, scenario, points, **stored) as mortal:
        assert scenario(mortal) == unbroken(scenario).digest
        assert mortal.died_at == list(points)
        check_nothing_is_left(mortal)


def test_the_coordinator_dies_at_points_of_each_kind(tmp_path: Path, unbroken: Run) -> None:
    check_deaths(FEW, rounds, tmp_path, unbroken)


@pytest.mark.parametrize(
    ("points", "scenario", "updates"),
    [
        pytest.param(COUNTING, rounded, "files", id="residuals and counting", marks=pytest.mark.deep),
        pytest.param(LEASES, slow_rounds, "files", id="leases and results", marks=pytest.mark.deep),
        pytest.param(ENGINE, rounds, "files", id="engine and aggregation", marks=pytest.mark.deep),
        pytest.param(CLEANING, rounds, "files", id="clean-up and retention", marks=pytest.mark.soak),
        pytest.param(around("close round"), one_round, "files", id="the last round", marks=pytest.mark.soak),
        pytest.param(DECISIONS, early_stop, "files", id="the end by the campaign's own rule", marks=pytest.mark.soak),
        pytest.param(UPLOADS, large_rounds, "files", id="uploads and blobs", marks=pytest.mark.deep),
        pytest.param(IN_DATABASE, rounds, "database", id="updates in the database", marks=pytest.mark.soak),
        pytest.param(CLAIMS, claims, "files", id="claims that are renewed", marks=pytest.mark.soak),
        pytest.param(CALLS, operators_calls, "files", id="the operator's calls", marks=pytest.mark.soak),
        pytest.param(OWNERS, owners_words, "files", id="owners' words", marks=pytest.mark.soak),
        pytest.param(MISHAPS, mishaps, "files", id="mishaps", marks=pytest.mark.soak),
        pytest.param(IDENTITIES, identities, "files", id="identities", marks=pytest.mark.soak),
        pytest.param(VERIFICATIONS, verifications, "files", id="verifications", marks=pytest.mark.soak),
    ],
)
def test_the_coordinator_dies_at_each_point(
    points: Sequence[str], scenario: Scenario, updates: str, tmp_path: Path, unbroken: Run
) -> None:
    check_deaths(points, scenario, tmp_path, unbroken, updates=updates)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("points", "scenario"),
    [
        pytest.param(ENGINE, rounds, id="engine and aggregation"),
        pytest.param(CLEANING_DATABASE, rounds, id="clean-up and retention"),
        pytest.param(UPLOADS_DATABASE, large_rounds, id="uploads and blobs"),
    ],
)
def test_the_coordinator_dies_at_each_point_on_postgres(
    points: Sequence[str], scenario: Scenario, tmp_path: Path, unbroken: Run, new_postgres: Callable[[], str]
) -> None:
    check_deaths(points, scenario, tmp_path, unbroken, updates="database", database_url=new_postgres())


@pytest.mark.parametrize(
    ("points", "scenario", "trainings"),
    [
        pytest.param(FEW_OF_AGENT, rounds, 4, id="few"),
        pytest.param(RESIDUALS, rounded, 4, id="residuals", marks=pytest.mark.deep),
        pytest.param(AGENT, large_rounds_with_state, 3 + 1, id="all", marks=pytest.mark.soak),
    ],
)
def test_an_agent_dies_at_each_point(
    points: Sequence[str], scenario: Scenario, trainings: int, tmp_path: Path, unbroken: Run
) -> None:
    with world(tmp_path, scenario, points, victim="ada") as mortal:
        assert scenario(mortal) == unbroken(scenario).digest
        assert mortal.died_at == list(points)
        trained = mortal.agents["ada"].process.printed().count("  training 1/2")
        assert trained <= trainings, "a finished training was repeated"
        record = OwnerRecord(mortal.agents["ada"].home)
        [known] = record.campaigns.all()
        booked = record.bookings.of_campaign(known.id)
        assert (booked.n_trainings, booked.steps) == (known.spec.rounds, 2 * known.spec.rounds), "not booked once each"
        check_nothing_is_left(mortal)


@pytest.mark.parametrize(
    "point", [*(pytest.param(point, marks=pytest.mark.deep) for point in DISCARDS), "upload: deleted"]
)
def test_an_upload_whose_discard_was_interrupted_starts_again(tmp_path: Path, point: str) -> None:
    """The upload was stale, but its task is still live."""
    data = adapter_bytes(tmp_path)
    half = len(data) // 2
    stale = {"FEDLOOM_STORAGE__STALE_UPLOAD_S": "0.3"}
    crash = {"FEDLOOM_CRASH_AT": point, "FEDLOOM_CRASH_NOTES": str(tmp_path / "notes")}
    coordinator = QuickCoordinator(tmp_path / "coordinator", **stale, **crash)
    ada = ScriptedAgent(coordinator.url, coordinator.operator.token(), "ada")
    with ended(coordinator):
        coordinator.operator.post("/v1/campaigns", campaign("one", 1, selection={"minimum": 1}))
        ada.prepare()
        lease = ada.lease("init")
        upload = ada.start_upload(lease, "adapter", data).json()
        assert ada.send_chunk(lease, upload["id"], 0, data[:half]).status_code == 204
        assert coordinator.process.popen.wait(60) == -signal.SIGKILL
        for name in stale:
            del coordinator.environment[name]
        coordinator.start()
        again = ada.start_upload(lease, "adapter", data).json()
        assert ada.send_chunk(lease, again["id"], again["offset"], data[again["offset"] :]).status_code == 204
        result = ada.result(lease, {"kind": "init", "adapter": sha256_hex(data)})
        assert result.status_code == 200, result.text
    ada.http.close()


@pytest.mark.deep
@pytest.mark.parametrize("point", OFFERS)
def test_an_offer_of_benchmarks_is_repeated_after_a_death(tmp_path: Path, point: str) -> None:
    crash = {"FEDLOOM_CRASH_AT": point, "FEDLOOM_CRASH_NOTES": str(tmp_path / "notes")}
    coordinator = QuickCoordinator(tmp_path / "coordinator", **crash)
    ada = ScriptedAgent(coordinator.url, coordinator.operator.token(), "ada")
    with ended(coordinator):
        evaluation = {"every": 0, "tasks": ["fpb"], "tasks_every": 1}
        body = campaign("one", 1, selection={"minimum": 1}, evaluation=evaluation)
        campaign_id = coordinator.operator.post("/v1/campaigns", body)["id"]
        ada.lease("prepare")
        with contextlib.suppress(httpx.TransportError):
            ada.offer(campaign_id, fpb="public")
        assert coordinator.process.popen.wait(60) == -signal.SIGKILL
        coordinator.start()
        assert ada.offer(campaign_id, fpb="public").status_code == 204
        [participant] = coordinator.operator.get(f"/v1/campaigns/{campaign_id}")["participants"]
        assert participant["benchmarks"] == ["fpb"]
    ada.http.close()


@pytest.mark.deep
@pytest.mark.parametrize("point", NO_ASSIGNMENT)
def test_a_campaign_without_jobs_is_paused_after_a_death(tmp_path: Path, point: str) -> None:
    crash = {"FEDLOOM_CRASH_AT": point, "FEDLOOM_CRASH_NOTES": str(tmp_path / "notes")}
    coordinator = QuickCoordinator(tmp_path / "coordinator", **crash)
    ada = ScriptedAgent(coordinator.url, coordinator.operator.token(), "ada")
    with ended(coordinator):
        campaign_id = coordinator.operator.post("/v1/campaigns", campaign("one", 1, selection={"minimum": 1}))["id"]
        ada.prepare()
        ada.init(adapter_bytes(tmp_path))
        coordinator.operator.wait_for(campaign_id, "running")
        with sqlite3.connect(coordinator.data / "fedloom.db") as database:
            database.execute("UPDATE rounds SET sampled = '31337'")
        with contextlib.suppress(httpx.TransportError):
            ada.ask(0)
        assert coordinator.process.popen.wait(60) == -signal.SIGKILL
        coordinator.start()
        assert ada.ask(0).status_code == 204
        reason = coordinator.operator.wait_for(campaign_id, "paused")["reason"]
        assert str(reason).startswith("no assignment can be built for its agents")
    ada.http.close()


def test_a_key_whose_process_died_before_writing_its_file_is_replaced(tmp_path: Path) -> None:
    port, notes = free_port(), tmp_path / "notes"
    folder = ["--data-dir", str(tmp_path / "data")]

    def start(*command: str, at: str = "") -> Process:
        argv = [sys.executable, "-m", "fedloom", "coordinator", *command, *folder]
        log = tmp_path / f"{command[0]} {at}.log"
        return Process(argv, log, popen=Preloaded, FEDLOOM_CRASH_AT=at, FEDLOOM_CRASH_NOTES=str(notes))

    serve = ("serve", "--port", str(port))
    for command, points in ((serve, STARTING), (("new-key",), NEW_KEY), (("rotate-signing-key",), ROTATION)):
        for point in points:
            dead = start(*command, at=point)
            assert dead.popen.wait(60) == -signal.SIGKILL, dead.printed()
            assert "flo_" not in dead.printed()
    key = start("new-key").wait_to_print(r"flo_[\w-]+")[0]
    serving = start(*serve)
    try:
        for each in (key, read_secret(tmp_path / "data" / "operator.key")):
            operator = PatientOperator(f"http://127.0.0.1:{port}", each)
            assert operator.items("/v1/agents") == []
        assert "flo_" not in serving.printed()
        reply = httpx.get(f"http://127.0.0.1:{port}/healthz")
        assert reply.status_code == 200, "with the signing key that the last rotation left"
    finally:
        serving.kill()


def test_every_crash_point_in_the_code_is_tested() -> None:
    elsewhere = test_identity_kills.POINTS | test_held_kills.POINTS | test_report_kills.POINTS
    assert named_in_the_code() <= POINTS | {*DISCARDS, *NO_ASSIGNMENT, *OFFERS} | elsewhere


@pytest.mark.soak
def test_the_tested_crash_points_are_exactly_those_reached(tmp_path: Path, unbroken: Run) -> None:
    watched = tmp_path / "reached"
    with world(tmp_path, rounds, watched=watched) as whole:
        environment = {**whole.watched, "FEDLOOM_DATA_DIR": str(whole.settings.data_dir)}
        for command in ("new-key", "rotate-signing-key"):
            argv = [sys.executable, "-m", "fedloom", "coordinator", command]
            assert Process(argv, tmp_path / f"{command}.log", popen=Preloaded, **environment).popen.wait(60) == 0
    scenarios = (rounds, large_rounds, claims, operators_calls, owners_words, mishaps, identities, verifications)
    runs = [unbroken(scenario) for scenario in scenarios]
    runs.append(unbroken(rounds, updates="database"))
    reached = set(watched.read_text().splitlines()).union(*(run.reached for run in runs))
    assert POINTS <= reached <= POINTS | {*DISCARDS}


def named_in_the_code() -> set[str]:
    """The crash points named in the source, reached or not. Those of backups and of the training child are left out
    because they have their own tests: faults/test_backup_kills.py, train/test_checkpoints.py."""
    points, transactions = set(), set()
    files = [path for package in ("coordinator", "agent", "shared") for path in (ROOT / package).rglob("*.py")]
    for path in files:
        if {"backup", "train"} & set(path.relative_to(ROOT).parts):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(attr="reach"), args=[ast.Constant(value=str(name))]):
                    points.add(name)
                case ast.Call(func=ast.Attribute(attr=method, value=of), args=[ast.Constant(value=str(name)), *_]):
                    if method in ("_locked", "_claimed") or (method == "write" and "database" in ast.unparse(of)):
                        transactions.add(name)
                case ast.AsyncFunctionDef(name=name, args=arguments):
                    if any(ast.unparse(each.annotation or node) == "WriteSession" for each in arguments.args):
                        transactions.add(name)
    assert len(points) > 15
    assert len(transactions) > 30
    return {*points, *around(*transactions)}
