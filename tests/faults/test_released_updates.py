"""A coordinator that dies while it releases updates: the next one removes their bytes from SQLite's files."""

import signal
from pathlib import Path

import pytest

from tests.faults.mortal_world import campaign
from tests.support.driven import delta_of
from tests.support.processes import QuickCoordinator, ended
from tests.support.scripted import ScriptedAgent, adapter_bytes

pytestmark = pytest.mark.deep


@pytest.mark.parametrize(
    "point", ["close round: committed", "release blobs: before commit", "release blobs: committed"]
)
def test_bytes_of_updates_whose_release_was_interrupted_are_gone_after_the_restart(tmp_path: Path, point: str) -> None:
    crash = {"FEDLOOM_CRASH_AT": point, "FEDLOOM_CRASH_NOTES": str(tmp_path / "notes")}
    coordinator = QuickCoordinator(tmp_path / "coordinator", FEDLOOM_STORAGE__UPDATES="database", **crash)
    deltas = {name: delta_of(name, 1) for name in ("ada", "bob")}
    parts = [values.tobytes() for delta in deltas.values() for values in delta.values()]

    def files_with_any() -> set[str]:
        files = {file.name: file.read_bytes() for file in coordinator.data.glob("fedloom.db*")}
        return {name for name, data in files.items() if any(part in data for part in parts)}

    agents = [ScriptedAgent(coordinator.url, coordinator.operator.token(), name) for name in deltas]
    with ended(coordinator):
        coordinator.operator.post("/v1/campaigns", campaign("one", 2, "fedavg"))
        for agent in agents:
            agent.prepare()
        agents[0].init(adapter_bytes(tmp_path))
        for agent in agents:
            agent.train(adapter_bytes(tmp_path, **deltas[agent.name]))
        assert coordinator.process.popen.wait(60) == -signal.SIGKILL
        assert files_with_any()
        coordinator.start()
        coordinator.operator.wait_until(files_with_any, lambda found: not found)
    for agent in agents:
        agent.http.close()
