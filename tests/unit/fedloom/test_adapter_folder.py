"""The configuration and the model card of an adapter's folder."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from fedloom.adapters import model_card as cards
from fedloom.adapters.facts import AdapterFacts
from fedloom.adapters.folder import peft_config, target_modules
from fedloom.adapters.protection import Protection
from shared.campaign.spec import CampaignSpec
from shared.kinds import find
from shared.wire.adapters import AdapterView, Contribution, Origin
from shared.wire.base import BlobRef
from shared.wire.campaigns import CampaignDetail


def spec(**changes: Any) -> CampaignSpec:
    fields = {"name": "clinic", "base": {"model": "org/model", "revision": "main"}, "training": {"steps": 2}}
    return CampaignSpec.model_validate({**fields, "data": {"name": "notes"}, "rounds": 3, **changes})


def model_card(detail: CampaignDetail, shown: AdapterView, protection: Protection) -> str:
    """The card that an operator gets."""
    return cards.model_card(AdapterFacts.of(detail, shown, protection))


def names(*modules: str) -> list[str]:
    return [f"base_model.model.{module}.lora_{half}.weight" for module in modules for half in "AB"]


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        (["model.layers.0.self_attn.q_proj", "model.layers.11.self_attn.q_proj"], ["q_proj"]),
        (["model.layers.0.mlp.down_proj", "model.layers.0.self_attn.q_proj"], ["down_proj", "q_proj"]),
        (["transformer.h.0.attn.c_attn"], ["c_attn"]),
        (["encoder.0.net.1"], ["net.1"]),  # "1" alone would match the second entry of any module list
    ],
)
def test_all_linear_becomes_the_modules_of_the_tensors(modules: list[str], expected: list[str]) -> None:
    assert target_modules(spec(), names(*modules)) == expected


def test_modules_that_the_campaign_names_are_kept() -> None:
    campaign = spec(lora={"target_modules": ["v_proj", "q_proj"]})
    assert target_modules(campaign, names("model.layers.0.self_attn.q_proj")) == ["q_proj", "v_proj"]


def test_config_says_what_peft_and_vllm_ask_for() -> None:
    config = peft_config(spec(lora={"rank": 4, "alpha": 32, "dropout": 0.1}), names("a.q_proj"))
    assert config["peft_type"] == "LORA"
    assert config["task_type"] == "CAUSAL_LM"
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 32, 0.1)
    assert type(config["lora_alpha"]) is int
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/model", "main")
    assert config["inference_mode"] is True
    assert config["bias"] == "none"
    assert peft_config(spec(lora={"alpha": 2.5}), [])["lora_alpha"] == 2.5


def campaign(**changes: Any) -> CampaignDetail:
    return CampaignDetail(
        id="1", name="clinic", state="completed", reason=None, rounds_closed=3, rounds=3,
        created_at=datetime(2026, 1, 1, tzinfo=UTC), ended_at=None, final_adapter=3, best_adapter=3,
        spec=spec(**changes), spec_sha256="d" * 64, participants=[], metrics=list(find("sft").metrics.values()),
    )  # fmt: skip


def adapter(number: int = 3) -> AdapterView:
    share = Contribution(
        client_number=0, agent_name="ada", update_sha256="c" * 64, extras_sha256=None, n_examples=30, weight=0.75
    )
    return AdapterView(
        number=number, blob=BlobRef(sha256="a" * 64, n_bytes=8), stored=True, parent_sha256="b" * 64,
        algorithm="fedavg", contributions=[share] if number else [], created_at=datetime(2026, 1, 2, tzinfo=UTC),
        metrics={"held_out_loss": 1.25},
    )  # fmt: skip


PROTECTION = Protection(n_rounds=3, n_clients=4, least_updates=3)


def front_matter(card: str) -> dict[str, Any]:
    _, front, _ = card.split("---\n", 2)
    loaded: dict[str, Any] = yaml.safe_load(front)
    return loaded


def test_card_has_front_matter_for_the_hub() -> None:
    front = front_matter(model_card(campaign(), adapter(), PROTECTION))
    assert front["base_model"] == "org/model"
    assert front["library_name"] == "peft"
    assert "federated-learning" in front["tags"]


@pytest.mark.parametrize("model", ["/models/llama", "./llama", "C:\\models", "a: b --- x: y"])
def test_a_base_model_that_is_a_folder_stays_out_of_the_front_matter(model: str) -> None:
    card = model_card(campaign(base={"model": model}), adapter(), PROTECTION)
    assert set(front_matter(card)) == {"library_name", "pipeline_tag", "tags"}
    assert json.dumps(model) in card


def test_card_shows_the_lineage() -> None:
    card = model_card(campaign(wire="int8"), adapter(), PROTECTION)
    for fact in (
        "sent in `int8`",
        "a" * 64,
        "b" * 64,
        "c" * 64,
        "ada",
        "0.7500",
        "| held-out loss | 1.2500 nats a token |",
        "after round 3 of 3",
        "fedavg",
    ):
        assert fact in card


def test_card_says_whose_held_out_rows_its_numbers_are_of() -> None:
    some, everyone = ({"n_clients": number, "of_clients": 3} for number in (2, 3))
    assert "On held-out rows of 2 of 3 clients, which" in model_card(
        campaign(), adapter().model_copy(update=some), PROTECTION
    )
    for covered in ({}, everyone):
        assert "On held-out rows of all clients, which" in model_card(
            campaign(), adapter().model_copy(update=covered), PROTECTION
        )
    unknown = model_card(campaign(), adapter().model_copy(update={"metrics": {}}), PROTECTION)
    assert "held-out" not in unknown, "an adapter that nobody evaluated has no numbers"


def test_card_lists_what_the_updates_were_trained_on_as_text() -> None:
    shown, usual = adapter(), "an Epyc, 2 threads; torch 2.13.0"
    others = [
        shown.contributions[0].model_copy(update={"client_number": number, "trained_on": on})
        for number, on in enumerate((usual, "` | [x](http://y) <b>", usual))
    ]
    card = model_card(campaign(), shown.model_copy(update={"contributions": others}), PROTECTION)
    assert f"| 0, 2 | `{usual}` |\n| 1 | `    [x](http://y) <b>` |" in card
    assert "| trained on |" not in model_card(campaign(), shown, PROTECTION)


def test_card_of_adapter_0_has_no_contributors() -> None:
    card = model_card(campaign(), adapter(0), PROTECTION)
    assert "started from" in card
    assert "Contributors" not in card


def test_card_shows_the_chain_of_campaigns() -> None:
    origins = [
        Origin(campaign_id=f"c{n}", campaign_name=name, kind="sft", adapter_number=n, sha256=f"{n}" * 64)
        for n, name in enumerate(("second", "first"))
    ]
    chained = campaign().model_copy(update={"origins": origins})
    card = model_card(chained, adapter(), PROTECTION)
    assert f"| Started from | adapter 0 of `second` (`c0`, sft), `{'0' * 64}` |" in card
    assert f"| which started from | adapter 1 of `first` (`c1`, sft), `{'1' * 64}` |" in card
    assert "the campaign started from, adapter 0 of another campaign." in model_card(chained, adapter(0), PROTECTION)
    assert "tarted from |" not in model_card(campaign(), adapter(), PROTECTION)


def test_card_says_how_the_base_was_quantised_in_training() -> None:
    quantized = {"model": "org/model", "quantization": "nf4"}
    assert "the base was quantised to nf4" in model_card(campaign(base=quantized), adapter(), PROTECTION)
    assert "quantised" not in model_card(campaign(), adapter(), PROTECTION)


def test_card_says_how_the_base_was_rounded_on_cpus() -> None:
    def card(cpu_dtype: str) -> str:
        return model_card(campaign(base={"model": "org/model", "cpu_dtype": cpu_dtype}), adapter(), PROTECTION)

    assert "on a CPU the base was in bfloat16." in card("bfloat16")
    assert "on a CPU the base was in float32 or bfloat16, by the processor." in card("auto")
    assert "CPU" not in card("float32")
