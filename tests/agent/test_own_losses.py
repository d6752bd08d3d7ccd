"""An owner's own losses in words: by round, honest about what got worse, and thinned where there are many."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from agent.configuration.policy import PolicySettings
from agent.owner.losses import OwnLosses, change, thinned, why_none
from agent.record.measured import Measurement
from shared.metrics import HELD_OUT_LOSS, TRAIN_LOSS_MEAN, Weight, losses
from tests.cli.owner.known import known_campaign

LOSS = losses("nats a token", Weight.TOKENS)[0]


def measured(name: str, values: Mapping[int, float]) -> dict[int, Measurement]:
    now = datetime.now(UTC)
    return {number: Measurement(number, 0, f"{number:064x}", now, {name: value}) for number, value in values.items()}


def own(held_out: Mapping[int, float], trained: Mapping[int, float] | None = None) -> OwnLosses:
    return OwnLosses(measured(HELD_OUT_LOSS, held_out), measured(TRAIN_LOSS_MEAN, trained or {}), LOSS)


@pytest.mark.parametrize(
    ("held_out", "number", "words"),
    [
        ({0: 1.802}, 0, ""),
        ({0: 1.802, 1: 1.802}, 1, ", the same as at the start (1.8020)"),
        (
            {0: 1.802, 2: 1.301, 3: 1.234},
            3,
            ", 5.1% better than after round 2 (1.3010) and 32% better than at the start (1.8020)",
        ),
        (
            {0: 1.0, 5: 0.5, 10: 1.5},
            10,
            ", 200% worse than after round 5 (0.5000) and 50% worse than at the start (1.0000)",
        ),
        ({4: 1.4, 5: 0.0037}, 5, ", 99.7% better than after round 4 (1.4000)"),
        ({4: 1.4, 5: 0.0001}, 5, ", 99.9% better than after round 4 (1.4000)"),
        ({4: 1.4, 5: 1.3999}, 5, ", under 0.1% better than after round 4 (1.4000)"),
    ],
)
def test_an_adapter_is_compared_with_the_one_before_and_with_the_first(
    held_out: dict[int, float], number: int, words: str
) -> None:
    assert own(held_out).course(number) == words


@pytest.mark.parametrize(
    ("now", "before", "words"),
    [
        (1.0, 0.0, "much worse"),
        (-1.0, 0.0, "much better"),
        (0.0, 0.0, "the same"),
        (0.0, 2.0, "100% better"),
        (-2.0, -1.0, "100% better"),
        (-1.0, -2.0, "50% worse"),
        (1.00001, 1.00002, "the same"),
        (math.nan, 1.0, "neither better nor worse"),
        (1.0, math.inf, "neither better nor worse"),
        (None, 1.0, "neither better nor worse"),
        (1e300, 1e-300, "much worse"),
    ],
)
def test_no_value_breaks_a_comparison(now: float | None, before: float, words: str) -> None:
    assert change(LOSS, now, before) == words


def test_the_best_is_the_lowest_finite_loss_and_the_first_of_equals() -> None:
    losses_ = own({0: 2.0, 1: 1.0, 2: 1.0, 3: math.nan})
    assert losses_.best() == 1
    assert losses_.best([0, 2, 3, 7]) == 2
    assert own({}).best() is None
    assert own({0: math.nan}).best() is None


def test_the_table_of_few_rounds_has_them_all() -> None:
    table = own({0: 1.802, 1: 1.5, 2: 1.9}, {1: 1.7, 2: 1.4, 3: 1.2}).table()
    assert table == [
        "            train loss  held-out loss  than the start",
        "start                          1.8020",
        "round 1         1.7000         1.5000  best, 17% better",
        "round 2         1.4000         1.9000  5.4% worse",
        "round 3         1.2000",
        "in nats a token; lower is better",
    ]


def test_the_table_of_many_rounds_is_thinned_and_keeps_the_best() -> None:
    many = own({number: 2.0 - number / 1000 + (number != 437) for number in range(1001)})
    table = many.table()
    assert len(table) == 15
    assert table[1].startswith("start ")
    assert table[-3].startswith("round 1000 ")
    assert [line for line in table if "best" in line] == [next(line for line in table if line.startswith("round 437 "))]
    assert table[-2] == "(12 of 1001 are shown)"
    assert all(len(line) <= 60 for line in own({0: 1e300, 99999: -1e-9, 100000: 1e12}, {100000: 1e300}).table())


def test_thinning_keeps_first_last_and_the_named_one() -> None:
    assert thinned([1, 2, 3], 3) == [1, 2, 3]
    assert thinned(list(range(100)), 4) == [0, 33, 66, 99]
    assert thinned(list(range(100)), 4, keep=1) == [0, 1, 50, 99]
    assert thinned(list(range(100)), 4, keep=99) == [0, 33, 66, 99]


def test_an_owner_hears_why_no_losses_are_known() -> None:
    open_policy = PolicySettings(min_held_out=1)
    assert why_none(known_campaign(evaluation={"every": 0}), open_policy).startswith(
        "the campaign evaluates no adapter"
    )
    assert 'policy.report = "none"' in why_none(known_campaign(), PolicySettings(report="none"))
    assert why_none(known_campaign(n_train=10), open_policy) == "no row is held out"
    few = why_none(known_campaign(n_train=10, n_held_out=5), PolicySettings())
    assert few == "an evaluation would stand on 5 held-out rows, and policy.min_held_out = 20"
    assert why_none(known_campaign(n_train=10, n_held_out=5), open_policy) == "no adapter has been evaluated here"
