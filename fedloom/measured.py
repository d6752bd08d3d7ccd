"""Metrics with their values, for people: the campaign says what each metric is."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from shared.campaign.spec import CampaignSpec
from shared.metrics import HELD_OUT_LOSS, LOSSES_OF_STEPS, TRAIN_LOSS_MEAN, Better, Metric, Origin
from shared.wire.campaigns import CampaignDetail, MetricScope

if TYPE_CHECKING:
    from fedloom.client import Client


FEW = 4
"""Most metrics of benchmarks in one line."""
Means = Mapping[str, Mapping[int, float]]
"""Metrics of whole rounds: name to round to value."""
Coverage = Mapping[str, Mapping[int, tuple[int, int]]]
"""Of means: name to round to how many clients' values a mean is over, and how many clients took part."""


class Measured(BaseModel):
    """A metric and its value."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    metric: Metric
    value: float

    def __str__(self) -> str:
        return f"{label(self.metric)} {self.metric.with_unit(self.value)}"


def label(metric: Metric) -> str:
    """What people call a metric: its title, or of a benchmark ``TASK.METRIC``, as the campaign file does."""
    return metric.name if metric.origin is Origin.BENCHMARK else metric.title


def best_in_words(campaign: CampaignDetail) -> str:
    """What makes an adapter the best: "lowest held-out loss", "highest fpb.acc"."""
    name = campaign.spec.evaluation.best
    metric = next((each for each in campaign.metrics if each.name == name), None)
    if metric is None or metric.better is None:
        return f"best {name}"
    return f"{'lowest' if metric.better is Better.LOWER else 'highest'} {label(metric)}"


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


def benchmark_metrics(campaign: CampaignDetail) -> list[Metric]:
    """The metrics of the campaign's benchmarks, with the means over them."""
    return [each for each in campaign.metrics if each.origin is Origin.BENCHMARK]


def main_benchmark_metrics(campaign: CampaignDetail) -> list[Metric]:
    """The first metric of each benchmark, which its publication reports, the means over these, and those by which
    something is decided."""
    metrics, evaluation = benchmark_metrics(campaign), campaign.spec.evaluation
    first: dict[str, str] = {}
    for metric in metrics:
        first.setdefault(metric.name.partition(".")[0], metric.name)
    first.pop(evaluation.suite or "", None)  # its metrics are the means
    main = set(first.values())
    means = {mean.metric.name for mean in evaluation.means if main >= set(mean.over)}
    return [each for each in metrics if each.name in main | means | set(evaluation.decides_by)]


def few_benchmark_metrics(campaign: CampaignDetail) -> list[Metric]:
    """At most FEW of the main metrics of benchmarks, for one line: those that decide, means, then the others."""
    evaluation = campaign.spec.evaluation
    means = {mean.metric.name for mean in evaluation.means}
    main = main_benchmark_metrics(campaign)
    first = sorted(main, key=lambda each: (each.name not in evaluation.decides_by, each.name not in means))[:FEW]
    return [each for each in main if each in first]


def training_metrics(campaign: CampaignDetail) -> list[Metric]:
    """The metrics of trainings that are averaged over the clients: the mean loss, then the kind's own."""
    averaged = [each for each in campaign.metrics if each.origin is Origin.TRAINING and each.weight is not None]
    shown = [each for each in averaged if each.name not in LOSSES_OF_STEPS]
    return sorted(shown, key=lambda metric: metric.name != TRAIN_LOSS_MEAN)


def means_by_round(client: "Client", campaign_id: str) -> tuple[Means, Coverage]:
    """The metrics of whole rounds, and the clients in those that are means."""
    means: dict[str, dict[int, float]] = {}
    coverage: dict[str, dict[int, tuple[int, int]]] = {}
    for row in client.metrics(campaign_id, scope=MetricScope.ROUND):
        means.setdefault(row.name, {})[row.round] = row.value
        if row.n_clients is not None and row.of_clients is not None:
            coverage.setdefault(row.name, {})[row.round] = row.n_clients, row.of_clients
    return means, coverage


def over_clients(coverage: Coverage, name: str, number: int) -> str:
    """How many clients a mean is over: "mean of 2 of 3 clients"; empty if it is no mean, or none is recorded."""
    n_clients, of_clients = coverage.get(name, {}).get(number, (0, 0))
    return f"mean of {n_clients} of {of_clients} client{'s' if of_clients != 1 else ''}" if n_clients else ""


def courses(campaign: CampaignDetail, means: Means, coverage: Coverage) -> list[str]:
    """Each held-out metric's first and last value, "held-out loss 2.3105 → 2.1034 nats a token", then those of a few
    benchmarks.

    The adapter of the last value is named if a newer one has none yet. A line between them says how many clients the
    means are over, if some are missing.
    """
    lines = [*_courses(campaign, means, held_out_metrics(campaign))]
    n_clients, of_clients = max(coverage.get(HELD_OUT_LOSS, {}).items(), default=(0, (0, 0)))[1]
    if lines and n_clients < of_clients:
        lines.append(f"each a mean of {n_clients} of {of_clients} clients")
    return [*lines, *_courses(campaign, means, few_benchmark_metrics(campaign))]


def _courses(campaign: CampaignDetail, means: Means, metrics: Iterable[Metric]) -> Iterator[str]:
    for metric in metrics:
        if rounds := means.get(metric.name):
            first, last = min(rounds), max(rounds)
            begin = f"{metric.text(rounds[first])} → " if len(rounds) > 1 else ""
            of = f" (adapter {last})" if last < campaign.rounds_closed else ""
            yield f"{label(metric)} {begin}{metric.with_unit(rounds[last])}{of}"


def values_of_round(campaign: CampaignDetail, means: Means, number: int) -> list[Measured]:
    """The metrics of one round: of its trainings, and of the evaluation of its adapter, with a few of benchmarks."""
    metrics = [*training_metrics(campaign), *held_out_metrics(campaign), *few_benchmark_metrics(campaign)]
    values = {metric.name: means.get(metric.name, {}).get(number) for metric in metrics}
    return [Measured(metric=each, value=value) for each in metrics if (value := values[each.name]) is not None]


def units(metrics: Iterable[Metric]) -> str:
    """The units of metrics: "train loss and held-out loss in nats a token, held-out accuracy in % of pairs"."""
    by_unit: dict[str, list[str]] = {}
    for metric in metrics:
        unit = f"% {metric.unit}" if metric.is_share else metric.unit
        by_unit.setdefault(unit.strip(), []).append(label(metric))
    return ", ".join(f"{' and '.join(titles)} in {unit}" for unit, titles in by_unit.items() if unit)
