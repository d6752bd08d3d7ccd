"""A secret that another agent has: refused in the same words everywhere, which do not confirm whose it is."""

import threading
from collections.abc import Callable

import httpx
import pytest

from shared.credentials import hash_secret
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent

Enroll = Callable[..., ScriptedAgent]
REFUSED = "the secret was refused; make a new one and send its hash"

pytestmark = pytest.mark.usefixtures("either_coordinator")


def enroll_raw(operator: Operator, name: str, secret_hash: str) -> httpx.Response:
    body = {"token": operator.token(), "name": name, "version": "test", "secret_hash": secret_hash}
    return operator.http.post("/v1/enrollments", json=body)


def is_refused(reply: httpx.Response) -> bool:
    told = problem(reply)
    return (reply.status_code, told.kind, told.detail) == (409, "conflict", REFUSED)


def test_neither_a_change_of_secret_nor_an_enrolment_may_take_anothers(operator: Operator, enroll: Enroll) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    taken = hash_secret(ada.identity["secret"])
    assert is_refused(bob.http.post("/v1/agents/me/secret", json={"secret_hash": taken}))
    assert is_refused(enroll_raw(operator, "cyd", taken))
    assert bob.ask(0).status_code == 204, "bob's own secret is still valid"
    operator.post("/v1/agents/ada/revoke")
    assert is_refused(bob.http.post("/v1/agents/me/secret", json={"secret_hash": taken}))
    assert is_refused(enroll_raw(operator, "ada", taken))


def test_a_refused_secret_does_not_use_up_the_token(operator: Operator, enroll: Enroll) -> None:
    ada = enroll("ada")
    body = {"token": operator.token(), "name": "bob", "version": "test"}
    known = {"secret_hash": hash_secret(ada.identity["secret"])}
    assert is_refused(operator.http.post("/v1/enrollments", json={**body, **known}))
    assert operator.http.post("/v1/enrollments", json={**body, "secret_hash": "1" * 64}).status_code == 201


def test_a_change_of_secret_may_be_repeated(enroll: Enroll) -> None:
    ada = enroll("ada")
    same = {"secret_hash": hash_secret(ada.identity["secret"])}
    assert ada.http.post("/v1/agents/me/secret", json=same).status_code == 200


def test_one_of_several_at_the_same_time_gets_a_secret(operator: Operator, enroll: Enroll) -> None:
    agents = [enroll(f"agent-{number}") for number in range(4)]
    replies: list[httpx.Response] = []
    calls: list[Callable[[], httpx.Response]] = [
        *(
            lambda agent=agent: agent.http.post("/v1/agents/me/secret", json={"secret_hash": "1" * 64})
            for agent in agents
        ),
        *(lambda name=name: enroll_raw(operator, name, "1" * 64) for name in ("new-1", "new-2")),
    ]
    threads = [threading.Thread(target=lambda call=call: replies.append(call())) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [reply for reply in replies if not reply.is_success]
    assert len(refused) == len(calls) - 1
    assert all(map(is_refused, refused))
