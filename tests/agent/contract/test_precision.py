"""What an agent decided about the base's precision when it prepared is what all later work has, after a restart too."""

import pytest

from tests.agent.owner import Owner
from tests.agent.parts import (
    campaign_spec,
    evaluate_assignment,
    init_assignment,
    prepare_assignment,
    train_assignment,
)

AUTO = campaign_spec(base={"model": "tiny", "cpu_dtype": "auto"})
TASKS = [prepare_assignment, init_assignment, train_assignment, evaluate_assignment]


@pytest.mark.parametrize("decided", ["bfloat16", "float32"])
def test_later_work_has_what_was_decided_in_the_preparation(owner: Owner, decided: str) -> None:
    assert owner.admit(prepare_assignment(AUTO)).job.base.cpu_dtype == "auto", "the child decides, by its processor"
    owner.prepare(AUTO, cpu_dtype=decided)
    for known in (owner, Owner(owner.home)):
        for make in TASKS:
            job = known.admit(make(AUTO)).job
            assert job.base.cpu_dtype == decided, make.__name__
            assert job.model_key == ("tiny" if decided == "float32" else "tiny bfloat16")


def test_what_a_preparation_on_a_gpu_left_open_is_float32_on_a_cpu(owner: Owner) -> None:
    owner.prepare(AUTO, cpu_dtype=None)
    assert owner.train(AUTO).base.cpu_dtype == "float32"


def test_a_preparation_on_a_gpu_does_not_undo_what_was_decided_on_the_cpu(owner: Owner) -> None:
    owner.prepare(AUTO, cpu_dtype="bfloat16")
    owner.prepare(AUTO, cpu_dtype=None)
    assert owner.train(AUTO).base.cpu_dtype == "bfloat16"


@pytest.mark.parametrize("asked", ["float32", "bfloat16"])
def test_the_campaigns_own_word_needs_no_decision(owner: Owner, asked: str) -> None:
    spec = campaign_spec(base={"model": "tiny", "cpu_dtype": asked})
    owner.prepare(spec, cpu_dtype=None)
    assert owner.train(spec).base.cpu_dtype == asked


def test_another_specification_is_decided_anew(owner: Owner) -> None:
    owner.prepare(AUTO, cpu_dtype="bfloat16")
    longer = AUTO.model_copy(update={"rounds": 4})
    assert owner.admit(prepare_assignment(longer)).job.base.cpu_dtype == "auto"
    owner.prepare(longer, cpu_dtype="float32")
    assert owner.train(longer).base.cpu_dtype == "float32"
    assert train_assignment(longer).spec_sha256 != train_assignment(AUTO).spec_sha256
