"""What a model card says about the protection of the owners' rows."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fedloom.adapters.protection import Protection
from shared.states import RoundState
from shared.wire.adapters import Origin
from shared.wire.campaigns import RoundView
from tests.unit.fedloom.test_adapter_folder import adapter, campaign, model_card

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ORIGIN = Origin(campaign_id="0", campaign_name="first", kind="sft", adapter_number=3, sha256="d" * 64)


def round_of(number: int, *contributors: int, state: RoundState = RoundState.CLOSED) -> RoundView:
    fields = {"eligible": [0, 1, 2, 3], "sampled": [0, 1, 2, 3], "contributors": list(contributors)}
    times = {"opened_at": NOW, "deadline_at": NOW, "closed_at": NOW}
    return RoundView(number=number, state=state, learning_rate=0.1, **times, **fields)


def section(protection: Protection, number: int = 3, origins: list[Origin] | None = None, **changes: Any) -> str:
    """The card's section as one line."""
    detail = campaign(**changes).model_copy(update={"origins": origins or []})
    card = model_card(detail, adapter(number), protection)
    return " ".join(card.partition("## What protected the owners' rows")[2].partition("\n## ")[0].split())


def test_the_counts_are_those_of_the_rounds_up_to_the_adapter() -> None:
    rounds = [round_of(1, 0, 1, 2), round_of(2, 0, 3), round_of(3, 0, 1, 2, 3), round_of(4, 5)]
    rounds.append(round_of(2, 7, state=RoundState.CANCELLED))
    assert Protection.of(rounds, 3) == Protection(n_rounds=3, n_clients=4, least_updates=2)
    assert Protection.of(rounds, 1) == Protection(n_rounds=1, n_clients=3, least_updates=3)
    assert Protection.of(rounds, 0) == Protection(n_rounds=0, n_clients=0, least_updates=0)


def test_the_card_says_what_held_and_what_did_not() -> None:
    text = section(Protection(n_rounds=3, n_clients=4, least_updates=3))
    for fact in (
        "4 clients trained it in 3 rounds, each of at least 3 updates.",
        "The coordinator deleted each update when its round closed (`retention.updates: 0`).",
        "Single updates were read by aggregation and verification alone",
        "There was no secure aggregation",
        "There was no differential privacy: whoever has this adapter may find out whether a text was among the rows",
    ):
        assert fact in text


@pytest.mark.parametrize(
    ("kept", "words"), [(1, "the campaign's newest round, to"), (2, "the campaign's newest 2 rounds, to")]
)
def test_the_card_says_for_how_many_rounds_updates_are_kept(kept: int, words: str) -> None:
    text = section(Protection(n_rounds=3, n_clients=4, least_updates=3), retention={"updates": kept})
    assert words in text
    assert f"(`retention.updates: {kept}`)" in text
    assert "deleted each update" not in text


@pytest.mark.parametrize(
    ("least", "words"),
    [(1, "the adapters before and after it tell what that update was"), (2, "each of the two clients can work out")],
)
def test_the_card_says_what_few_updates_give_away(least: int, words: str) -> None:
    assert words in section(Protection(n_rounds=1, n_clients=3, least_updates=least))
    assert words not in section(Protection(n_rounds=1, n_clients=3, least_updates=3))


def test_an_adapter_that_nobody_trained_holds_no_row() -> None:
    nothing = Protection(n_rounds=0, n_clients=0, least_updates=0)
    assert section(nothing, number=0).startswith("No row of any owner is in it")
    chained = section(nothing, number=0, origins=[ORIGIN])
    assert "No row" not in chained
    assert "The rounds of other campaigns that made this adapter are not counted here" in chained
    later = section(Protection(n_rounds=3, n_clients=4, least_updates=3), origins=[ORIGIN])
    assert "that made the adapter that the campaign started from are not counted here" in later
