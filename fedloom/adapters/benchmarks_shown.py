"""Benchmarks of a campaign in words and as rows: what is asked, what it gave, and why something did not run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedloom.measured import benchmark_metrics
from shared.benchmarks import benchmarks
from shared.campaign import measured
from shared.campaign.evaluation import EvaluationSection
from shared.campaign.spec import CampaignSpec
from shared.states import ParticipantState
from shared.wire.benchmarks import BenchmarkView
from shared.wire.campaigns import CampaignDetail

if TYPE_CHECKING:
    from fedloom.client import Client

BENCHMARK_COLUMNS = (
    "adapter", "metric", "value", "benchmark", "n", "n_asked", "n_published", "items_sha256", "agent", "not_run",
)  # fmt: skip
_NAMES_SHOWN = 8


def rhythm(every: int) -> str:
    """How often: "after every round", "after every 5 rounds"."""
    return "after every round" if every == 1 else f"after every {every} rounds"


def asked_in_words(evaluation: EvaluationSection, *, n_names: int | None = _NAMES_SHOWN) -> str:
    """Which benchmarks run, on how much, how often; empty if none does. n_names: most names; None for all."""
    names = evaluation.benchmarks
    if not names:
        return ""
    shown = ", ".join(names[:n_names]) + (f" and {len(names) - n_names} more" if n_names and names[n_names:] else "")
    of_suite = f"suite {evaluation.suite}: " if evaluation.suite is not None and not evaluation.tasks else ""
    limit = f", at most {evaluation.limit} items of each (seed {evaluation.seed})" if evaluation.limit else ""
    return f"{of_suite}{shown}{limit}, {rhythm(evaluation.tasks_every or evaluation.every)}"


def stop_in_words(evaluation: EvaluationSection) -> str:
    """When a campaign ends early; empty without such a rule."""
    if (stop := evaluation.stop) is None:
        return ""
    n = f"{stop.patience} evaluation{'s in a row' if stop.patience > 1 else ''}"
    if not stop.min_delta:
        return f"stops after {n} without a better {evaluation.stop_metric}"
    return f"stops after {n} without {evaluation.stop_metric} improving by more than {stop.min_delta:g}"


def stop_standing(campaign: CampaignDetail) -> str:
    """When the campaign ends early, and how that stands by its coordinator; empty without such a rule."""
    rule, stands = stop_in_words(campaign.spec.evaluation), campaign.stop
    if not rule:
        return ""
    if stands is None:
        return f"{rule}; no adapter has it yet"
    metric = next((each for each in campaign.metrics if each.name == stands.metric), None)
    value = metric.with_unit(stands.best_value) if metric is not None else f"{stands.best_value:g}"
    return f"{rule}; {stands.waited} so far, since adapter {stands.best_adapter} ({value})"


def measuring_in_words(spec: CampaignSpec) -> list[str]:
    """What is measured on the adapters of a campaign and decided by it, and what owners have to allow for that."""
    evaluation = spec.evaluation
    rows = f"each adapter is evaluated on held-out rows {rhythm(evaluation.every)}" if evaluation.every else ""
    lines = [rows or "adapters are not evaluated on held-out rows"]
    if names := evaluation.benchmarks:
        lines.append(f"benchmarks run on the adapters: {asked_in_words(evaluation)}")
        named = [*([evaluation.suite] if evaluation.suite else []), *(evaluation.tasks or ())]
        suites = ", ".join(f'"{name}"' for name in dict.fromkeys(named))
        lines.append(
            f"at agents whose agent.toml allows them (policy.suites = [{suites}]) and whose [evaluation] data folder "
            "has their data; one agent for each benchmark is enough"
        )
        if code := [name for name in names if benchmarks()[name].runs_code]:
            lines.append(f"these run programs that the model writes, in a sandbox: {', '.join(code)}")
    if evaluation.asks_for_a_decision:
        lines.append(f"the best adapter is chosen by {evaluation.best}")
        if rule := stop_in_words(evaluation):
            lines.append(f"{rule}{'' if _can_stop(spec) else '; with so few evaluations that never happens'}")
        lines.append("if no adapter can be measured by that, the campaign pauses and says why")
    return lines


def _can_stop(spec: CampaignSpec) -> bool:
    """Whether enough adapters are evaluated before the last round for the campaign to end early."""
    evaluation = spec.evaluation
    if evaluation.stop is None:
        return False
    by_benchmarks = evaluation.stop_metric in measured.benchmark_metrics(evaluation)
    is_measured = evaluation.by_benchmarks if by_benchmarks else evaluation.on_held_out_rows
    n = sum(is_measured(number, spec.rounds) for number in range(1, spec.rounds))
    return n >= evaluation.stop.patience


def unoffered(campaign: CampaignDetail) -> list[str]:
    """The benchmarks that no agent runs which takes part; empty while all agents still prepare, and at the end."""
    parts = [each for each in campaign.participants if each.state is ParticipantState.PREPARED and not each.revoked]
    if campaign.state.is_final or not parts:
        return []
    offered = {name for each in parts for name in each.benchmarks}
    return [name for name in campaign.spec.evaluation.benchmarks if name not in offered]


def reasons_grouped(views: Sequence[BenchmarkView]) -> dict[str, list[str]]:
    """Why benchmarks gave no number: the reason, and the names of those that have it."""
    grouped: dict[str, list[str]] = {}
    for view in views:
        if view.not_run:
            grouped.setdefault(view.not_run, []).append(view.name)
    return grouped


def benchmark_rows(client: "Client", campaign: CampaignDetail) -> Iterator[Mapping[str, Any]]:
    """What benchmarks gave of each adapter, with BENCHMARK_COLUMNS: a row for each value, and for each benchmark
    without one. A mean over benchmarks has no items of its own."""
    names = [metric.name for metric in benchmark_metrics(campaign)]
    for adapter in client.adapters(campaign.id):
        if not adapter.benchmarks:
            continue
        views = {view.name: view for view in adapter.benchmarks}
        for name in names:
            if name in adapter.metrics:
                value = {"adapter": adapter.number, "metric": name, "value": adapter.metrics[name]}
                of = views.get(name.partition(".")[0])
                yield value | (_items(of) if of is not None else {})
        for view in adapter.benchmarks:
            if view.not_run:
                yield {"adapter": adapter.number, "benchmark": view.name, "not_run": view.not_run}


def _items(view: BenchmarkView) -> dict[str, Any]:
    counts = {"n": view.n, "n_asked": view.n_asked, "n_published": view.n_published}
    return {"benchmark": view.name, **counts, "items_sha256": view.items_sha256, "agent": view.agent_name}
