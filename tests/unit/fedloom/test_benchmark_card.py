"""Benchmarks in model cards: values by hand, and the hub's own reader of the front matter."""

from typing import Any

import pytest
from huggingface_hub import ModelCard

import fedloom
from fedloom.adapters.benchmark_section import as_code, benchmark_section
from fedloom.adapters.facts import AdapterFacts
from fedloom.adapters.lineage import Lineage
from fedloom.adapters.model_card import model_card
from fedloom.measured import Measured
from shared.campaign.measured import metrics_of
from shared.wire.adapters import AdapterView
from shared.wire.benchmarks import BenchmarkView
from shared.wire.campaigns import CampaignDetail
from tests.unit.fedloom.test_adapter_folder import PROTECTION, adapter, campaign

EVALUATION = {"suite": "finance", "tasks": ["gsm8k"], "limit": 500, "seed": 3, "best": "fpb.acc"}
VALUES = {"held_out_loss": 1.25, "fpb.acc": 0.615, "gsm8k.strict": 0.25, "finance.mean_of_3_acc": 0.5}
FPB = BenchmarkView(name="fpb", agent_name="ada", n=498, n_asked=500, n_published=4846, items_sha256="ab" * 32)
GSM8K = BenchmarkView(name="gsm8k", agent_name="bob", n=500, n_asked=500, n_published=1319, items_sha256="cd" * 32)
NWGI = BenchmarkView(name="nwgi", not_run="its data is not here")


def measured_campaign(**evaluation: Any) -> CampaignDetail:
    detail = campaign(evaluation={**EVALUATION, **evaluation})
    metrics = list(metrics_of(detail.spec.evaluation, "sft").values())
    return detail.model_copy(update={"metrics": metrics})


def shown(*views: BenchmarkView, values: dict[str, float] | None = None) -> AdapterView:
    metrics = VALUES if values is None else values
    return adapter().model_copy(update={"metrics": metrics, "benchmarks": list(views)})


def card(view: AdapterView, **evaluation: Any) -> str:
    return model_card(AdapterFacts.of(measured_campaign(**evaluation), view, PROTECTION))


def test_the_table_has_value_items_agent_and_digest_and_the_loss_stays_apart() -> None:
    text = card(shown(FPB, GSM8K, NWGI))
    held_out, _, rest = text.partition("## Benchmarks")
    assert "| held-out loss | 1.2500 nats a token |" in held_out
    assert "fpb" not in held_out.partition("# clinic")[2]
    assert [line for line in rest.splitlines() if line.startswith("| `")][:3] == [
        "| `fpb.acc` | 61.5% | 498 of 4846, 500 asked | `ada` | `abababababab` |",
        "| `gsm8k.strict` | 25.0% | 500 of 1319 | `bob` | `cdcdcdcdcdcd` |",
        "| `finance.mean_of_3_acc` | 50.0% | mean of benchmarks |  |  |",
    ]
    assert "Each was reported by one agent of the consortium, and nobody else checked it." in rest
    assert "At most 500 items of each, drawn with seed 3." in rest
    assert f"Written by Fedloom {fedloom.__version__}." in rest
    assert "nwgi gave no number: `its data is not here`." in rest
    assert "chosen as the best of its campaign by `fpb.acc`, so this number is likely better than on other" in rest
    assert "\n\n\n" not in text


def test_an_adapter_that_was_not_chosen_by_a_benchmark_does_not_say_so() -> None:
    assert "chosen as the best" not in card(shown(FPB), best="held_out_loss")
    other = measured_campaign().model_copy(update={"best_adapter": 1})
    assert "chosen as the best" not in model_card(AdapterFacts.of(other, shown(FPB), PROTECTION))


def test_without_benchmarks_there_is_no_section() -> None:
    text = card(shown(values={"held_out_loss": 1.25}))
    assert "Benchmarks" not in text
    assert "model-index" not in text


def test_the_hubs_reader_takes_the_model_index() -> None:
    data = ModelCard(card(shown(FPB, GSM8K, NWGI)), ignore_metadata_errors=False).data
    assert data.model_name == "clinic"
    assert data.eval_results is not None
    assert [
        (each.dataset_type, each.dataset_name, each.metric_type, each.metric_name, each.metric_value)
        for each in data.eval_results
    ] == [("fpb", "FPB", "acc", "fpb.acc", 0.615), ("gsm8k", "GSM8K", "strict", "gsm8k.strict", 0.25)]
    first = data.eval_results[0]
    assert first.task_type == "text-generation"
    assert first.dataset_args == {"items": 498, "asked": 500, "published": 4846, "items_sha256": "ab" * 32}


def test_the_file_for_programs_has_where_each_ran() -> None:
    facts = AdapterFacts.of(measured_campaign(), shown(FPB, NWGI), PROTECTION)
    lineage = Lineage.model_validate_json(Lineage.of(facts).model_dump_json())
    assert lineage.benchmarks == [FPB, NWGI]
    assert {each.metric.name: each.value for each in lineage.metrics} == VALUES


@pytest.mark.parametrize(
    ("text", "safe"), [("a`b|c", "`a b c`"), ("x\n# A heading", "`x\\n# A heading`"), ("<b>", "`<b>`")]
)
def test_what_others_wrote_is_no_markup(text: str, safe: str) -> None:
    assert as_code(text) == safe
    values = [Measured(metric=metrics_of(measured_campaign().spec.evaluation, "sft")["fpb.acc"], value=0.5)]
    view = FPB.model_copy(update={"agent_name": text})
    failed = NWGI.model_copy(update={"not_run": text})
    section = "\n".join(benchmark_section(values, [view, failed], measured_campaign().spec.evaluation))
    assert f"| {safe} | `abababababab` |" in section
    assert f"nwgi gave no number: {safe}." in section
    assert section.count("\n# ") == 0
