"""A campaign that starts from another's adapter names it by its digest, in its specification and in its jobs."""

from pathlib import Path

import pytest

from shared.digest import sha256_hex
from tests.coordinator.campaigns.test_chains import ALONE, Enroll, body, create, refusal, teach
from tests.support.operator import Operator, problem
from tests.support.scripted import adapter_bytes, campaign_body

OTHER = sha256_hex(b"another adapter")


@pytest.mark.usefixtures("either_coordinator")
def test_the_coordinator_fills_in_the_digest_and_every_owner_sees_it(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada = enroll("ada")
    _, [_, second, _] = teach(operator, tmp_path, [ada])
    tuned = create(operator, "taught/1", evaluation={"every": 1})
    assert tuned["spec"]["start_sha256"] == second
    assert operator.get(f"/v1/campaigns/{tuned['id']}")["spec"]["start_sha256"] == second
    prepare = ada.lease("prepare")
    assert prepare["assignment"]["spec"]["start_sha256"] == second
    ada.release(prepare)
    ada.prepare(n_held_out=2)
    evaluate = ada.lease("evaluate")
    assert evaluate["assignment"]["adapter"]["sha256"] == second
    ada.release(evaluate)
    ada.evaluate(0.5)
    train = ada.lease("train")
    assert train["assignment"]["adapter"]["sha256"] == second
    ada.train(adapter_bytes(tmp_path, 1.0), train)
    ada.evaluate(0.4)
    operator.wait_for(tuned["id"], "completed")


def test_a_campaign_from_its_seed_has_no_digest(operator: Operator, enroll: Enroll) -> None:
    ada = enroll("ada")
    campaign = operator.post("/v1/campaigns", campaign_body(selection=ALONE))
    assert campaign["spec"]["start_sha256"] is None
    assert ada.lease("prepare")["assignment"]["spec"]["start_sha256"] is None


def test_a_right_digest_is_accepted_and_a_wrong_one_refused_in_words(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    _, [_, second, last] = teach(operator, tmp_path, [enroll("ada")])
    for wrong in (second, OTHER):
        message = f"adapter 2 of campaign taught has {last}; correct it, or leave it out"
        assert refusal(operator, "taught/final", start_sha256=wrong) == [("start_sha256", message)]
    for malformed in ("", "f" * 63, last.upper(), f"sha256:{last}", 7):
        [(field, _)] = refusal(operator, "taught/final", start_sha256=malformed)
        assert field == "start_sha256"
    assert len(operator.items("/v1/campaigns")) == 1
    assert create(operator, "taught/final", start_sha256=last)["spec"]["start_sha256"] == last


def test_a_digest_without_a_start_is_refused(operator: Operator) -> None:
    reply = operator.http.post("/v1/campaigns", json=campaign_body(start_sha256=OTHER))
    assert reply.status_code == 422
    [error] = problem(reply).errors
    assert error.message == (
        "start_sha256: it is the digest of the adapter that start_from names; give start_from, or neither"
    )


def test_a_repeated_creation_gives_the_same_campaign_though_its_digest_was_filled_in(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    _, [_, second, last] = teach(operator, tmp_path, [enroll("ada")])
    once = {"Idempotency-Key": "once"}
    tuned = operator.post("/v1/campaigns", body("taught/final"), **once)
    assert operator.post("/v1/campaigns", body("taught/final"), **once)["id"] == tuned["id"]
    assert operator.post("/v1/campaigns", tuned["spec"], **once)["id"] == tuned["id"], "as the coordinator gives it"
    for other in (body("taught/final", start_sha256=second), body("taught/final", rounds=3), body("taught/2")):
        reply = operator.http.post("/v1/campaigns", json=other, headers=once)
        assert reply.status_code == 409, reply.text
        assert "another file" in str(problem(reply).detail)
    assert last == tuned["spec"]["start_sha256"]
