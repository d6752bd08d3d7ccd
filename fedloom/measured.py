"""Metrics with their values, for people: the campaign says what each metric is."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from shared.campaign.spec import CampaignSpec
from shared.metrics import HELD_OUT_LOSS, Metric, Origin
from shared.wire.campaigns import CampaignDetail

if TYPE_CHECKING:
    from fedloom.client import Client


class Measured(BaseModel):
    """A metric and its value."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    metric: Metric
    value: float

    def __str__(self) -> str:
        return f"{self.metric.title} {self.metric.with_unit(self.value)}"


def kind_in_words(spec: CampaignSpec) -> str:
    """The kind of training with its parameters: "dpo beta=0.1 loss=sigmoid"."""
    return " ".join([spec.kind, *(f"{name}={value}" for name, value in spec.kind_params.items())])


def measured(campaign: CampaignDetail, values: Mapping[str, float]) -> list[Measured]:
    """Values by name as measured metrics, in the order of the campaign's metrics."""
    return [Measured(metric=each, value=values[each.name]) for each in campaign.metrics if each.name in values]


def held_out_metrics(campaign: CampaignDetail) -> list[Metric]:
    """The metrics of the evaluation of global adapters that are averaged over the clients, the loss first."""
    averaged = [each for each in campaign.metrics if each.origin is Origin.EVALUATION and each.weight is not None]
    return sorted(averaged, key=lambda metric: metric.name != HELD_OUT_LOSS)


def by_round(client: "Client", campaign_id: str, name: str) -> dict[int, float]:
    """A metric of whole rounds, by round."""
    rows = client.metrics(campaign_id, name)
    return {row.round: row.value for row in rows if row.client_number is None}


def held_out_by_round(client: "Client", campaign: CampaignDetail) -> dict[str, dict[int, float]]:
    """The held-out metrics that have values: name to round to value."""
    found = {metric.name: by_round(client, campaign.id, metric.name) for metric in held_out_metrics(campaign)}
    return {name: values for name, values in found.items() if values}


def courses(campaign: CampaignDetail, values: Mapping[str, Mapping[int, float]]) -> list[str]:
    """Each held-out metric's first and last value: "held-out loss 2.3105 → 2.1034 nats a token"."""
    lines = []
    for metric in held_out_metrics(campaign):
        if rounds := values.get(metric.name):
            first, last = rounds[min(rounds)], rounds[max(rounds)]
            begin = f"{metric.text(first)} → " if len(rounds) > 1 else ""
            lines.append(f"{metric.title} {begin}{metric.with_unit(last)}")
    return lines


def units(metrics: Iterable[Metric]) -> str:
    """The units of metrics: "train loss and held-out loss in nats a token, held-out accuracy in % of pairs"."""
    by_unit: dict[str, list[str]] = {}
    for metric in metrics:
        unit = f"% {metric.unit}" if metric.is_share else metric.unit
        by_unit.setdefault(unit.strip(), []).append(metric.title)
    return ", ".join(f"{' and '.join(titles)} in {unit}" for unit, titles in by_unit.items() if unit)
