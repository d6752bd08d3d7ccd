"""The adapters that an agent's owner gets: those of campaigns in which the agent was a client, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.digest import sha256_hex
from shared.states import BlobKind
from tests.coordinator.storage.test_single_updates import KEPT, kinds_of, train
from tests.coordinator.web.listings import listings_of_agents
from tests.support.driven import DrivenCampaign
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]


@pytest.fixture
def pair(enroll: Enroll) -> list[ScriptedAgent]:
    return [enroll("ada", site="north"), enroll("bob", site="north")]


def one_round(operator: Operator, folder: Path, agents: list[ScriptedAgent], **changes: Any) -> DrivenCampaign:
    """A campaign whose first round is closed."""
    labels = {"minimum": 2, "labels": {"site": "north"}}
    campaign = DrivenCampaign.begun(operator, folder, agents, **{"rounds": 1, "selection": labels, **changes})
    for agent in agents:
        campaign.train(agent)
    campaign.wait_until_closed(1)
    return campaign


def path_of(campaign: DrivenCampaign) -> str:
    return f"/v1/agents/me/campaigns/{campaign.id}/adapters"


def get(agent: ScriptedAgent, path: str, **headers: str) -> httpx.Response:
    return agent.http.get(path, headers=headers)


def test_a_client_lists_the_adapters_and_gets_the_bytes_of_each(
    operator: Operator, pair: list[ScriptedAgent], tmp_path: Path
) -> None:
    campaign = one_round(operator, tmp_path, pair, rounds=2)
    running = get(pair[0], path_of(campaign)).json()["items"]
    assert [each["final"] for each in running] == [False, False]
    for agent in pair:
        campaign.train(agent)
    campaign.wait_for("completed")
    listed = get(pair[1], path_of(campaign)).json()
    assert listed["next_cursor"] is None
    seen_by_operator = operator.items(f"{campaign.path}/adapters")
    for own, theirs in zip(listed["items"], seen_by_operator, strict=True):
        facts = {name: theirs[name] for name in ("number", "blob", "stored", "created_at")}
        assert own == {**facts, "final": own["number"] == 2, "best": False}, "nothing of other agents"
        data = get(pair[1], f"{path_of(campaign)}/{own['blob']['sha256']}")
        assert data.content == operator.http.get(f"/v1/blobs/{own['blob']['sha256']}").content
        assert sha256_hex(data.content) == own["blob"]["sha256"] == data.headers["ETag"].strip('"')


def test_the_best_is_the_campaigns_own(operator: Operator, pair: list[ScriptedAgent], tmp_path: Path) -> None:
    campaign = DrivenCampaign(operator, tmp_path, rounds=1, evaluation={"every": 1}, selection={"minimum": 2})
    for agent in pair:
        agent.prepare(n_held_out=5)
    campaign.init(pair[0])
    for round_loss in (1.0, 2.0):
        for agent in pair:
            agent.evaluate(round_loss)
        if round_loss == 1.0:
            for agent in pair:
                campaign.train(agent)
    campaign.wait_for("completed")
    items = get(pair[0], path_of(campaign)).json()["items"]
    assert [(each["number"], each["best"], each["final"]) for each in items] == [(0, True, False), (1, False, True)]


def test_a_download_goes_on_where_it_broke(operator: Operator, pair: list[ScriptedAgent], tmp_path: Path) -> None:
    campaign = one_round(operator, tmp_path, pair)
    sha256 = campaign.digest(1)
    path = f"{path_of(campaign)}/{sha256}"
    whole = get(pair[0], path).content
    rest = get(pair[0], path, Range="bytes=10-")
    assert (rest.status_code, rest.content) == (206, whole[10:])
    assert rest.headers["Content-Range"] == f"bytes 10-{len(whole) - 1}/{len(whole)}"
    assert get(pair[0], path, Range=f"bytes={len(whole)}-").status_code == 416


def test_pages_by_cursor_and_refuses_other_cursors(
    operator: Operator, pair: list[ScriptedAgent], tmp_path: Path
) -> None:
    first, other = (one_round(operator, tmp_path, pair, name=name) for name in ("one", "two"))
    assert listings_of_agents(operator) == ["/v1/agents/me/campaigns/{campaign_id}/adapters"], "test the others too"
    page = get(pair[0], f"{path_of(first)}?limit=1").json()
    rest = get(pair[0], f"{path_of(first)}?limit=1&cursor={page['next_cursor']}").json()
    assert [each["number"] for each in page["items"] + rest["items"]] == [0, 1]
    assert rest["next_cursor"] is None
    operators = operator.get(f"{first.path}/adapters", limit=1)["next_cursor"]
    for path, cursor in ((path_of(other), page["next_cursor"]), (path_of(first), operators), (path_of(first), "0")):
        assert get(pair[0], f"{path}?cursor={cursor}").status_code == 422


def test_who_took_no_part_hears_what_is_said_of_campaigns_that_do_not_exist(
    operator: Operator, enroll: Enroll, pair: list[ScriptedAgent], tmp_path: Path
) -> None:
    never, waits = enroll("cyd"), enroll("dan", site="north")
    campaign = DrivenCampaign(operator, tmp_path, rounds=1, selection={"minimum": 2, "labels": {"site": "north"}})
    lease = waits.lease("prepare")
    assert waits.failure(lease, kind="waiting-for-owner", message="waiting for its owner").is_success
    for agent in pair:
        agent.prepare()
    assert get(waits, path_of(campaign)).status_code == get(pair[0], path_of(campaign)).status_code == 404, "no client"
    assert waits.http.put(f"/v1/agents/me/campaigns/{campaign.id}", json={"part": "left"}).status_code == 204
    campaign.init(pair[0])
    for agent in pair:
        campaign.train(agent)
    campaign.wait_for("completed")
    for agent in (never, waits):
        for path in (path_of(campaign), f"{path_of(campaign)}/{campaign.digest(1)}"):
            refused = get(agent, path)
            nowhere = get(agent, path.replace(campaign.id, "0198c0de-0000-7000-8000-000000000000"))
            assert refused.status_code == nowhere.status_code == 404
            assert problem(refused).detail == f"there is no campaign {campaign.id}"
            assert problem(refused).kind == problem(nowhere).kind
    by_name = get(pair[0], path_of(campaign).replace(campaign.id, "small"))
    assert by_name.status_code == 404, "a name may be another's"


def test_an_agent_that_left_or_paused_keeps_access_and_a_revoked_one_does_not(
    operator: Operator, pair: list[ScriptedAgent], tmp_path: Path
) -> None:
    campaign = one_round(operator, tmp_path, pair, rounds=2)
    part = f"/v1/agents/me/campaigns/{campaign.id}"
    for word, agent in (("left", pair[0]), ("paused", pair[1])):
        assert agent.http.put(part, json={"part": word}).status_code == 204
        assert get(agent, f"{path_of(campaign)}/{campaign.digest(1)}").status_code == 200
    operator.post(f"/v1/agents/{pair[0].name}/revoke")
    for path in (path_of(campaign), f"{path_of(campaign)}/{campaign.digest(1)}"):
        refused = get(pair[0], path)
        assert (refused.status_code, problem(refused).kind) == (403, "agent-revoked")


def test_operators_and_nobody_are_refused(
    coordinator: RunningCoordinator, operator: Operator, pair: list[ScriptedAgent], tmp_path: Path
) -> None:
    campaign = one_round(operator, tmp_path, pair)
    for path in (path_of(campaign), f"{path_of(campaign)}/{campaign.digest(1)}"):
        assert operator.http.get(path).status_code == 403
        assert httpx.get(coordinator.url + path, verify=False).status_code == 401
        assert pair[0].http.get(f"{campaign.path}/adapters").status_code == 403, "nor does it see the operator's"


def test_no_update_broadcast_or_state_and_no_other_campaigns_adapter_is_at_this_path(
    coordinator: RunningCoordinator, operator: Operator, pair: list[ScriptedAgent], tmp_path: Path
) -> None:
    other = one_round(operator, tmp_path, pair, name="other", rows={"ada": 30})
    campaign = DrivenCampaign.begun(operator, tmp_path, pair, **KEPT)
    for number in (1, 2):
        campaign.wait_until_open(number)
        train(campaign, *pair, fill=number / 4)
    campaign.wait_for("completed")
    own = {campaign.digest(number) for number in range(3)}
    stored = kinds_of(coordinator)
    assert {kind for kinds in stored.values() for kind in kinds} == set(BlobKind)
    assert other.digest(1) in set(stored) - own
    for sha256 in (*stored, "0" * 64):
        reply = get(pair[0], f"{path_of(campaign)}/{sha256}")
        if sha256 in own:
            assert reply.status_code == 200
        else:
            assert (reply.status_code, problem(reply).detail) == (404, f"there is no adapter {sha256}")
    assert get(pair[0], f"{path_of(campaign)}/1").status_code == 422, "a digest, and not a number"


def test_after_a_rollback_the_undone_bytes_are_gone_and_the_number_is_anothers(
    operator: Operator, pair: list[ScriptedAgent], tmp_path: Path
) -> None:
    campaign = one_round(operator, tmp_path, pair, rounds=2, retention={"adapters": "all"})
    undone = campaign.digest(1)
    campaign.roll_back(0)
    assert get(pair[0], f"{path_of(campaign)}/{undone}").status_code == 404
    assert [each["number"] for each in get(pair[0], path_of(campaign)).json()["items"]] == [0]


def test_an_adapter_that_is_no_longer_stored_is_listed_as_such(
    operator: Operator, pair: list[ScriptedAgent], tmp_path: Path
) -> None:
    campaign = one_round(operator, tmp_path, pair, rounds=3, retention={"adapters": 1})
    for number in (2, 3):
        for agent in pair:
            campaign.train(agent)
        campaign.wait_until_closed(number)
    campaign.wait_for("completed")
    operator.wait_until(
        lambda: get(pair[0], path_of(campaign)).json()["items"], lambda items: not all(each["stored"] for each in items)
    )
    [gone, *_] = [each for each in get(pair[0], path_of(campaign)).json()["items"] if not each["stored"]]
    assert get(pair[0], f"{path_of(campaign)}/{gone['blob']['sha256']}").status_code == 404
