"""Owners who go at an awkward moment and come back: the campaign waits for them, and goes on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body

pytestmark = pytest.mark.fault


@pytest.mark.usefixtures("coordinator")
def test_a_client_that_left_before_adapter_0_builds_it_when_it_is_back(
    operator: Operator, enroll: Callable[[str], ScriptedAgent], tmp_path: Path
) -> None:
    ada = enroll("ada")
    campaign_id = operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))["id"]
    ada.prepare()
    operator.wait_for(campaign_id, "initializing")

    def say(part: str) -> None:
        assert ada.http.put(f"/v1/agents/me/campaigns/{campaign_id}", json={"part": part}).status_code == 204

    say("left")
    paused = operator.wait_for(campaign_id, "paused")
    assert paused["reason"] == "no agent could build adapter 0: ada: its owner has left the campaign"
    say("takes-part")
    assert operator.campaign(campaign_id, "resume").is_success
    waits = "no client is ready to build adapter 0; waiting for ada to prepare"
    operator.wait_until(lambda: operator.get(f"/v1/campaigns/{campaign_id}"), lambda read: read["reason"] == waits)
    ada.prepare()
    ada.init(adapter_bytes(tmp_path))
    assert operator.get(f"/v1/campaigns/{campaign_id}")["reason"] is None
    ada.train(adapter_bytes(tmp_path, 1.0))
    operator.wait_for(campaign_id, "completed")
    for part, never in (("takes-part", "joined"), ("paused", "paused"), ("left", "left")):
        refused = ada.http.put(f"/v1/agents/me/campaigns/{campaign_id}", json={"part": part})
        assert (refused.status_code, problem(refused).kind) == (409, "illegal-move")
        assert problem(refused).detail == f"a campaign that is completed cannot be {never}"
