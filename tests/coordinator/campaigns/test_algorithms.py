"""Algorithms in campaigns: what is refused when a campaign is created and when an update arrives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared import algorithms
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, campaign_body

Enroll = Callable[..., ScriptedAgent]

pytestmark = pytest.mark.usefixtures("coordinator")

_ADAPTIVE: dict[str, list[Any]] = {"eta": [0, -1, "fast", None], "tau": [0, -1]}
_MOMENTS: dict[str, list[Any]] = {**_ADAPTIVE, "beta1": [1, -0.1], "beta2": [1, -0.1, []]}
WRONG: dict[str, dict[str, list[Any]]] = {
    "fedavg": {},
    "fedprox": {"mu": [-0.1, "much"]},
    "scaffold": {"eta_g": [0, -1]},
    "fedavgm": {"beta1": [1, -0.1]},
    "fedadagrad": _ADAPTIVE,
    "fedyogi": _MOMENTS,
    "fedadam": _MOMENTS,
}
"""Invalid values for each parameter of each bundled algorithm."""


def test_parameters_that_an_algorithm_cannot_have_are_refused_by_name(operator: Operator) -> None:
    assert set(WRONG) == algorithms.bundled()
    for name, wrong in WRONG.items():
        assert set(wrong) == set(algorithms.find(name).params.model_fields)
        cases = [(key, value) for key, values in wrong.items() for value in values] + [("magic", 1)]
        for key, value in cases:
            body = campaign_body(algorithm={"name": name, "params": {key: value}})
            reply = operator.http.post("/v1/campaigns", json=body)
            assert (reply.status_code, problem(reply).kind) == (422, "invalid"), (name, key, value)
            [error] = problem(reply).errors
            assert error.field == "algorithm"
            assert error.message.startswith(f"params.{key}: "), (name, key, value, error.message)
    assert operator.items("/v1/campaigns") == []


@pytest.mark.parametrize(("name", "is_plain"), [("fedadam", True), ("fedprox", False)])
def test_agents_are_told_whether_a_client_half_is_plain(
    operator: Operator, enroll: Enroll, name: str, is_plain: bool
) -> None:
    ada = enroll("ada")
    operator.post("/v1/campaigns", campaign_body(algorithm={"name": name}, selection={"minimum": 1}))
    assert ada.lease("prepare")["assignment"]["plain_client"] is is_plain


def test_every_algorithm_lists_its_state_and_transfers(operator: Operator) -> None:
    listed = {each["name"]: each for each in operator.items("/v1/algorithms")}
    assert set(listed) >= set(WRONG)
    slots = ("state", "broadcast", "extras", "client_state")
    assert {name: tuple(listed[name][slot] for slot in slots) for name in WRONG} == {
        "fedavg": ([], [], [], []),
        "fedprox": ([], [], [], []),
        "scaffold": (["c"], ["c"], ["delta_c"], ["c_k"]),
        "fedavgm": (["m"], [], [], []),
        "fedadagrad": (["v"], [], [], []),
        "fedyogi": (["m", "v"], [], [], []),
        "fedadam": (["m", "v"], [], [], []),
    }
    for name, wrong in WRONG.items():
        properties = listed[name]["params_schema"]["properties"]
        assert set(properties) == set(wrong)
        assert all(schema["description"] for schema in properties.values())


@pytest.mark.parametrize(
    ("algorithm", "client_state_lost", "reason"),
    [
        ("scaffold", False, "scaffold needs the extras delta_c, but the update has none"),
        ("fedadam", True, "the update reports lost client state, but fedadam has no client state"),
    ],
)
def test_an_update_that_does_not_fit_the_algorithm_is_refused(
    operator: Operator, enroll: Enroll, tmp_path: Path, algorithm: str, client_state_lost: bool, reason: str
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    begin_campaign(operator, tmp_path, [ada, bob], algorithm={"name": algorithm})
    lease = ada.lease("train")
    result = ada.train_result(
        ada.upload(lease, "delta", adapter_bytes(tmp_path, 1.0)), client_state_lost=client_state_lost
    )
    reply = ada.result(lease, result)
    assert (reply.status_code, problem(reply).kind) == (422, "bad-update")
    assert problem(reply).detail == reason
