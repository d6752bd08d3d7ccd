"""What the owner reads on the agent's terminal: rounds, ends of campaigns, outages, refused jobs."""

import asyncio
from collections.abc import Callable

import pytest

from agent.acceptance import Acceptance
from agent.child.supervisor import Supervisor
from agent.configuration.live import LiveSettings
from agent.configuration.settings import AgentSettings
from agent.network.news import CampaignNews
from agent.network.retry import until_reached
from agent.running.loop import _Work
from agent.running.runner import TaskRunner
from agent.signing.following import SignedCampaigns
from agent.workspace import Workspace
from shared.wire.agents import OwnCampaign, OwnCampaigns
from shared.wire.problems import ProblemType
from shared.wire.tasks.results import TrainResult
from tests.agent.jobs import train_job
from tests.agent.parts import SHA, Home, a_lease, by_call, in_turn, ours, problem, train_assignment
from tests.agent.test_agent import start_campaign
from tests.support.ledgers import api_of, sent
from tests.support.messages import training_metrics
from tests.support.operator import Operator
from tests.support.suite.tiers import deep
from tests.unit.stub_server import Answer, Stub, hang_up, stub_server


def test_rounds_weights_and_the_end_of_a_campaign_are_told(
    new_home: Callable[[str], Home], operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    home = new_home("ada")
    with home.running():
        campaign_id = start_campaign(operator, rounds=2)
        operator.wait_for(campaign_id, "completed", timeout_s=60)
        other = start_campaign(operator, name="other", rounds=1)  # its tasks make the agent ask
        operator.wait_for(other, "completed", timeout_s=60)
    name = operator.get(f"/v1/campaigns/{campaign_id}")["name"]
    assert f"campaign {name}: completed after 2 rounds; its update of round 2 weighed 100%" in caplog.messages
    rounds = [line for line in caplog.messages if line.startswith("round ")]
    assert rounds[0].startswith("round 1 of 2: trained 1 step on 10 rows, loss ") or " on 10 rows, loss " in rounds[0]
    assert any("; its update of round 1 weighed 100%" in line for line in rounds)
    assert home.error is None


def campaigns(*views: dict[str, object]) -> Answer:
    whole = [{"id": "c1", "name": "small", "state": "running", "rounds_closed": 1, "rounds": 10} | v for v in views]
    counted = {"participant": "prepared", "n_train": 812, "update_round": 2, "update_weight": 0.312, "history": 0}
    listed = [OwnCampaign.model_validate(counted | each) for each in whole]
    return ours(200, OwnCampaigns(campaigns=listed).model_dump_json())


def looking(answer: Answer, times: int = 1, *, follows: bool = True) -> None:
    async def work(stub: Stub) -> None:
        api = api_of(stub.url, "secret")
        news = CampaignNews(api)
        if follows:
            news.follow("c1")
        for _ in range(times):
            await news.look()
        await api.close()

    with stub_server(answer) as stub:
        asyncio.run(work(stub))


@pytest.mark.parametrize(
    ("states", "lines"),
    [
        (
            ["running", "completed"],
            [
                "running, 1 of 10 rounds are done",
                "completed early, after 1 of 10 rounds; its update of round 2 weighed 31%",
            ],
        ),
        (
            ["cancelled", "cancelled"],
            ["stopped after 1 of 10 rounds: the operator cancelled it; its update of round 2 weighed 31%"],
        ),
        (
            ["running", "paused", "running"],
            [
                "running, 1 of 10 rounds are done",
                "paused after 1 of 10 rounds, until the operator resumes it",
                "resumed after 1 of 10 rounds",
            ],
        ),
    ],
)
def test_each_change_of_a_campaign_is_told_once(
    states: list[str], lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "agent.network.news")
    looking(in_turn(*(campaigns({"state": state}) for state in states)), times=len(states) + 2)
    assert caplog.messages == [f"campaign small: {line}" for line in lines]


def test_campaigns_that_ended_before_the_start_are_not_news(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "agent.network.news")
    looking(campaigns({"state": "completed"}, {"id": "c2", "name": "two", "state": "paused"}), follows=False)
    assert caplog.messages == ["campaign two: paused after 1 of 10 rounds, until the operator resumes it"]


@pytest.mark.parametrize("answer", [hang_up, ours(200, "{}"), ours(404, "<html>")])
def test_without_an_answer_there_is_no_news_and_no_error(answer: Answer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "agent.network.news")
    looking(answer, times=2)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("sent", "note"),
    [
        ({"train_loss_first": 2.31, "train_loss_last": 1.9, "train_loss_mean": 2.1}, ""),
        ({"train_loss_mean": 2.1}, " (sent: the mean, 2.1)"),
        ({}, " (not sent)"),
    ],
)
def test_a_round_is_told_with_its_losses_and_what_of_them_was_sent(
    sent: dict[str, float], note: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "agent.network.news")
    metrics = training_metrics(steps=40) | {"train_loss_first": 2.31, "train_loss_last": 1.9}

    async def work(stub: Stub) -> None:
        api = api_of(stub.url, "secret")
        news = CampaignNews(api)
        news.follow("c1")
        result = TrainResult(delta=SHA, metrics=metrics)
        left = TrainResult(delta=SHA, metrics={"steps": 40, **sent})
        await news.look()
        news.tell_round(train_job(round=3, steps=40), result, left, 1_200_000)
        await api.close()

    with stub_server(campaigns({"state": "running", "rounds_closed": 2})) as stub:
        asyncio.run(work(stub))
    assert caplog.messages[-1] == (
        f"round 3 of 10: trained 40 steps on 812 rows, loss 2.31 -> 1.90{note}, sent 1.2 MB; "
        "its update of round 2 weighed 31%"
    )


