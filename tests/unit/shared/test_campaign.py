"""The campaign's arithmetic, against numbers worked by hand."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from shared import algorithms
from shared.algorithms import Algorithm, fedavg
from shared.campaign.sections import FROM_COORDINATOR
from shared.campaign.spec import BaseSection, CampaignSpec, SelectionSection, TrainingSection


def training(**values: float) -> TrainingSection:
    return TrainingSection.model_validate({"steps": 1, **values})


def spec(*, rounds: int, every: int) -> CampaignSpec:
    return CampaignSpec.model_validate(
        {
            "name": "c",
            "base": {"model": "m"},
            "training": {"steps": 1},
            "data": {"name": "d"},
            "rounds": rounds,
            "evaluation": {"every": every},
        }
    )


def test_learning_rate_follows_the_cosine_over_rounds() -> None:
    # R = 4, lr = 1, min = 0: cos of 0, π/4, π/2, 3π/4
    section = training(learning_rate=1.0, min_learning_rate=0.0)
    rates = [section.learning_rate_in(number, 4) for number in (1, 2, 3, 4)]
    assert rates == pytest.approx([1.0, 0.8535533905932737, 0.5, 0.14644660940672627])


def test_learning_rate_between_two_bounds() -> None:
    # R = 3, lr = 5, min = 1: 1 + 2 (1 + cos(0)), 1 + 2 (1 + cos(π/3)), 1 + 2 (1 + cos(2π/3))
    section = training(learning_rate=5.0, min_learning_rate=1.0)
    assert [section.learning_rate_in(number, 3) for number in (1, 2, 3)] == pytest.approx([5.0, 4.0, 2.0])


def test_learning_rate_of_the_first_round_is_the_one_that_was_given() -> None:
    section = training(learning_rate=3e-4, min_learning_rate=1e-6)
    assert section.learning_rate_in(1, 100) == pytest.approx(3e-4, rel=1e-12)
    assert section.learning_rate_in(1, 1) == pytest.approx(3e-4, rel=1e-12)


def test_learning_rate_is_constant_without_a_minimum() -> None:
    assert {training(learning_rate=0.3).learning_rate_in(number, 10) for number in range(1, 11)} == {0.3}


def test_a_minimum_equal_to_the_rate_is_constant_too() -> None:
    section = training(learning_rate=0.25, min_learning_rate=0.25)
    assert {section.learning_rate_in(number, 7) for number in range(1, 8)} == {0.25}


@pytest.mark.parametrize(
    ("rounds", "every", "evaluated"),
    [
        (4, 1, [0, 1, 2, 3, 4]),
        (5, 2, [0, 2, 4, 5]),
        (4, 2, [0, 2, 4]),
        (3, 10, [0, 3]),
        (3, 0, []),
        (1, 1, [0, 1]),
    ],
)
def test_evaluates_adapter_0_every_nth_and_the_last(rounds: int, every: int, evaluated: list[int]) -> None:
    campaign = spec(rounds=rounds, every=every)
    assert [number for number in range(rounds + 1) if campaign.evaluates(number)] == evaluated


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"steps": 1}, "1 step"),
        ({"steps": 10**5}, "100000 steps"),
        ({"epochs": 1}, "1 epoch"),
        ({"epochs": 0.5}, "0.5 epochs"),
    ],
)
def test_the_amount_of_training_is_said_in_words(given: dict[str, float], words: str) -> None:
    assert TrainingSection(**given).amount == words


@pytest.mark.parametrize(
    ("epochs", "n_rows", "batch_size", "steps"),
    [
        (1, 160, 16, 10),
        (1, 161, 16, 11),  # the last batch is smaller
        (2, 100, 16, 13),  # 12.5
        (0.5, 100, 10, 5),
        (1.1, 100, 10, 11),  # 1.1 * 100 is 110.00000000000001
        (1, 3, 16, 1),
        (0.001, 3, 16, 1),
        (1, 0, 16, 1),
    ],
)
def test_steps_for_epochs_rounds_up(epochs: float, n_rows: int, batch_size: int, steps: int) -> None:
    assert TrainingSection(epochs=epochs, batch_size=batch_size).steps_for(n_rows) == steps


def test_steps_that_are_given_do_not_depend_on_rows() -> None:
    assert {training(steps=7).steps_for(n_rows) for n_rows in (0, 1, 10**9)} == {7}


def test_a_campaign_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        spec(rounds=1, every=1).rounds = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("section", "minimum"),
    [
        ({}, 3),
        ({"clients_per_round": "all"}, 3),
        ({"clients_per_round": 5}, 3),
        ({"clients_per_round": 3}, 3),
        ({"clients_per_round": 2}, 2),
        ({"clients_per_round": 1}, 1),
        ({"minimum": 1}, 1),
        ({"clients_per_round": 2, "minimum": 1}, 1),
        ({"clients_per_round": 9, "minimum": 7}, 7),
    ],
)
def test_the_minimum_is_three_or_as_many_as_are_drawn_unless_it_is_given(section: Any, minimum: int) -> None:
    made = SelectionSection.model_validate(section)
    assert made.minimum == made.model_dump()["minimum"] == minimum
    for dumped in (made.model_dump(), made.model_dump(exclude_unset=True), json.loads(made.model_dump_json())):
        assert SelectionSection.model_validate(dumped) == made


def test_a_minimum_that_is_given_is_not_lowered() -> None:
    with pytest.raises(ValidationError, match="minimum 3 is above clients_per_round 2"):
        SelectionSection(clients_per_round=2, minimum=3)


def test_a_reply_may_name_an_algorithm_that_is_not_installed_here() -> None:
    body = spec(rounds=1, every=0).model_dump()
    body["algorithm"] = {"name": "theirs", "params": {"beta": 1}}
    with pytest.raises(ValidationError, match="unknown algorithm 'theirs'"):
        CampaignSpec.model_validate(body)
    assert CampaignSpec.model_validate(body, context=FROM_COORDINATOR).algorithm.name == "theirs"


def test_quantization_is_one_of_two() -> None:
    section = spec(rounds=1, every=1).base
    assert section.quantization is None
    for held in ("int8", "nf4"):
        made = BaseSection.model_validate_json(json.dumps({"model": "m", "quantization": held}))
        rest = {"model": "m", "revision": None, "cpu_dtype": "float32"}
        assert made.model_dump(mode="json") == {**rest, "quantization": held}
    with pytest.raises(ValidationError, match="quantization"):
        BaseSection.model_validate({"model": "m", "quantization": "int4"})


def test_a_base_is_float32_on_cpus_unless_the_campaign_says_otherwise() -> None:
    assert spec(rounds=1, every=1).base.cpu_dtype == "float32"
    with pytest.raises(ValidationError, match="'float32', 'bfloat16' or 'auto'"):
        BaseSection.model_validate({"model": "m", "cpu_dtype": "float16"})


@pytest.mark.parametrize(
    ("asked", "decided", "becomes"),
    [
        ("auto", "bfloat16", "bfloat16"),
        ("auto", "float32", "float32"),
        ("auto", None, "float32"),
        ("bfloat16", "float32", "bfloat16"),
        ("float32", "bfloat16", "float32"),
    ],
)
def test_only_what_a_campaign_leaves_open_is_decided(asked: Any, decided: Any, becomes: str) -> None:
    assert BaseSection(model="m", cpu_dtype=asked).decided(decided).cpu_dtype == becomes


def sent(wire: str, algorithm: str) -> CampaignSpec:
    body = spec(rounds=1, every=0).model_dump() | {"wire": wire, "algorithm": {"name": algorithm}}
    return CampaignSpec.model_validate(body)


@pytest.mark.parametrize("own", ["clips", "says so"])
def test_an_algorithm_that_needs_exact_updates_is_refused_with_a_coarser_wire(
    monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    class Server(fedavg.Server):
        exact_updates = own == "says so"

    class Client(fedavg.Client):
        if own == "clips":

            def finish_update(self, delta: Mapping[str, Any]) -> Mapping[str, Any]:
                return delta

    known = {"exact": Algorithm("exact", "", fedavg.Params, Server, Client), "scaffold": algorithms.find("scaffold")}
    monkeypatch.setattr(algorithms, "find", known.__getitem__)
    assert sent("float32", "exact").wire == "float32"
    for wire in ("bfloat16", "int8"):
        assert sent(wire, "scaffold").wire == wire
        with pytest.raises(ValidationError, match="wire: exact needs updates exactly as its clients computed them"):
            sent(wire, "exact")


def test_another_wire_is_refused() -> None:
    with pytest.raises(ValidationError, match="'float32', 'bfloat16' or 'int8'"):
        sent("float16", "fedavg")
