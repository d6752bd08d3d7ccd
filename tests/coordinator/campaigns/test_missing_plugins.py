"""A coordinator that no longer has a campaign's kind of training: it says so, and hides nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared import kinds
from shared.kinds import KindSection
from shared.metrics import Weight, losses
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body, prepared

pytestmark = pytest.mark.usefixtures("coordinator")


class Module:
    """Pluses."""

    Section = KindSection
    COMPLETIONS = ("completion",)
    LABELS = ()
    METRICS = losses("nats a plus", Weight.ROWS)


class Entry:
    def load(self) -> Any:
        return Module


def test_a_campaign_of_a_kind_that_is_gone_is_shown_and_waits_in_words(
    operator: Operator,
    enroll: Callable[..., ScriptedAgent],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kinds.PLUGINS, "installed", {"plus": Entry()})
    ada = enroll("ada")
    campaign_id = operator.post("/v1/campaigns", campaign_body(kind="plus", selection={"minimum": 1}))["id"]
    lease = ada.lease("prepare")
    units = {each["name"]: each["unit"] for each in operator.get(f"/v1/campaigns/{campaign_id}")["metrics"]}
    assert units["held_out_loss"] == "nats a plus"

    monkeypatch.setattr(kinds.PLUGINS, "installed", {})
    kinds.find.cache_clear()
    try:
        assert [each["name"] for each in operator.items("/v1/campaigns")] == ["small"]
        assert operator.get(f"/v1/campaigns/{campaign_id}")["metrics"] == []
        assert ada.result(lease, prepared()).status_code == 200
        ada.init(adapter_bytes(tmp_path))
        waiting = ada.ask(10)
        assert (waiting.status_code, problem(waiting).retryable) == (503, True)
        assert (
            "unknown kind of training 'plus'; known are dpo, sft; install the distribution" in problem(waiting).detail
        )
        refused = operator.http.post("/v1/campaigns", json=campaign_body(kind="plus"))
        assert "unknown kind of training 'plus'; known are dpo, sft" in problem(refused).detail
    finally:
        monkeypatch.setattr(kinds.PLUGINS, "installed", {"plus": Entry()})
        kinds.find.cache_clear()
    try:
        assert ada.lease("train")["job"]["training_kind"] == "plus"
    finally:
        kinds.find.cache_clear()
