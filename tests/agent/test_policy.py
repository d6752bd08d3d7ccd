"""Jobs that an owner's policy allows or refuses."""

from typing import Any

import pytest

from agent.errors import TaskFailed
from agent.policy import check
from agent.settings import AgentSettings, ComputeSettings
from shared.campaign.spec import LoraSection
from shared.wire.jobs import Job
from shared.wire.leases import FailureKind
from tests.agent.parts import evaluate_job, init_job, prepare_job, train_job

JOBS = [prepare_job(), init_job(), train_job(), evaluate_job()]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.kind)
def test_the_defaults_allow_every_job(job: Job) -> None:
    check(AgentSettings(), job)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.kind)
@pytest.mark.parametrize(
    ("policy", "line"),
    [
        ({"base_models": ["org/*", "Tiny"]}, "policy.base_models"),
        ({"base_models": []}, "policy.base_models"),
        ({"kinds": []}, "policy.kinds"),
    ],
)
def test_the_base_model_and_the_kind_count_for_every_job(job: Job, policy: dict[str, Any], line: str) -> None:
    with pytest.raises(TaskFailed, match=line) as caught:
        check(AgentSettings.model_validate({"policy": policy}), job)
    assert caught.value.failure.kind is FailureKind.REFUSED_BY_POLICY


@pytest.mark.parametrize(
    ("policy", "job", "line"),
    [
        ({"report_losses": False}, evaluate_job(), "report_losses"),
        ({"kinds": ["sft"]}, prepare_job(training_kind="dpo"), "training kind dpo is not in policy.kinds"),
        ({"algorithms": ["fedprox"]}, prepare_job(), "algorithms"),
        ({"algorithms": ["fedprox"]}, train_job(), "algorithms"),
        ({"max_steps": 4}, prepare_job(steps=5), "max_steps = 4"),
        ({"max_steps": 4}, train_job(steps=5), "max_steps = 4"),
        ({"max_rounds": 2}, prepare_job(rounds=3), "max_rounds = 2"),
        ({"max_rounds": 2}, train_job(round=3), "max_rounds = 2"),
    ],
)
def test_a_refusal_names_its_line(policy: dict[str, Any], job: Job, line: str) -> None:
    with pytest.raises(TaskFailed, match=line):
        check(AgentSettings.model_validate({"policy": policy}), job)


@pytest.mark.parametrize(
    ("policy", "job"),
    [
        ({}, train_job(training_kind="dpo")),
        ({"report_losses": False}, train_job()),
        ({"algorithms": ["fed*"], "base_models": ["t?ny"]}, train_job()),
        ({"max_steps": 5, "max_rounds": 3}, prepare_job(steps=5, rounds=3)),
        ({"max_steps": 5}, prepare_job(steps=None, epochs=1.0)),
        ({"max_steps": 5, "max_rounds": 1}, train_job(steps=5, round=1)),
    ],
)
def test_what_is_within_the_limits_passes(policy: dict[str, Any], job: Job) -> None:
    check(AgentSettings.model_validate({"policy": policy}), job)


LARGE, MIXED = {"lora": {"rank": 8}}, {"lora": {"rank": 8}, "mixes_ranks": True}


@pytest.mark.parametrize("job", [prepare_job(**LARGE), train_job(**LARGE, rank=8)], ids=lambda job: job.kind)
def test_a_rank_that_the_machine_does_not_train_is_refused_with_what_to_do(job: Job) -> None:
    with pytest.raises(TaskFailed, match=r"rank 8 is above compute.max_lora_rank = 4; raise it, or ask") as caught:
        check(AgentSettings.model_validate({"compute": {"max_lora_rank": 4}}), job)
    assert caught.value.failure.kind is FailureKind.REFUSED_BY_POLICY


@pytest.mark.parametrize("job", [prepare_job(**MIXED), train_job(**LARGE, rank=4), init_job(**LARGE), prepare_job()])
def test_a_rank_that_the_machine_trains_passes(job: Job) -> None:
    check(AgentSettings.model_validate({"compute": {"max_lora_rank": 4}}), job)


@pytest.mark.parametrize(("maximum", "rank"), [(None, 8), (4, 4), (8, 8), (64, 8)])
def test_the_rank_is_the_campaigns_up_to_the_machines(maximum: int | None, rank: int) -> None:
    assert ComputeSettings(max_lora_rank=maximum).rank_of(LoraSection(rank=8)) == rank
