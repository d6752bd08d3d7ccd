"""What was measured here stays here in full; of several histories, the latest counts."""

from typing import Any

import pytest

from agent.record.bookings import Work, WorkKind
from agent.record.record import OwnerRecord
from tests.support.ledgers import NO_LEDGER

TRAIN, EVALUATE = WorkKind.TRAIN, WorkKind.EVALUATE
WORK = Work("c1", TRAIN, 1, 0, "s", "a")


def measure(
    record: OwnerRecord, kind: WorkKind, number: int, history: int = 0, adapter: str = "", **metrics: Any
) -> None:
    work = Work("c1", kind, number, history, "s", adapter or f"a{number}.{history}")
    record.bookings.book(1, "a", work, NO_LEDGER)
    record.measured.keep(work, metrics)


def losses(record: OwnerRecord, kind: WorkKind = EVALUATE) -> dict[int, float]:
    return {each.round: each.metrics["held_out_loss"] for each in record.measured.standing("c1", kind)}


def test_values_come_back_as_they_were_with_the_adapter_that_they_are_of(record: OwnerRecord) -> None:
    measure(record, EVALUATE, 2, held_out_loss=1.2345678901234567, held_out_rows=40)
    measure(record, EVALUATE, 0, held_out_loss=2.0)
    measure(record, TRAIN, 1, held_out_loss=9.0)
    first, second = record.measured.standing("c1", EVALUATE)
    assert (first.round, second.round, second.history, second.adapter) == (0, 2, 0, "a2.0")
    assert second.metrics == {"held_out_loss": 1.2345678901234567, "held_out_rows": 40}
    assert record.measured.standing("c2", EVALUATE) == []


def test_what_is_done_again_after_a_crash_takes_the_place_of_its_first_try(record: OwnerRecord) -> None:
    for loss in (2.0, 1.5):
        measure(record, EVALUATE, 0, held_out_loss=loss)
    assert losses(record) == {0: 1.5}


@pytest.mark.parametrize(
    ("later", "standing"),
    [
        ([], {0: 2.0, 1: 1.9, 2: 1.8, 3: 1.7}),
        ([(TRAIN, 2)], {0: 2.0, 1: 1.9}),  # rolled back to round 1, and nothing is evaluated yet
        ([(TRAIN, 2), (EVALUATE, 2)], {0: 2.0, 1: 1.9, 2: 5.0}),
        ([(EVALUATE, 2)], {0: 2.0, 1: 1.9, 2: 5.0}),  # not drawn for round 2
        ([(EVALUATE, 3)], {0: 2.0, 1: 1.9, 2: 1.8, 3: 5.0}),  # a restored coordinator asks for the same again
        ([(TRAIN, 1)], {0: 2.0}),
    ],
)
def test_after_a_rollback_what_was_undone_no_longer_counts(
    record: OwnerRecord, later: list[tuple[WorkKind, int]], standing: dict[int, float]
) -> None:
    for number in range(4):
        measure(record, EVALUATE, number, held_out_loss=2.0 - number / 10)
    for kind, number in later:
        measure(record, kind, number, history=1, held_out_loss=5.0)
    assert losses(record) == pytest.approx(standing)


def test_a_training_before_an_evaluation_that_is_repeated_still_counts(record: OwnerRecord) -> None:
    for number in (1, 2, 3):
        measure(record, TRAIN, number, held_out_loss=float(number))
    measure(record, EVALUATE, 2, history=1, held_out_loss=5.0)
    assert losses(record, TRAIN) == {1: 1.0, 2: 2.0}
    measure(record, TRAIN, 2, history=2, held_out_loss=7.0)
    assert losses(record, TRAIN) == {1: 1.0, 2: 7.0}


def test_what_is_written_as_one_is_there_together_or_not_at_all(record: OwnerRecord) -> None:
    record.bookings.book(1, "a", WORK, NO_LEDGER)

    def keep(*, fails: bool) -> None:
        with record.as_one():
            record.measured.keep(WORK, {"train_loss_mean": 1.0})
            record.bookings.keep_result(WORK, "{}")
            assert record.bookings.result_of(WORK) == "{}"  # this thread sees it already
            if fails:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        keep(fails=True)
    assert record.bookings.result_of(WORK) is None
    assert not record.measured.standing("c1", TRAIN)

    keep(fails=False)
    again = OwnerRecord(record.path.parent)  # as another process sees it
    assert again.bookings.result_of(WORK) == "{}"
    [measured] = again.measured.standing("c1", TRAIN)
    assert measured.metrics == {"train_loss_mean": 1.0}


def test_others_do_not_see_what_is_written_as_one_before_its_end(record: OwnerRecord) -> None:
    record.bookings.book(1, "a", WORK, NO_LEDGER)
    other = OwnerRecord(record.path.parent)
    with record.as_one():
        record.bookings.keep_result(WORK, "{}")
        assert other.bookings.result_of(WORK) is None
    assert other.bookings.result_of(WORK) == "{}"


def test_a_block_within_another_belongs_to_it(record: OwnerRecord) -> None:
    record.bookings.book(1, "a", WORK, NO_LEDGER)

    def fail() -> None:
        with record.as_one():
            with record.as_one():
                record.bookings.keep_result(WORK, "{}")
            record.measured.keep(WORK, {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert record.bookings.result_of(WORK) is None
    assert not record.measured.standing("c1", TRAIN)
