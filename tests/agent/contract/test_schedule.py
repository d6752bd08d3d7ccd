"""Adapters are evaluated as the accepted campaign has it, and one more at an early end."""

from typing import Any

import pytest

from tests.agent.owner import Owner
from tests.agent.parts import campaign_spec, evaluate_assignment


def evaluated(owner: Owner, spec: Any, *numbers: int, history: int = 0) -> None:
    for number in numbers:
        owner.admit(evaluate_assignment(spec, round=number, history=history))


@pytest.mark.parametrize(("every", "numbers"), [(1, [0, 1, 2, 9, 10]), (5, [0, 5, 10]), (4, [0, 4, 8, 10])])
def test_the_adapters_of_the_schedule_are_evaluated(owner: Owner, every: int, numbers: list[int]) -> None:
    spec = campaign_spec(rounds=10, evaluation={"every": every})
    owner.prepare(spec)
    evaluated(owner, spec, *numbers)
    assert owner.record.bookings.of_campaign("c1").n_evaluations == len(numbers)


def test_of_the_others_one_is_in_each_history(owner: Owner) -> None:
    spec = campaign_spec(rounds=100, evaluation={"every": 50})
    owner.prepare(spec)
    evaluated(owner, spec, 0, 3, 3)
    for number in (4, 49, 99):
        assert owner.mismatch(evaluate_assignment(spec, round=number)) == (
            f"round: adapter {number} is not to be evaluated, as evaluation.every = 50 in the accepted campaign, and "
            "adapter 3 already was at an early end"
        )
    evaluated(owner, spec, 50, 100)
    evaluated(owner, spec, 4, history=1)
    assert owner.mismatch(evaluate_assignment(spec, round=5, history=1)).startswith("round: adapter 5 is not")