def test_the_end_of_an_outage_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def work(stub: Stub) -> None:
        api = api_of(stub.url, "secret")
        for _ in range(2):
            await until_reached(lambda: api.acquire("instance", 0))
        await api.close()

    with stub_server(in_turn(hang_up, hang_up, ours(204))) as stub:
        asyncio.run(work(stub))
    assert [line for line in caplog.messages if "back again" in line] == ["the coordinator is back again, after 0 s"]


def test_a_request_too_many_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    too_many = problem(429, ProblemType.TOO_MANY_REQUESTS, Retry_After="0")

    async def work(stub: Stub) -> None:
        api = api_of(stub.url, "secret")
        await until_reached(lambda: api.acquire("instance", 0))
        await api.close()

    with stub_server(in_turn(too_many, too_many, ours(204))) as stub:
        asyncio.run(work(stub))
    said = [line.partition(";")[0] for line in caplog.messages if "it says" in line]
    assert said == ["it says too-many-requests"] * 2
    assert not any("back again" in line for line in caplog.messages)
    caplog.clear()
    with stub_server(in_turn(hang_up, too_many, ours(204))) as stub:
        asyncio.run(work(stub))
    assert len([line for line in caplog.messages if "back again" in line]) == 1, "it ends one: the coordinator is there"


def work_at(stub: Stub, home: Workspace) -> _Work:
    api = api_of(stub.url, "secret", ledger=home.ledger)
    acceptance = Acceptance(home.record.campaigns, stub.url, "a", lambda _: None)
    signed = SignedCampaigns(api, "ada", home.record.statements("0" * 64))
    runner = TaskRunner(api, home, LiveSettings(AgentSettings()), Supervisor([]), acceptance, signed)
    return _Work(api, runner, signed, home)


@pytest.fixture
def home(tmp_path: object) -> Workspace:
    workspace = Workspace(tmp_path / "home")  # type: ignore[operator]
    workspace.create()
    workspace.record.create()
    return workspace


def test_a_job_that_cannot_be_read_is_reported_and_the_agent_goes_on(
    home: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    bad = a_lease(task=train_assignment()).model_dump_json().replace('"round":1,', '"round":-5,')
    good = ours(201, a_lease(task_id="task2").model_dump_json())

    async def work(stub: Stub) -> object:
        worker = work_at(stub, home)
        assert await worker.acquire() is None
        return await worker.acquire()

    with stub_server(by_call(POST=in_turn(ours(201, bad), good), PUT=ours(200, "{}"))) as stub:
        lease = asyncio.run(work(stub))
        assert [path for method, path, _ in stub.seen if method == "PUT"] == ["/v1/leases/task1/failure"]
    assert getattr(lease, "task_id", None) == "task2"
    wrong = "assignment.train.round: must be greater than or equal to 1"
    assert f"the coordinator sent an assignment that cannot be used: {wrong}" in caplog.messages
    assert [each["kind"] for each in sent(home.home, "failure")] == ["unreadable-assignment"]


@pytest.mark.parametrize("what", ["no work", deep("jobs that cannot be read"), deep("replies that cannot be read")])
def test_a_coordinator_that_answers_at_once_for_ever_is_asked_ever_less_often(
    home: Workspace, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr("agent.running.loop._IDLE_PAUSE_S", 0.2)
    monkeypatch.setattr("agent.network.retry.BASE_S", 0.1)
    bad = a_lease(task=train_assignment()).model_dump_json().replace('"round":1,', '"round":-5,')
    answers = {
        "no work": ours(204),
        "jobs that cannot be read": ours(201, bad),
        "replies that cannot be read": ours(201),
    }

    async def work(stub: Stub) -> None:
        worker = work_at(stub, home)
        while True:
            await worker.acquire()

    async def for_a_while(stub: Stub) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await work(stub)

    with stub_server(by_call(POST=answers[what], PUT=ours(200, "{}"), GET=campaigns())) as stub:
        asyncio.run(for_a_while(stub))
        assert 2 <= len([path for method, path, _ in stub.seen if path == "/v1/leases"]) < 20
