"""The model card of an adapter: what it is, how to load it, where it came from."""

import json
import re
from collections.abc import Sequence
from typing import Any

import yaml

from fedloom.adapters.benchmark_section import as_code, benchmark_section, model_index, split
from fedloom.adapters.facts import AdapterFacts
from fedloom.adapters.protection import protection_section
from fedloom.measured import kind_in_words
from fedloom.precision import precision_of_training
from shared.wire.adapters import Origin

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")


def model_card(facts: AdapterFacts) -> str:
    """The text of a README.md with front matter as the Hugging Face hub reads it."""
    return "\n".join(
        [
            front_matter(
                facts.spec.base.model,
                library="peft",
                tags=["lora", "federated-learning", "fedloom", facts.spec.kind],
                index=model_index(facts.spec.name, facts.metrics, facts.benchmarks),
            ),
            f"# {facts.spec.name}, adapter {facts.number}",
            "",
            *_summary(facts),
            "",
            *benchmark_section(facts.metrics, facts.benchmarks, facts.spec.evaluation, chosen_by=facts.chosen_by),
            "## Use",
            "",
            *_usage(facts),
            "",
            "## Lineage",
            "",
            *_lineage(facts),
            "",
            *protection_section(facts.spec, facts.protection, number=facts.number, has_origin=_has_origin(facts)),
            "",
            *_contributors(facts),
        ]
    )


def front_matter(base_model: str, *, library: str, tags: list[str], index: Sequence[dict[str, Any]] = ()) -> str:
    """The front matter of a card, up to and including its closing line.

    Args:
        base_model: as the campaign names it.
        library: which loads the model.
        tags: for the hub's search.
        index: the ``model-index``; empty for none.
    """
    front: dict[str, Any] = {}
    if _HUB_ID.match(base_model):  # the hub rejects a card whose base model is a folder
        front["base_model"] = base_model
    front["library_name"] = library
    front["pipeline_tag"] = "text-generation"
    front["tags"] = tags
    if index:
        front["model-index"] = [*index]
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n"


def _summary(facts: AdapterFacts) -> list[str]:
    spec = facts.spec
    origin = (
        f"It is the adapter that the campaign started from{_origin(facts)}."
        if facts.number == 0
        else f"It is the global adapter after round {facts.number} of {spec.rounds}."
    )
    lines = [
        f"A LoRA adapter (rank {spec.lora.rank}, alpha {spec.lora.alpha:g}) for `{spec.base.model}`"
        + (f" at revision `{spec.base.revision}`" if spec.base.revision else "")
        + ", fine-tuned by Fedloom on data that never left its owners.",
        origin,
    ]
    if spec.base.quantization is not None:
        lines += [
            "",
            f"In training and evaluation the base was quantised to {spec.base.quantization} by bitsandbytes. On the "
            "published weights the adapter gives slightly different answers.",
        ]
    if rounded := precision_of_training(spec.base):
        lines += ["", rounded]
    if held_out := split(facts.metrics)[0]:
        lines += [
            "",
            f"On held-out rows of {_evaluators(facts)}, which no client trained on:",
            "",
            "| | |",
            "| --- | --- |",
            *(f"| {each.metric.title} | {each.metric.with_unit(each.value)} |" for each in held_out),
        ]
    return lines


def _evaluators(facts: AdapterFacts) -> str:
    """Whose held-out rows the metrics are of."""
    if facts.n_clients is None or facts.n_clients == facts.of_clients:
        return "all clients"
    return f"{facts.n_clients} of {facts.of_clients} clients"


def _usage(facts: AdapterFacts) -> list[str]:
    base = facts.spec.base
    revision = f", revision={json.dumps(base.revision)}" if base.revision else ""
    return [
        "```python",
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM",
        "",
        f"base = AutoModelForCausalLM.from_pretrained({json.dumps(base.model)}{revision})",
        'model = PeftModel.from_pretrained(base, "path/to/this/folder")',
        "```",
        "",
        f"Prompts were written with the `{facts.spec.data.template}` template.",
    ]


def _lineage(facts: AdapterFacts) -> list[str]:
    rows = [
        ("Campaign", f"`{facts.spec.name}` (`{facts.campaign_id}`)"),
        ("Algorithm", f"`{facts.spec.algorithm.name}`"),
        ("Round", f"{facts.number} of {facts.spec.rounds}"),
        ("Kind of training", f"`{kind_in_words(facts.spec)}`"),
        ("Local training", facts.spec.training.summary),
        ("Updates", f"sent in `{facts.spec.wire}`"),
        ("Data", f"`{facts.spec.data.name}`, as each owner holds it"),
        ("Created", f"{facts.created_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("SHA-256", f"`{facts.blob.sha256}`"),
        ("Parent", f"`{facts.parent_sha256}`" if facts.parent_sha256 else "none"),
        *_origin_rows(facts),
    ]
    return ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]


def origin_rows(origins: Sequence[Origin]) -> list[tuple[str, str]]:
    """Lineage rows for the adapters of a chain of campaigns, newest first."""
    return [
        (
            "Started from" if place == 0 else "which started from",
            f"adapter {origin.adapter_number} of `{origin.campaign_name}` (`{origin.campaign_id}`, {origin.kind}), "
            f"`{origin.sha256}`",
        )
        for place, origin in enumerate(origins)
    ]


def _origin_rows(facts: AdapterFacts) -> list[tuple[str, str]]:
    if facts.origins or facts.spec.start_from is None:
        return origin_rows(facts.origins)
    digest = f", `{facts.spec.start_sha256}`" if facts.spec.start_sha256 is not None else ""
    return [("Started from", f"`{facts.spec.start_from}`{digest}")]


def _has_origin(facts: AdapterFacts) -> bool:
    return bool(facts.origins) or facts.spec.start_from is not None


def _origin(facts: AdapterFacts) -> str:
    if facts.origins:
        return f", adapter {facts.origins[0].adapter_number} of another campaign"
    return ", one of another campaign" if _has_origin(facts) else ""


def _contributors(facts: AdapterFacts) -> list[str]:
    if not facts.contributions:
        return []
    return [
        "## Contributors of this round",
        "",
        "| client | agent | rows | weight | update (SHA-256) |",
        "| ---: | --- | ---: | ---: | --- |",
        *(
            f"| {each.client_number} | {each.agent_name} | {each.n_examples} | {each.weight:.4f} "
            f"| `{each.update_sha256}` |"
            for each in facts.contributions
        ),
        "",
        *_machines(facts),
    ]


def _machines(facts: AdapterFacts) -> list[str]:
    """What the updates were trained on: machines of one kind give equal bits, others do not."""
    clients: dict[str, list[str]] = {}
    for each in facts.contributions:
        if each.trained_on is not None:
            clients.setdefault(each.trained_on, []).append(str(each.client_number))
    lines = (f"| {', '.join(numbers)} | {as_code(on)} |" for on, numbers in clients.items())
    return ["| client | trained on |", "| --- | --- |", *lines, ""] if clients else []
