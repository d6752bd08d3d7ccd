"""A coordinator that no longer has a campaign's kind of training: it says so, and hides nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared import kinds
from shared.kinds import KindSection
from shared.metrics import Weight, losses
from tests.support.messages import evaluated
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body, prepared
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator


class Module:
    """Pluses."""

    Section = KindSection
    COMPLETIONS = ("completion",)
    LABELS = ()
    METRICS = losses("nats a plus", Weight.ROWS)


class Entry:
    def load(self) -> Any:
        return Module


def test_a_campaign_of_a_kind_that_is_gone_is_shown_and_paused_and_holds_up_no_other(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds.PLUGINS, "installed", {"plus": Entry()})
    with running_coordinator(quick_settings(data_dir, None)) as running:
        operator = Operator(running.url, running.key)
        token = operator.token()
        ada = ScriptedAgent(running.url, token, "ada")
        one = {"selection": {"minimum": 1}}
        campaign_id = operator.post("/v1/campaigns", campaign_body(name="plus", kind="plus", **one))["id"]
        ada.prepare()
        ada.init(adapter_bytes(tmp_path))
        operator.wait_for(campaign_id, "running")
        units = {each["name"]: each["unit"] for each in operator.get(f"/v1/campaigns/{campaign_id}")["metrics"]}
        assert units["held_out_loss"] == "nats a plus"
    try:
        monkeypatch.setattr(kinds.PLUGINS, "installed", {})
        kinds.find.cache_clear()
        with running_coordinator(quick_settings(data_dir, None)) as running:
            operator = Operator(running.url, running.key)
            ada.http.base_url = running.url
            paused = operator.wait_for(campaign_id, "paused")
            assert "unknown kind of training 'plus'; known are dpo, sft; install, repair or upgrade" in paused["reason"]
            assert {each["unit"] for each in paused["metrics"] if each["name"] == "held_out_loss"} == {""}
            other = operator.post("/v1/campaigns", campaign_body(name="other", **one))["id"]
            ada.prepare()
            operator.wait_for(other, "initializing")
            refused = operator.http.post("/v1/campaigns", json=campaign_body(kind="plus"))
            assert "unknown kind of training 'plus'; known are dpo, sft" in problem(refused).detail
        monkeypatch.setattr(kinds.PLUGINS, "installed", {"plus": Entry()})
        kinds.find.cache_clear()
        with running_coordinator(quick_settings(data_dir, None)) as running:
            operator = Operator(running.url, running.key)
            ada.http.base_url = running.url
            operator.post(f"/v1/campaigns/{campaign_id}/resume")
            assert ada.ask().json()["assignment"]["campaign_id"] == campaign_id
    finally:
        kinds.find.cache_clear()


def test_an_agent_gets_other_work_before_the_engine_has_paused_the_campaign(
    operator: Operator,
    enroll: Callable[..., ScriptedAgent],
    coordinator: RunningCoordinator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kinds.PLUGINS, "installed", {"plus": Entry()})
    ada = enroll("ada")
    one = {"selection": {"minimum": 1}}
    operator.post("/v1/campaigns", campaign_body(name="plus", kind="plus", **one))
    lease = ada.lease("prepare")
    ada.release(lease)
    other = operator.post("/v1/campaigns", campaign_body(name="other", **one))["id"]
    operator.wait_until(lambda: operator.items(f"/v1/campaigns/{other}/tasks"), bool)
    monkeypatch.setattr(kinds.PLUGINS, "installed", {})
    kinds.find.cache_clear()
    try:
        assert ada.ask().json()["assignment"]["spec"]["name"] == "other"
    finally:
        kinds.find.cache_clear()


def test_a_result_is_kept_while_the_kind_is_gone_but_its_counts_are_checked(
    operator: Operator, enroll: Callable[..., ScriptedAgent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds.PLUGINS, "installed", {"plus": Entry()})
    ada = enroll("ada")
    body = campaign_body(kind="plus", selection={"minimum": 1}, evaluation={"every": 1})
    operator.post("/v1/campaigns", body)
    ada.result(ada.lease("prepare"), prepared(n_held_out=5))
    ada.init(adapter_bytes(tmp_path))
    lease = ada.lease("evaluate")
    monkeypatch.setattr(kinds.PLUGINS, "installed", {})
    kinds.find.cache_clear()
    try:
        for wrong in (evaluated(1.0, n_rows=0), {"kind": "evaluate", "metrics": {"held_out_bliss": 1.0}}):
            assert ada.result(lease, wrong).status_code == 422
        assert ada.result(lease, evaluated(1.0, held_out_bliss=0.5)).status_code == 200
    finally:
        kinds.find.cache_clear()
