"""What is booked: once, with sums that only grow."""

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.record.bookings import Totals, Work, WorkKind
from agent.record.record import OwnerRecord
from tests.support.ledgers import NO_LEDGER

TRAIN, EVALUATE = WorkKind.TRAIN, WorkKind.EVALUATE
DAY = timedelta(days=1)


def training(round_number: int = 1, *, campaign: str = "c1", history: int = 0) -> Work:
    return Work(campaign, TRAIN, round_number, history, "s", "a", client_number=3, steps=5, n_rows=10)


def evaluation(number: int = 0, campaign: str = "c1") -> Work:
    return Work(campaign, EVALUATE, number, 0, "s", "a")


def test_work_is_booked_once_with_its_first_amount(record: OwnerRecord) -> None:
    assert record.bookings.find(training()) is None
    record.bookings.book(1, "a", training(), NO_LEDGER)
    again = replace(training(), spec_sha256="t", adapter="b", broadcast="c", client_number=4, steps=500, n_rows=1000)
    record.bookings.book(1, "a", again, NO_LEDGER)
    assert record.bookings.find(again) == training()
    assert record.bookings.of_campaign("c1") == Totals(n_trainings=1, steps=5, n_rows=10)


@pytest.mark.parametrize(
    "other", [training(2), training(history=1), training(campaign="c2"), evaluation(), evaluation(1)]
)
def test_other_work_is_booked_beside_it(record: OwnerRecord, other: Work) -> None:
    record.bookings.book(1, "a", training(), NO_LEDGER)
    record.bookings.book(1, "a", other, NO_LEDGER)
    of_pool = record.bookings.of_pool(1)
    assert of_pool.n_trainings + of_pool.n_evaluations == 2


def test_sums_are_of_one_campaign_or_of_one_pool(record: OwnerRecord) -> None:
    for pool, work in [(1, training()), (1, training(2)), (1, training(campaign="c2")), (2, training(campaign="c3"))]:
        record.bookings.book(pool, "a", work, NO_LEDGER)
    record.bookings.book(1, "a", evaluation(), NO_LEDGER)
    assert record.bookings.of_campaign("c1") == Totals(n_trainings=2, n_evaluations=1, steps=10, n_rows=20)
    assert record.bookings.of_pool(1) == Totals(n_trainings=3, n_evaluations=1, steps=15, n_rows=30)
    assert record.bookings.of_campaign("unknown") == record.bookings.of_pool(3) == Totals()
    assert record.bookings.campaigns_of(1, DAY) == {"c1", "c2"}
    assert record.bookings.campaigns_of(2, DAY) == {"c3"}
    assert record.bookings.campaigns_of(1, -DAY) == set()


def test_a_campaign_that_was_only_evaluated_used_the_rows_too(record: OwnerRecord) -> None:
    record.bookings.book(1, "a", evaluation(), NO_LEDGER)
    assert record.bookings.campaigns_of(1, DAY) == {"c1"}


def test_the_first_result_of_a_piece_of_work_is_kept(record: OwnerRecord) -> None:
    record.bookings.keep_result(evaluation(), "of nothing")
    assert record.bookings.result_of(evaluation()) is None
    record.bookings.book(1, "a", evaluation(), NO_LEDGER)
    assert record.bookings.result_of(evaluation()) is None
    for result in ("first", "second"):
        record.bookings.keep_result(evaluation(), result)
    assert record.bookings.result_of(evaluation()) == "first"
    assert record.bookings.result_of(evaluation(1)) is None


def test_the_furthest_round_of_the_latest_history_is_known(record: OwnerRecord) -> None:
    assert record.bookings.furthest("c1", TRAIN) == (0, -1)
    for number, history in ((7, 1), (3, 2), (2, 2)):
        record.bookings.book(1, "a", training(number, history=history), NO_LEDGER)
    record.bookings.book(1, "a", training(campaign="c2", history=5), NO_LEDGER)
    assert record.bookings.furthest("c1", TRAIN) == (2, 3)
    assert record.bookings.furthest("c1", EVALUATE) == (0, -1)
    assert record.bookings.histories("c1") == {1, 2}


def test_forgetting_a_campaign_takes_no_booking_back(record: OwnerRecord) -> None:
    record.bookings.book(1, "a", training(), NO_LEDGER)
    record.campaigns.forget("c1")
    assert record.bookings.of_campaign("c1").n_trainings == 1


def test_a_client_number_is_of_an_agent_in_a_history(record: OwnerRecord) -> None:
    record.bookings.book(1, "a", training(), NO_LEDGER)
    record.bookings.book(1, "a", evaluation(5), NO_LEDGER)
    record.bookings.book(1, "b", replace(training(2), client_number=7), NO_LEDGER)
    record.bookings.book(1, "a", replace(training(history=1), client_number=8), NO_LEDGER)
    numbers = {
        (agent, history): record.bookings.client_number("c1", agent, history) for agent in "abc" for history in (0, 1)
    }
    assert numbers == {("a", 0): 3, ("a", 1): 8, ("b", 0): 7, ("b", 1): None, ("c", 0): None, ("c", 1): None}
    assert record.bookings.adapters_evaluated("c1", 0) == {5}
