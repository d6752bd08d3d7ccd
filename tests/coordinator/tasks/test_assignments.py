"""Assignments: they carry every parameter of a campaign file, and data that makes none pauses its campaign."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import select, update

from coordinator.database.tables import RoundRow
from shared import kinds
from shared.campaign.digest import spec_sha256
from shared.campaign.sections import FROM_COORDINATOR
from shared.kinds import KindSection
from shared.metrics import Weight, losses
from shared.wire.tasks.assignments import PrepareAssignment
from shared.wire.tasks.leases import TaskLease
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator

TEXT = "First line.\n\tSecond line.\n"
ONE = {"selection": {"minimum": 1}}


class _Section(KindSection):
    text: str = ""


class _Kind:
    """A kind of training with a text of several lines."""

    Section = _Section
    COMPLETIONS = ("completion",)
    LABELS = ()
    METRICS = losses("nats a line", Weight.ROWS)


class _Entry:
    def load(self) -> Any:
        return _Kind


def test_an_assignment_carries_texts_of_several_lines_in_parameters_and_nowhere_else() -> None:
    params = {"text": TEXT, "deep": [{"text": TEXT}]}
    spec = campaign_body(kind="lines", lines=params, algorithm={"name": "outside", "params": params})

    def read(**changes: Any) -> PrepareAssignment:
        facts = {"created_on": "2026-01-31", "plain_client": True, "mixes_ranks": False, "n_participants": 1}
        raw = {"campaign_id": "c1", "spec_sha256": "a" * 64, "spec": spec, "participants": ["ada"], **facts, **changes}
        return PrepareAssignment.model_validate_json(json.dumps(raw), context=FROM_COORDINATOR)

    again = PrepareAssignment.model_validate_json(read().model_dump_json(), context=FROM_COORDINATOR).spec
    assert (again.kind_params, again.algorithm.params) == (params, params)
    escape = {"text": "a\x1b[2J"}
    wrong = [spec | {"lines": escape}, spec | {"name": "a\nb"}, spec | {"base": {"model": "a\nb"}}]
    for changes in (*({"spec": each} for each in wrong), {"campaign_id": "a\nb"}, {"participants": ["a\nb"]}):
        with pytest.raises(ValidationError):
            read(**changes)


def test_a_campaign_with_a_text_of_several_lines_gets_from_its_first_task_to_its_end(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds.PLUGINS, "installed", {"lines": _Entry()})
    seen: list[str] = []
    try:
        with running_coordinator(quick_settings(data_dir, None)) as running:
            operator = Operator(running.url, running.key)
            ada = ScriptedAgent(running.url, operator.token(), "ada")
            body = campaign_body(kind="lines", lines={"text": TEXT}, evaluation={"every": 1}, **ONE)
            campaign_id = operator.post("/v1/campaigns", body)["id"]
            asked = ada.lease

            def lease(kind: str, wait_s: float = 10) -> dict[str, Any]:
                granted = asked(kind, wait_s)
                raw = json.dumps(granted)
                lease = TaskLease.model_validate_json(raw, extra="ignore", context=FROM_COORDINATOR)  # as an agent does
                if isinstance(lease.assignment, PrepareAssignment):
                    assert lease.assignment.spec.kind_params["text"] == TEXT
                    digest = spec_sha256(lease.assignment.spec, lease.assignment.created_on)
                    assert digest == lease.assignment.spec_sha256
                seen.append(lease.assignment.kind)
                return granted

            monkeypatch.setattr(ada, "lease", lease)
            ada.prepare(n_held_out=3)
            ada.init(adapter_bytes(tmp_path))
            ada.evaluate(2.0)
            ada.train(adapter_bytes(tmp_path, 1.0))
            ada.evaluate(1.0)
            operator.wait_for(campaign_id, "completed")
    finally:
        kinds.find.cache_clear()
    assert seen == ["prepare", "init", "evaluate", "train", "evaluate"]


def test_a_campaign_for_which_no_assignment_can_be_built_is_paused_and_holds_up_no_other(
    either_coordinator: RunningCoordinator,
    operator: Operator,
    enroll: Callable[..., ScriptedAgent],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ada = enroll("ada")
    broken = operator.post("/v1/campaigns", campaign_body(name="broken", **ONE))["id"]
    ada.prepare()
    ada.init(adapter_bytes(tmp_path))
    operator.wait_for(broken, "running")

    async def set_sampled(value: Any) -> Any:
        """Change the clients of the round past every check. Returns those before."""
        query = select(RoundRow.sampled).where(RoundRow.campaign_id == broken)
        [(before,)] = await either_coordinator.services.database.fetch(query)
        async with either_coordinator.services.database.write("test") as session:
            await session.execute(update(RoundRow).where(RoundRow.campaign_id == broken).values(sampled=value))
        return before

    before = either_coordinator.run(set_sampled(31337))
    assert ada.ask(0).status_code == 204
    paused = operator.wait_for(broken, "paused")
    reason = str(paused["reason"])
    assert reason.startswith("no assignment can be built for its agents: TypeError at assignments.py:")
    assert "31337" not in caplog.text
    [line] = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
    assert line == f"campaign {broken} is paused: {reason}"
    other = operator.post("/v1/campaigns", campaign_body(name="other", **ONE))["id"]
    ada.prepare()
    operator.wait_for(other, "initializing")
    operator.campaign(other, "cancel")
    either_coordinator.run(set_sampled(before))
    operator.campaign(broken, "resume")
    ada.train(adapter_bytes(tmp_path, 1.0))
    assert operator.wait_for(broken, "completed")["rounds_closed"] == 1
