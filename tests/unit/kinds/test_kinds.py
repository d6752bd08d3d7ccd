"""Kinds of training by name: the bundled ones, broken plug-ins, and a campaign's section of its kind."""

import re
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, ValidationError
from pydantic_core import PydanticCustomError

from shared import kinds
from shared.campaign.sections import FROM_COORDINATOR
from shared.campaign.spec import CampaignSpec
from shared.kinds import KindSection
from shared.kinds.dpo import Section
from shared.metrics import Metric, Origin, Weight, losses
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
    assert (sft.completions, sft.compares) == (("completion",), False)
    assert (dpo.completions, dpo.compares) == (("chosen", "rejected"), True)
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


def more(n: int = 1, **fields: Any) -> Any:
    extra = [Metric(name=f"more_{i}", title="more", **fields) for i in range(n)]
    return changed(METRICS=(*Good.METRICS, *extra))


class Demanding(KindSection):
    beta: float


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (type("Module", (), {"Section": KindSection}), "its module has no COMPLETIONS, LABELS, METRICS"),
        (changed(Section=dict), "its Section is not derived from shared.kinds.KindSection"),
        (changed(COMPLETIONS=()), "its COMPLETIONS are empty"),
        (changed(COMPLETIONS=("a", "a")), "its COMPLETIONS are empty, or COMPLETIONS and LABELS name a column twice"),
        (changed(LABELS=("completion",)), "its COMPLETIONS are empty, or COMPLETIONS and LABELS name a"),
        (changed(LABELS="weight"), "its LABELS are a text, not a tuple (a comma is missing)"),
        (changed(LABELS=("prompt",)), "its columns may not be called prompt"),
        (changed(Section=Demanding), "its Section has fields without a default"),
        (changed(METRICS=Good.METRICS[0]), "checking it ended in AttributeError; the log has the reason"),
        (changed(METRICS=[Good.METRICS]), "checking it ended in AttributeError; the log has the reason"),
        (changed(COMPLETIONS=None), "checking it ended in TypeError; the log has the reason"),
        (changed(METRICS=()), "its METRICS lack held_out_loss as an evaluation's, with a weight, lower being better"),
        (changed(METRICS=losses("nats", Weight.UPDATE)), "held_out_loss: a metric of evaluation has no weight update"),
        (
            changed(METRICS=[each.model_copy(update={"origin": Origin.TRAINING}) for each in Good.METRICS]),
            "its METRICS lack held_out_loss as",
        ),
        (
            changed(METRICS=[each.model_copy(update={"better": "higher"}) for each in Good.METRICS]),
            "its METRICS lack held_out_loss as",
        ),
        (
            more(origin=Origin.TRAINING, weight=Weight.ROWS),
            "more_0: a metric of training has no weight rows; known are up",
        ),
        (more(origin=Origin.ROUND), "its METRICS have one of a round, which only the coordinator measures"),
        (more(origin=Origin.TRAINING, minimum=2, maximum=1), "more_0: its minimum is above its maximum"),
        (more(70, origin=Origin.TRAINING), "it has 84 metrics, more than 64"),
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


def test_a_kind_with_the_name_of_a_field_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        def load(self) -> Any:
            return Good

    monkeypatch.setattr(kinds.PLUGINS, "installed", {"training": Entry()})
    with pytest.raises(ValidationError, match="'training' has the name of another field"):
        CampaignSpec.model_validate(CAMPAIGN | {"kind": "training"})


def test_an_error_of_a_kinds_own_type_is_reported_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(KindSection):
        beta: Annotated[float, AfterValidator(odd)] = 1.0

    class Entry:
        def load(self) -> Any:
            return changed(Section=Odd)

    monkeypatch.setattr(kinds.PLUGINS, "installed", {"odd": Entry()})
    with pytest.raises(ValidationError, match="beta is even"):
        CampaignSpec.model_validate(CAMPAIGN | {"kind": "odd", "odd": {"beta": 2}})


def odd(value: float) -> float:
    if value % 2 == 0:
        raise PydanticCustomError("parity", "beta is even")
    return value


def test_a_reader_that_ignores_new_fields_keeps_the_section() -> None:
    raw = CAMPAIGN | {"kind": "dpo", "dpo": {"beta": 0.3}, "new": 1, "lora": {"rank": 4, "newer": 2}}
    spec = CampaignSpec.model_validate(raw, context=FROM_COORDINATOR, extra="ignore")
    assert spec.kind_params == {"beta": 0.3}
    assert spec.model_dump()["dpo"] == {"beta": 0.3}
    assert "new" not in spec.model_dump()


def test_a_section_that_the_kind_no_longer_accepts_is_said_in_words() -> None:
    stored = CampaignSpec.model_validate(CAMPAIGN | {"kind": "dpo", "dpo": {"gamma": 1}}, context=FROM_COORDINATOR)
    assert "'dpo' is installed but cannot be used: it does not accept the campaign's section" in str(
        stored.missing_plugin()
    )
    assert CampaignSpec.model_validate(CAMPAIGN).missing_plugin() is None
    prox = CAMPAIGN | {"algorithm": {"name": "fedprox", "params": {"gone": 1}}}
    stored = CampaignSpec.model_validate(prox, context=FROM_COORDINATOR)
    assert (
        stored.missing_plugin()
        == "the algorithm 'fedprox' does not accept its parameters (Extra inputs are not permitted)"
    )


def test_a_reader_without_the_kind_reads_what_a_coordinator_accepted() -> None:
    raw = CAMPAIGN | {"kind": "kto", "kto": {"beta": 0.5}}
    spec = CampaignSpec.model_validate(raw, context=FROM_COORDINATOR)
    assert (spec.kind, spec.kind_params) == ("kto", {"beta": 0.5})
    assert spec.model_dump(mode="json")["kto"] == {"beta": 0.5}
