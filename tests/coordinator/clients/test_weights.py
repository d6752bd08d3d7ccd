"""Numbers of rows are declared: who outweighs all others is told, and whose part of the weight changes is an event."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.driven import DrivenCampaign
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, campaign_body, prepared

Enroll = Callable[..., ScriptedAgent]
MOST = 2**31 - 1
LIAR = {"ada": 10, "bob": 20, "eve": MOST}


def begun(
    operator: Operator, enroll: Enroll, folder: Path, rows: Mapping[str, int], **changes: Any
) -> tuple[DrivenCampaign, list[ScriptedAgent]]:
    agents = [enroll(name) for name in rows]
    campaign = DrivenCampaign.begun(operator, folder, agents, rows, **changes)
    campaign.wait_until_open(1)
    return campaign, agents


@pytest.mark.usefixtures("either_coordinator")
def test_a_client_that_outweighs_all_others_is_named(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    campaign, agents = begun(operator, enroll, tmp_path, LIAR)
    notice = "declared 2,147,483,647 rows: 99.9% of the weight (weighting.max_examples would cap it)"
    assert {name: campaign.part(name)["reason"] for name in LIAR} == {"ada": None, "bob": None, "eve": notice}
    for _ in range(2):
        for agent in agents:
            campaign.train(agent)
    campaign.wait_until_open(3)
    [event] = campaign.events("client-outweighs")  # once, not in each round
    assert (event["agent"], event["round"], event["rows"]) == ("eve", 1, MOST)
    assert 0.999 < event["share"] < 1
    assert campaign.events("client-weight-changed") == []


@pytest.mark.usefixtures("coordinator")
@pytest.mark.parametrize(
    ("rows", "weighting"),
    [
        ({"ada": 10, "bob": 100_000}, {}),  # of two, one may
        ({"ada": 10, "bob": 20, "eve": 30}, {}),  # half is not more than half
        (LIAR, {"max_examples": 20}),
        (LIAR, {"by": "uniform"}),
    ],
)
def test_weights_that_are_as_the_campaign_wants_them_are_no_notice(
    operator: Operator, enroll: Enroll, tmp_path: Path, rows: Mapping[str, int], weighting: dict[str, Any]
) -> None:
    campaign, agents = begun(operator, enroll, tmp_path, rows, weighting=weighting)
    assert {campaign.part(name)["reason"] for name in rows} == {None}
    assert campaign.events("client-outweighs", "client-weight-changed") == []
    for agent in agents:
        campaign.train(agent)
    campaign.wait_until_open(2)
    weights = {
        name: min(n, weighting.get("max_examples", n)) if "by" not in weighting else 1 for name, n in rows.items()
    }
    shares = {name: share for name, (share, _) in campaign.shares(1).items()}
    assert shares == pytest.approx({name: weight / sum(weights.values()) for name, weight in weights.items()})


@pytest.mark.usefixtures("coordinator")
def test_a_cap_that_does_not_suffice_is_named(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    campaign, _ = begun(operator, enroll, tmp_path, LIAR, weighting={"max_examples": 90})
    assert campaign.part("eve")["reason"] == (
        "declared 2,147,483,647 rows: 75.0% of the weight (weighting.max_examples is 90)"
    )


@pytest.mark.usefixtures("either_coordinator")
def test_a_change_of_a_part_of_the_weight_is_an_event(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    """Two honest clients have equal parts; one joins with more rows than both."""
    campaign, agents = begun(operator, enroll, tmp_path, {"ada": 100, "bob": 100})
    enroll("eve").prepare(n_train=300)
    for agent in agents:
        campaign.train(agent)
    campaign.wait_until_open(2)
    changes = {each["agent"]: (each["before"], each["after"]) for each in campaign.events("client-weight-changed")}
    assert changes == {"ada": (0.5, 0.2), "bob": (0.5, 0.2), "eve": (0.0, 0.6)}
    [event] = campaign.events("client-outweighs")
    assert (event["agent"], event["share"]) == ("eve", 0.6)
    assert "60.0% of the weight" in campaign.part("eve")["reason"]


@pytest.mark.usefixtures("either_coordinator")
def test_rows_whose_steps_cannot_be_counted_are_refused(operator: Operator, enroll: Enroll) -> None:
    ada = enroll("ada")
    training = {"epochs": 100, "batch_size": 1}
    operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}, training=training))
    lease = ada.lease("prepare")
    reply = ada.result(lease, prepared(MOST))
    assert (reply.status_code, problem(reply).kind) == (422, "invalid")
    assert problem(reply).detail == (
        "n_train: with 2,147,483,647 rows, 214,748,364,700 steps with a batch size of 1 are 214,748,364,700 rows a "
        "round; at most 10,000,000 are possible"
    )
    assert ada.result(lease, prepared(10)).status_code == 200


@pytest.mark.usefixtures("either_coordinator")
def test_the_largest_settings_make_rounds_that_close(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    agents = [enroll(name) for name in ("ada", "bob")]
    largest = {
        "retention": {"server_state": MOST, "adapters": MOST, "updates": MOST},
        "stragglers": {"set_aside_after": 1, "set_aside_rounds": MOST},
    }
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, **largest)
    first, second = (agent.lease("train") for agent in agents)
    assert agents[0].failure(first, kind="crash", message="no").status_code == 200
    campaign.train(agents[1], second)
    campaign.wait_for("paused")
    campaign.move("resume")
    for agent in agents:
        campaign.train(agent)
    campaign.wait_until_open(2)
