"""The precision of the base on CPUs: recorded by participant, shown by the API, refused if it is not the campaign's."""

from collections.abc import Callable

import pytest

from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, campaign_body, prepared

Enroll = Callable[..., ScriptedAgent]


@pytest.mark.usefixtures("either_coordinator")
def test_what_each_agent_decided_is_recorded_and_shown(operator: Operator, enroll: Enroll) -> None:
    agents = {name: enroll(name) for name in ("ada", "bob", "cyd", "dee")}
    body = campaign_body(base={"model": "tiny", "cpu_dtype": "auto"})
    campaign_id = operator.post("/v1/campaigns", body)["id"]
    for name, decided in (("ada", "bfloat16"), ("bob", "float32"), ("cyd", None)):
        agents[name].prepare(cpu_dtype=decided)
    campaign = operator.get(f"/v1/campaigns/{campaign_id}")
    assert campaign["spec"]["base"]["cpu_dtype"] == "auto"
    found = {each["agent_name"]: each["cpu_dtype"] for each in campaign["participants"]}
    assert found == {"ada": "bfloat16", "bob": "float32", "cyd": None, "dee": None}


@pytest.mark.usefixtures("coordinator")
@pytest.mark.parametrize(("asked", "answered"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_an_agent_may_not_decide_otherwise_than_the_campaign(
    operator: Operator, enroll: Enroll, asked: str, answered: str
) -> None:
    ada = enroll("ada")
    operator.post("/v1/campaigns", campaign_body(base={"model": "tiny", "cpu_dtype": asked}))
    lease = ada.lease("prepare")
    refused = ada.result(lease, prepared(cpu_dtype=answered))
    assert (refused.status_code, problem(refused).kind) == (422, "invalid")
    [error] = problem(refused).errors
    assert (error.field, error.message) == (
        "cpu_dtype",
        f"{answered} is not {asked}, which the campaign's base.cpu_dtype asks for",
    )
    assert ada.result(lease, prepared(cpu_dtype=asked)).status_code == 200


@pytest.mark.usefixtures("coordinator")
def test_another_precision_than_the_two_is_refused(operator: Operator, enroll: Enroll) -> None:
    ada = enroll("ada")
    operator.post("/v1/campaigns", campaign_body(base={"model": "tiny", "cpu_dtype": "auto"}))
    refused = ada.result(ada.lease("prepare"), prepared(cpu_dtype="float16"))
    assert (refused.status_code, problem(refused).kind) == (422, "invalid")
