"""The model card of an adapter: what it is, how to load it, where it came from."""

import json
import re
from collections.abc import Sequence
from typing import Any

import yaml

from fedloom.adapters.protection import Protection, protection_section
from fedloom.measured import kind_in_words, measured
from shared.wire.adapters import AdapterView, Origin
from shared.wire.campaigns import CampaignDetail

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")


def model_card(campaign: CampaignDetail, adapter: AdapterView, protection: Protection) -> str:
    """The text of a README.md with front matter as the Hugging Face hub reads it."""
    return "\n".join(
        [
            front_matter(
                campaign.spec.base.model,
                library="peft",
                tags=["lora", "federated-learning", "fedloom", campaign.spec.kind],
            ),
            f"# {campaign.name}, adapter {adapter.number}",
            "",
            *_summary(campaign, adapter),
            "",
            "## Use",
            "",
            *_usage(campaign),
            "",
            "## Lineage",
            "",
            *_lineage(campaign, adapter),
            "",
            *protection_section(campaign.spec, protection, has_origin=bool(campaign.origins)),
            "",
            *_contributors(adapter),
        ]
    )


def front_matter(base_model: str, *, library: str, tags: list[str]) -> str:
    """The front matter of a card, up to and including its closing line."""
    front: dict[str, Any] = {}
    if _HUB_ID.match(base_model):  # the hub rejects a card whose base model is a folder
        front["base_model"] = base_model
    front["library_name"] = library
    front["pipeline_tag"] = "text-generation"
    front["tags"] = tags
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n"


def _summary(campaign: CampaignDetail, adapter: AdapterView) -> list[str]:
    spec = campaign.spec
    origin = (
        f"It is the adapter that the campaign started from{_origin(campaign)}."
        if adapter.number == 0
        else f"It is the global adapter after round {adapter.number} of {spec.rounds}."
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
    if values := measured(campaign, adapter.metrics):
        lines += [
            "",
            f"On held-out rows of {_evaluators(adapter)}, which no client trained on:",
            "",
            "| | |",
            "| --- | --- |",
            *(f"| {each.metric.title} | {each.metric.with_unit(each.value)} |" for each in values),
        ]
    return lines


def _evaluators(adapter: AdapterView) -> str:
    """Whose held-out rows the metrics are of."""
    if adapter.n_clients is None or adapter.n_clients == adapter.of_clients:
        return "all clients"
    return f"{adapter.n_clients} of {adapter.of_clients} clients"


def _usage(campaign: CampaignDetail) -> list[str]:
    base = campaign.spec.base
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
        f"Prompts were written with the `{campaign.spec.data.template}` template.",
    ]


def _lineage(campaign: CampaignDetail, adapter: AdapterView) -> list[str]:
    rows = [
        ("Campaign", f"`{campaign.name}` (`{campaign.id}`)"),
        ("Algorithm", f"`{adapter.algorithm}`"),
        ("Round", f"{adapter.number} of {campaign.spec.rounds}"),
        ("Kind of training", f"`{kind_in_words(campaign.spec)}`"),
        ("Local training", campaign.spec.training.summary),
        ("Data", f"`{campaign.spec.data.name}`, as each owner holds it"),
        ("Created", f"{adapter.created_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("SHA-256", f"`{adapter.blob.sha256}`"),
        ("Parent", f"`{adapter.parent_sha256}`" if adapter.parent_sha256 else "none"),
        *origin_rows(campaign.origins),
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


def _origin(campaign: CampaignDetail) -> str:
    return f", adapter {campaign.origins[0].adapter_number} of another campaign" if campaign.origins else ""


def _contributors(adapter: AdapterView) -> list[str]:
    if not adapter.contributions:
        return []
    return [
        "## Contributors of this round",
        "",
        "| client | agent | rows | weight | update (SHA-256) |",
        "| ---: | --- | ---: | ---: | --- |",
        *(
            f"| {each.client_number} | {each.agent_name} | {each.n_examples} | {each.weight:.4f} "
            f"| `{each.update_sha256}` |"
            for each in adapter.contributions
        ),
        "",
        *_machines(adapter),
    ]


def _machines(adapter: AdapterView) -> list[str]:
    """What the updates were trained on: machines of one kind give equal bits, others do not."""
    clients: dict[str, list[str]] = {}
    for each in adapter.contributions:
        if each.trained_on is not None:
            clients.setdefault(each.trained_on, []).append(str(each.client_number))
    # in code: the clients' own text must not become markup
    lines = (
        f"| {', '.join(numbers)} | `{on.replace('`', ' ').replace('|', ' ')}` |" for on, numbers in clients.items()
    )
    return ["| client | trained on |", "| --- | --- |", *lines, ""] if clients else []
