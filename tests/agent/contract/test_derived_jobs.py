"""The child's job comes from the accepted specification. Nothing else that a coordinator says enters it."""

import json
from typing import Any

import pytest
from pydantic import TypeAdapter

from agent.orders.jobs import EvaluateJob, InitJob, PrepareJob, TrainJob
from shared.campaign.sections import FROM_COORDINATOR
from shared.wire.tasks.assignments import Assignment
from tests.agent.owner import Owner
from tests.agent.parts import (
    ADAPTER,
    SHA,
    campaign_spec,
    evaluate_assignment,
    init_assignment,
    prepare_assignment,
    train_assignment,
)

ASSIGNMENT: TypeAdapter[Assignment] = TypeAdapter(Assignment)
OF_JOBS: dict[str, Any] = {
    "steps": 1,
    "learning_rate": 9.0,
    "rank": 64,
    "seed": 99,
    "state_versions": 99,
    "algorithm": "fedprox",
    "algorithm_params": {"mu": 5},
    "training": {"steps": 1, "batch_size": 1, "max_length": 8, "learning_rate": 9.0, "seed": 99},
    "lora": {"rank": 64},
    "data": {"name": "other", "template": "alpaca"},
    "base": {"model": "elsewhere/other"},
    "campaign_name": "other",
    "created_on": "1999-01-01",
    "kind_params": {"beta": 9},
    "training_kind": "dpo",
    "micro_batch": 1,
    "path": "/etc/passwd",
}
"""Fields of jobs, as a coordinator may add them to an assignment."""


def as_an_agent_reads(task: Assignment) -> Assignment:
    """The assignment, with all fields of jobs added, as it comes from the wire."""
    raw = OF_JOBS | task.model_dump(mode="json")
    return ASSIGNMENT.validate_json(json.dumps(raw), extra="ignore", context=FROM_COORDINATOR)


@pytest.mark.parametrize(
    "task",
    [prepare_assignment(), init_assignment(), train_assignment(), evaluate_assignment()],
    ids=lambda task: task.kind,
)
def test_fields_that_no_assignment_has_change_no_job(owner: Owner, task: Assignment) -> None:
    owner.prepare()
    assert owner.admit(as_an_agent_reads(task)).job == owner.admit(task).job


def test_a_training_is_that_of_the_specification(owner: Owner) -> None:
    spec = campaign_spec(
        training={
            "steps": 7,
            "batch_size": 3,
            "max_length": 77,
            "learning_rate": 0.4,
            "min_learning_rate": 0.2,
            "seed": 11,
        },
        lora={"rank": 4, "alpha": 8},
        algorithm={"name": "fedprox", "params": {"mu": 0.5}},
        data={"name": "notes", "template": "alpaca"},
    )
    owner.prepare(spec, rank=3)
    job = owner.train(spec, round=2, client_number=5, adapter=ADAPTER)
    assert (job.steps, job.training, job.lora, job.data) == (7, spec.training, spec.lora, spec.data)
    assert (job.algorithm, job.algorithm_params) == ("fedprox", {"mu": 0.5})
    assert job.rank == 3, "the rank of its own preparation"
    assert job.learning_rate == pytest.approx(0.2 + 0.5 * 0.2 * (1 + 0.5))
    assert (job.round, job.client_number, job.adapter.sha256) == (2, 5, SHA)
    assert str(job.created_on) == "2026-01-31"


@pytest.mark.parametrize(("n_train", "steps"), [(100, 25), (1, 1), (101, 26)])
def test_epochs_become_steps_by_the_agents_own_count_of_rows(owner: Owner, n_train: int, steps: int) -> None:
    spec = campaign_spec(training={"epochs": 0.5, "batch_size": 2})
    owner.prepare(spec, n_train=n_train)
    assert owner.train(spec).steps == steps


def test_the_other_jobs_are_those_of_the_specification(owner: Owner) -> None:
    spec = campaign_spec(kind="dpo", dpo={"beta": 0.3})
    owner.prepare(spec)
    prepare, init = owner.admit(prepare_assignment(spec)).job, owner.admit(init_assignment(spec)).job
    evaluate = owner.admit(evaluate_assignment(spec, round=3)).job
    assert isinstance(prepare, PrepareJob)
    assert isinstance(init, InitJob)
    assert isinstance(evaluate, EvaluateJob)
    assert (prepare.training, prepare.algorithm) == (spec.training, "fedavg")
    assert init.seed == 7
    assert (evaluate.training.max_length, evaluate.round) == (64, 3)
    for job in (prepare, init, evaluate):
        assert (job.training_kind, job.kind_params["beta"], job.base.model) == ("dpo", 0.3, "tiny")
        assert (job.campaign_id, job.campaign_name, str(job.created_on)) == ("c1", "small", "2026-01-31")


def test_terms_are_those_of_the_first_time_that_a_campaign_came(owner: Owner) -> None:
    owner.prepare()
    job = owner.admit(prepare_assignment(plain_client=False, mixes_ranks=True)).job
    assert isinstance(job, PrepareJob)
    assert (str(job.created_on), job.plain_client) == ("2026-01-31", True)
    assert not owner.known().terms.mixes_ranks


def test_another_day_is_another_specification(owner: Owner) -> None:
    """Templates see it, and a template of a hostile base model could have it say what is learnt."""
    owner.prepare()
    refused = owner.refusal(prepare_assignment(created_on="1999-01-01"))
    assert refused.message.startswith("spec_sha256: it is not the digest of the specification that came with it")


@pytest.mark.parametrize(("server_state", "rounds", "versions"), [(5, 3, 4), (2, 3, 3), (1, 3, 2), (5, 1, 2)])
def test_client_states_are_kept_as_long_as_the_coordinators(
    owner: Owner, server_state: int, rounds: int, versions: int
) -> None:
    spec = campaign_spec(rounds=rounds, retention={"server_state": server_state})
    owner.prepare(spec)
    job = owner.train(spec)
    assert isinstance(job, TrainJob)
    assert job.state_versions == versions
