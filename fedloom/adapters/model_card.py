"""The model card of an adapter: what it is, how to load it, and where it came from."""

import json
import re
from collections.abc import Sequence
from typing import Any

import yaml

from shared.wire.adapters import AdapterView, Origin
from shared.wire.campaigns import CampaignDetail

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")


def model_card(campaign: CampaignDetail, adapter: AdapterView) -> str:
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
            *_contributors(adapter),
        ]
    )


def front_matter(base_model: str, *, library: str, tags: list[str]) -> str:
    """The head of a card, with the empty line after it."""
    front: dict[str, Any] = {}
    if _HUB_ID.match(base_model):  # the hub refuses a card whose base model is a folder
        front["base_model"] = base_model
    front["library_name"] = library
    front["pipeline_tag"] = "text-generation"
    front["tags"] = tags
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n"


def _summary(campaign: CampaignDetail, adapter: AdapterView) -> list[str]:
    spec = campaign.spec
    origin = (
        f"It is the adapter that the campaign started from{_of_another(campaign)}."
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
            f"In training and evaluation the base was quantised to {spec.base.quantization} by bitsandbytes. Over the "
            "weights as they were published the adapter gives slightly other answers.",
        ]
    if adapter.held_out_loss is not None:
        lines += [
            "",
            f"Held-out loss: **{adapter.held_out_loss:.4f}** nats a token, over rows of all clients that training "
            "never saw.",
        ]
    return lines


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
    training = campaign.spec.training
    amount = f"{training.steps} step(s)" if training.steps is not None else f"{training.epochs:g} epoch(s)"
    rows = [
        ("Campaign", f"`{campaign.name}` (`{campaign.id}`)"),
        ("Algorithm", f"`{adapter.algorithm}`"),
        ("Round", f"{adapter.number} of {campaign.spec.rounds}"),
        ("Local training", f"{amount} a round, batch {training.batch_size}, learning rate {training.learning_rate:g}"),
        ("Data", f"`{campaign.spec.data.name}`, as each owner holds it"),
        ("Made", f"{adapter.created_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("SHA-256", f"`{adapter.blob.sha256}`"),
        ("Parent", f"`{adapter.parent_sha256}`" if adapter.parent_sha256 else "none"),
        *origin_rows(campaign.origins),
    ]
    return ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]


def origin_rows(origins: Sequence[Origin]) -> list[tuple[str, str]]:
    """Rows of a lineage on the adapters that a chain of campaigns went through, the newest first."""
    return [
        (
            "Started from" if place == 0 else "which started from",
            f"adapter {one.adapter_number} of `{one.campaign_name}` (`{one.campaign_id}`, {one.kind}), `{one.sha256}`",
        )
        for place, one in enumerate(origins)
    ]


def _of_another(campaign: CampaignDetail) -> str:
    return f", adapter {campaign.origins[0].adapter_number} of another one" if campaign.origins else ""


def _contributors(adapter: AdapterView) -> list[str]:
    if not adapter.contributions:
        return []
    return [
        "## Contributors of this round",
        "",
        "| client | agent | rows | weight | update (SHA-256) |",
        "| ---: | --- | ---: | ---: | --- |",
        *(
            f"| {one.client_number} | {one.agent_name} | {one.n_examples} | {one.weight:.4f} | `{one.update_sha256}` |"
            for one in adapter.contributions
        ),
        "",
    ]
