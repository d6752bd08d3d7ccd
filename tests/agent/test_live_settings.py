"""agent.toml is edited under a running agent: what counts at once, and what a broken file means."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.configuration import live as live_settings
from agent.configuration.live import LiveSettings
from agent.errors import TaskFailed
from tests.agent.parts import Home
from tests.agent.test_agent import start_campaign
from tests.support.operator import Operator
from tests.support.processes import wait_until


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_settings, "_SECOND_LOOK_S", 0.05)


def test_a_table_that_is_added_under_a_running_agent_counts_when_the_campaign_is_resumed(
    new_home: Callable[[str], Home], operator: Operator
) -> None:
    home = new_home("ada")
    good = home.workspace.settings_file.read_text()
    with home.running():
        campaign_id = start_campaign(operator, data={"name": "other"})
        assert "agent.toml" in operator.wait_for(campaign_id, "paused", timeout_s=30)["reason"]
        home.workspace.settings_file.write_text(f'{good}[data.other]\npath = "notes.jsonl"\n')
        assert operator.campaign(campaign_id, "resume").is_success
        operator.wait_for(campaign_id, "completed", timeout_s=60)
    assert home.error is None


def test_a_mistyped_policy_refuses_every_task_until_it_is_corrected(
    new_home: Callable[[str], Home], operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    home = new_home("ada")
    with home.running():
        operator.wait_for(start_campaign(operator), "completed", timeout_s=60)
        home.write_settings("[policy]\nmax_step = 1\n")
        line = 1 + home.workspace.settings_file.read_text().splitlines().index("max_step = 1")
        campaigns = [start_campaign(operator, name=name) for name in ("second", "third")]
        for campaign_id in campaigns:
            reason = operator.wait_for(campaign_id, "paused", timeout_s=30)["reason"]
            assert f"agent.toml has an error in line {line}; all tasks are refused until it is corrected" in reason
            assert "max_step" not in reason
            assert str(home.folder) not in reason
        home.write_settings("[policy]\nalgorithms = []\n")
        assert operator.campaign(campaigns[0], "resume").is_success
        reason = wait_until(
            lambda: (found := operator.get(f"/v1/campaigns/{campaigns[0]}")["reason"]) and "policy.algorithms" in found,
            "the refusal by the new policy",
        )
    assert reason
    told = [record.getMessage() for record in caplog.records if "cannot be used: all tasks" in record.getMessage()]
    assert len(told) == 1
    detail = f"agent.toml, line {line}: policy.max_step: there is no such setting; did you mean 'max_steps'?"
    assert any(record.getMessage().endswith(detail) for record in caplog.records)
    assert home.error is None


def read(live: LiveSettings) -> object:
    return asyncio.run(live.current())


def test_a_file_is_read_only_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[policy]\nmax_steps = 1\n")
    live = LiveSettings.read(path)
    reads: list[Path] = []
    load = live_settings.load_settings
    monkeypatch.setattr(live_settings, "load_settings", lambda file: (reads.append(file), load(file))[1])
    assert [asyncio.run(live.current()).policy.max_steps for _ in range(3)] == [1, 1, 1]
    assert reads == []
    path.write_text("[policy]\nmax_steps = 20\n")
    assert asyncio.run(live.current()).policy.max_steps == 20
    assert reads == [path]


@pytest.mark.parametrize("content", [None, b"", b"[policy\n", b"\xff\xfe\xff", b"[policy]\nmax_steps = 0\n"])
def test_no_task_runs_under_settings_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[policy]\nmax_steps = 1\n")
    live = LiveSettings.read(path)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    if content == b"":  # an empty file is one without settings
        assert asyncio.run(live.current()).policy.max_steps is None
        return
    for _ in range(2):
        with pytest.raises(TaskFailed) as caught:
            read(live)
        assert caught.value.failure.kind == "refused-by-policy"
        assert caught.value.failure.message.startswith("agent.toml")
        assert str(tmp_path) not in caught.value.failure.message
    path.write_text("[policy]\nmax_steps = 7\n")
    assert asyncio.run(live.current()).policy.max_steps == 7


def test_a_file_that_is_being_saved_is_looked_at_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("")
    live = LiveSettings.read(path)
    path.write_text("[policy]\nmax_st")

    async def work() -> int | None:
        task = asyncio.create_task(live.current())
        await asyncio.sleep(0)
        path.write_text("[policy]\nmax_steps = 3\n")
        return (await task).policy.max_steps

    assert asyncio.run(work()) == 3


def test_changed_time_outs_are_said_to_need_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("")
    live = LiveSettings.read(path)
    path.write_text("[network]\nwait_s = 5\n")
    read(live)
    assert "[network] in agent.toml takes effect when the agent is started again" in caplog.messages
    assert live.at_start.network.wait_s == 50
