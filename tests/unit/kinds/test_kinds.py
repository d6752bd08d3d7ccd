"""Kinds of training by name: the bundled ones, broken plug-ins, and a campaign's section of its kind."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from shared import kinds
from shared.campaign import FROM_COORDINATOR, CampaignSpec
from shared.kinds import KindSection
from shared.kinds.dpo import Section
from shared.metrics import Origin, Weight, losses
from shared.plugins import BrokenPlugin, UnknownPlugin

CAMPAIGN: dict[str, Any] = {
    "name": "c",
    "base": {"model": "m"},
    "training": {"steps": 1},
    "data": {"name": "d"},
    "rounds": 1,
}


def test_the_bundled_kinds_are_two_and_say_what_they_are() -> None:
    assert kinds.bundled() == {"sft", "dpo"}
    sft, dpo = kinds.find("sft"), kinds.find("dpo")
    assert (sft.completions, sft.compares, sft.row_title) == (("completion",), False, "row")
    assert (dpo.completions, dpo.compares, dpo.row_title) == (("chosen", "rejected"), True, "pair")
    assert sft.summary.startswith("Supervised fine-tuning")
    for kind, unit, weight in ((sft, "nats a token", Weight.TOKENS), (dpo, "nats a pair", Weight.ROWS)):
        loss = kind.metrics["held_out_loss"]
        assert (loss.unit, loss.weight, loss.better) == (unit, weight, "lower")
        assert kind.metrics["train_loss_mean"].unit == unit
    own = {metric.name for metric in dpo.metrics_of(Origin.EVALUATION)} - {
        m.name for m in sft.metrics_of(Origin.EVALUATION)
    }
    assert own == {"held_out_margin", "held_out_accuracy"}


@pytest.mark.parametrize("name", ["", "base", "reading", "..base", "sft.Section", "os"])
def test_an_unknown_kind_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownPlugin, match=r"unknown kind of training .* known are dpo, sft"):
        kinds.find(name)


class Good:
    Section = KindSection
    COMPLETIONS = ("completion",)
    LABELS = ()
    METRICS = losses("nats a token", Weight.ROWS)


def changed(**parts: Any) -> Any:
    return type("Module", (Good,), parts)


class Demanding(KindSection):
    beta: float


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (type("Module", (), {"Section": KindSection}), "its module has no COMPLETIONS, LABELS, METRICS"),
        (changed(COMPLETIONS=()), "its COMPLETIONS are empty"),
        (changed(Section=Demanding), "its Section has fields without a default"),
        (changed(METRICS=()), "its METRICS lack held_out_loss with a weight"),
        (
            changed(METRICS=(*Good.METRICS, Good.METRICS[0])),
            "its METRICS are wrong: two metrics are called held_out_loss",
        ),
        (ImportError("no module named x"), "loading it ended in ImportError; the log has the reason"),
    ],
)
def test_a_broken_kind_is_refused_in_words(monkeypatch: pytest.MonkeyPatch, module: Any, reason: str) -> None:
    class Entry:
        def load(self) -> Any:
            if isinstance(module, Exception):
                raise module
            return module

    monkeypatch.setattr(kinds.PLUGINS, "installed", {"broken": Entry()})
    with pytest.raises(BrokenPlugin, match=re.escape(reason)):
        kinds.find("broken")
    with pytest.raises(
        ValidationError, match="'broken' is installed but cannot be used: " + re.escape(reason)
    ) as caught:
        CampaignSpec.model_validate(CAMPAIGN | {"kind": "broken", "rounds": 0})
    assert {error["loc"] for error in caught.value.errors()} == {("kind",), ("rounds",)}


def test_the_section_is_stored_whole_and_read_again() -> None:
    spec = CampaignSpec.model_validate(CAMPAIGN | {"kind": "dpo", "dpo": {"beta": 0.5}})
    dumped = spec.model_dump(mode="json")
    assert dumped["dpo"] == {"beta": 0.5, "loss": "sigmoid", "label_smoothing": 0.0, "reference": "base"}
    assert spec.kind_section() == Section(beta=0.5)
    assert CampaignSpec.model_validate(dumped) == spec
    assert CampaignSpec.model_validate_json(spec.model_dump_json()) == spec
    assert CampaignSpec(**CAMPAIGN | {"kind": "dpo"}, dpo=Section(beta=0.5)) == spec
    assert "sft" not in CampaignSpec.model_validate(CAMPAIGN).model_dump()


def test_a_reader_without_the_kind_reads_what_a_coordinator_accepted() -> None:
    raw = CAMPAIGN | {"kind": "kto", "kto": {"beta": 0.5}}
    spec = CampaignSpec.model_validate(raw, context=FROM_COORDINATOR)
    assert (spec.kind, spec.kind_params) == ("kto", {"beta": 0.5})
    assert spec.model_dump(mode="json")["kto"] == {"beta": 0.5}
