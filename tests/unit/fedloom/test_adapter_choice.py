"""Which adapter an owner gets: by number, by role, or by its own losses, and only what is stored."""

from collections.abc import Sequence

import pytest

from agent.owner.losses import OwnLosses
from fedloom.cli.agent.pull.adapter_choice import choose
from fedloom.errors import NoSuchAdapter
from shared.text.ranges import in_ranges
from shared.wire.adapters import OwnAdapter
from tests.agent.test_own_losses import own

OWN = own({0: 2.0, 1: 1.2, 2: 1.5})
"""Adapters 0 to 2 were evaluated here, and have the digests that ``listed`` gives them."""


def listed(
    number: int, *, stored: bool = True, final: bool = False, best: bool = False, sha256: str = ""
) -> OwnAdapter:
    blob = {"sha256": sha256 or f"{number:064x}", "n_bytes": 10}
    facts = {"stored": stored, "final": final, "best": best, "created_at": "2026-01-31T00:00:00Z"}
    return OwnAdapter.model_validate({"number": number, "blob": blob, **facts})


def chosen(which: str | None, adapters: Sequence[OwnAdapter], losses: OwnLosses = OWN) -> tuple[int, str]:
    choice = choose(which, "small", adapters, losses, "no row is held out")
    return choice.adapter.number, choice.note


OVER = [listed(0), listed(1, best=True), listed(2), listed(3, final=True)]


@pytest.mark.parametrize(
    ("which", "number"), [(None, 3), ("final", 3), ("best", 1), ("best-for-me", 1), ("0", 0), ("2", 2)]
)
def test_of_a_campaign_that_is_over_each_can_be_named(which: str | None, number: int) -> None:
    assert chosen(which, OVER) == (number, "")


def test_while_it_runs_the_default_is_the_newest_and_says_so() -> None:
    running = [listed(0), listed(1)]
    assert chosen(None, running) == (1, "the campaign is not over; this is its newest adapter")
    with pytest.raises(NoSuchAdapter, match="campaign small has no final adapter: it has not ended; stored are 0-1"):
        chosen("final", running)


def test_the_best_for_an_owner_is_the_best_that_is_still_stored() -> None:
    without = [listed(0), listed(1, stored=False), listed(2), listed(3, final=True)]
    assert chosen("best-for-me", without) == (2, "adapter 1 was better here (1.2000), and is no longer stored")
    nothing = [listed(number, stored=number == 3) for number in range(4)]
    with pytest.raises(NoSuchAdapter, match="none of those that were evaluated here is stored any more; stored are 3"):
        chosen("best-for-me", nothing)


def test_an_adapter_with_other_bytes_than_were_evaluated_is_not_the_best_and_is_told() -> None:
    changed = [listed(0), listed(1, sha256="f" * 64), listed(2)]
    assert chosen("best-for-me", changed)[0] == 2
    number, note = chosen("1", changed)
    assert number == 1
    assert note.startswith(
        "these are not the bytes that were evaluated here as adapter 1: the campaign was rolled back"
    )


@pytest.mark.parametrize(
    ("which", "adapters", "losses", "says"),
    [
        (None, [], OWN, "has no final adapter: none was made yet"),
        ("7", OVER, OWN, "has no adapter 7: there was none of this number; stored are 0-3"),
        ("best", [listed(0)], OWN, "has no best adapter: none has been evaluated by what the campaign decides by"),
        (
            "1",
            [listed(0), listed(1, stored=False)],
            OWN,
            "has no adapter 1: its weights are no longer stored; stored are 0",
        ),
        (
            None,
            [listed(0, stored=False, final=True)],
            OWN,
            "has no adapter 0: its weights are no longer stored; none is",
        ),
        ("best-for-me", OVER, own({}), "none was evaluated here: no row is held out; take --adapter best"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(
    which: str | None, adapters: list[OwnAdapter], losses: OwnLosses, says: str
) -> None:
    with pytest.raises(NoSuchAdapter, match=says):
        chosen(which, adapters, losses)


def test_numbers_are_told_as_ranges() -> None:
    assert in_ranges([0, 4, 5, 6, 9]) == "0, 4-6, 9"
