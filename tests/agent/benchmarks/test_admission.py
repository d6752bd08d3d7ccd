"""What a task may ask of benchmarks, and that they are counted apart from work on the owner's rows."""

from typing import Any

import pytest

from agent.benchmarks.admission import MAX_TRIES
from agent.errors import TaskFailed
from agent.orders.jobs import BenchmarkJob
from agent.record.bookings import Totals
from shared.campaign.spec import CampaignSpec
from shared.wire.benchmarks import BenchmarkOffer, BenchmarkScore, OfferedBenchmark
from shared.wire.tasks.results import BenchmarkResult
from tests.agent.benchmarks.parts import measured_spec
from tests.agent.owner import Owner
from tests.agent.parts import SHA, benchmark_assignment, evaluate_assignment

OTHER = {"sha256": "b" * 64, "n_bytes": 10}


def offer_of(*names: str) -> BenchmarkOffer:
    offered = [OfferedBenchmark(name=name, n_items=4, n_published=9, items_sha256=SHA) for name in names]
    return BenchmarkOffer(benchmarks=offered)


def score(name: str, value: float | None = 0.5) -> BenchmarkScore:
    facts: dict[str, Any] = {"name": name, "items_sha256": SHA, "n": 4, "n_asked": 4}
    if value is None:
        return BenchmarkScore(**facts, not_run="the sandbox failed")
    return BenchmarkScore(**facts, values={f"{name}.acc": value})


@pytest.fixture
def spec(owner: Owner) -> CampaignSpec:
    """A campaign that is prepared, and to which all of its benchmarks were offered."""
    spec = measured_spec()
    owner.prepare(spec)
    owner.record.benchmarks.keep_offer("c1", offer_of(*spec.evaluation.benchmarks))
    return spec


def ran(owner: Owner, spec: CampaignSpec, *scores: BenchmarkScore, **changes: Any) -> BenchmarkResult:
    task = benchmark_assignment(spec, benchmarks=[each.name for each in scores], **changes)
    owner.admit(task)
    result = owner.admission.record_scores(owner.settings, task, scores)
    assert isinstance(result, BenchmarkResult)
    return result


def test_a_job_is_derived_from_the_accepted_campaign(owner: Owner) -> None:
    spec = measured_spec(limit=7, seed=3)
    owner.prepare(spec)
    owner.record.benchmarks.keep_offer("c1", offer_of("fiqa", "fpb_likelihood"))
    job = owner.admit(benchmark_assignment(spec, benchmarks=["fpb_likelihood"])).job
    assert isinstance(job, BenchmarkJob)
    assert ([each.name for each in job.benchmarks], job.limit, job.seed) == (["fpb_likelihood"], 7, 3)
    assert (job.base, job.lora, job.round) == (spec.base, spec.lora, 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"benchmarks": ["gsm8k"]}, "benchmarks: the accepted campaign does not name gsm8k"),
        ({"benchmarks": ["fiqa", "fiqa"]}, "benchmarks: one is named twice"),
        ({"round": 4}, "round: 4 is beyond rounds = 3 of the accepted campaign"),
        (
            {"fingerprint": dict.fromkeys(("weights", "config", "tokenizer", "template"), "c" * 64)},
            "fingerprint.weights",
        ),
        ({"spec_sha256": "d" * 64}, "spec_sha256: it is not"),
    ],
)
def test_what_contradicts_the_campaign_is_refused(
    owner: Owner, spec: CampaignSpec, changes: dict[str, Any], words: str
) -> None:
    assert owner.mismatch(benchmark_assignment(spec, **{"benchmarks": ["fiqa"], **changes})).startswith(words)
    assert owner.record.benchmarks.count("c1") == 0


def test_what_was_not_offered_is_refused(owner: Owner) -> None:
    spec = measured_spec()
    owner.prepare(spec)
    owner.record.benchmarks.keep_offer("c1", offer_of("fiqa"))
    words = "benchmarks: this agent did not offer to run tfns_likelihood"
    assert owner.mismatch(benchmark_assignment(spec, benchmarks=["fiqa", "tfns_likelihood"])) == words
    owner.record.benchmarks.keep_offer("c1", offer_of())  # the task may be older than this offer
    assert owner.admit(benchmark_assignment(spec, benchmarks=["fiqa"])).answer is None


def test_settings_that_no_longer_name_a_benchmark_refuse_it(owner: Owner, spec: CampaignSpec) -> None:
    owner.change(policy=owner.settings.policy.model_copy(update={"suites": ["medical", "fiqa"]}))
    task = benchmark_assignment(spec, benchmarks=["fiqa", "fpb_likelihood"])
    assert owner.by_policy(task) == (
        'fpb_likelihood would be run, and policy.suites = ["medical", "fiqa"] (to allow it, add it there)'
    )
    assert owner.admit(benchmark_assignment(spec, benchmarks=["fiqa"])).job.kind == "benchmark"


def test_the_adapter_counts_as_a_download(owner: Owner, spec: CampaignSpec) -> None:
    owner.change(policy=owner.settings.policy.model_copy(update={"max_download_bytes": 9}))
    task = benchmark_assignment(spec, benchmarks=["fiqa"])
    assert owner.by_policy(task) == "10 bytes are to be downloaded, and policy.max_download_bytes = 9"


def test_a_number_is_measured_once_and_sent_again(owner: Owner, spec: CampaignSpec) -> None:
    first = ran(owner, spec, score("fiqa"), score("fpb_likelihood", None))
    again = owner.admit(benchmark_assignment(spec, benchmarks=["fiqa"]))
    assert again.answer == BenchmarkResult(scores=first.scores[:1])
    left = owner.admit(benchmark_assignment(spec, benchmarks=["fpb_likelihood", "fiqa"]))
    assert left.answer is None  # what gave no number runs again
    assert isinstance(left.job, BenchmarkJob)
    assert [each.name for each in left.job.benchmarks] == ["fpb_likelihood"]
    assert ran(owner, spec, score("fiqa", 0.9), score("fpb_likelihood", 0.25)).scores == [
        score("fiqa"),
        score("fpb_likelihood", 0.25),
    ]
    assert owner.record.benchmarks.count("c1") == 2


def test_a_benchmark_without_a_number_is_begun_a_bounded_number_of_times(owner: Owner, spec: CampaignSpec) -> None:
    for _ in range(MAX_TRIES - 1):
        assert owner.admit(benchmark_assignment(spec, benchmarks=["fpb_likelihood", "fiqa"])).answer is None
    ran(owner, spec, score("fpb_likelihood", None))  # the other one never ends
    left = owner.admit(benchmark_assignment(spec, benchmarks=["fiqa", "tfns_likelihood", "fpb_likelihood"]))
    assert isinstance(left.job, BenchmarkJob)
    assert [each.name for each in left.job.benchmarks] == ["fiqa", "tfns_likelihood"]
    given_up = owner.admit(benchmark_assignment(spec, benchmarks=["fpb_likelihood", "fiqa"])).answer
    assert isinstance(given_up, BenchmarkResult)
    assert [each.not_run for each in given_up.scores] == [
        "the sandbox failed",
        "it was begun 10 times at this agent and never ended, so it is not begun again",
    ]
    assert ran(owner, spec, score("fiqa"), round=2).scores == [score("fiqa")]  # of other adapters nothing is known


def test_an_adapter_of_a_number_has_one_digest_in_a_history(owner: Owner, spec: CampaignSpec) -> None:
    ran(owner, spec, score("fiqa"))
    words = "adapter.sha256: benchmarks of adapter 1 were begun with aaaaaaaaaaaa…, and not with bbbbbbbbbbbb…"
    other = benchmark_assignment(spec, benchmarks=["tfns_likelihood"], adapter=OTHER)
    assert owner.mismatch(other) == words
    assert ran(owner, spec, score("fiqa", 0.1), adapter=OTHER, history=1).scores == [score("fiqa", 0.1)]
    assert owner.mismatch(benchmark_assignment(spec, benchmarks=["fiqa"])) == "history: it is 0, and was 1 before"
    assert owner.record.benchmarks.latest("c1") == {1: [score("fiqa", 0.1)]}


def test_an_older_adapter_may_come_after_a_newer_one(owner: Owner, spec: CampaignSpec) -> None:
    """Another agent may have failed at it."""
    ran(owner, spec, score("fiqa"), round=2)
    assert ran(owner, spec, score("fiqa"), round=1).scores


def test_rollbacks_are_bounded(owner: Owner, spec: CampaignSpec) -> None:
    owner.change(policy=owner.settings.policy.model_copy(update={"max_rollbacks": 1}))
    for history in (0, 1):
        ran(owner, spec, score("fiqa"), history=history)
    task = benchmark_assignment(spec, benchmarks=["fiqa"], history=2)
    assert owner.by_policy(task) == "the campaign was rolled back or restored 2 times, and policy.max_rollbacks = 1"


def test_the_adapters_are_those_of_the_schedule_and_one_at_an_early_end(owner: Owner) -> None:
    spec = measured_spec(tasks_every=2)
    owner.prepare(spec)
    owner.record.benchmarks.keep_offer("c1", offer_of(*spec.evaluation.benchmarks))
    for number in (0, 1, 2, 3):
        ran(owner, spec, score("fiqa"), round=number)
    spec = measured_spec(tasks_every=3)
    owner.prepare(spec, campaign_id="c2")
    owner.record.benchmarks.keep_offer("c2", offer_of("fiqa"))
    for number in (0, 1, 3):
        ran(owner, spec, score("fiqa"), round=number, campaign_id="c2")
    assert owner.mismatch(benchmark_assignment(spec, benchmarks=["fiqa"], round=2, campaign_id="c2")) == (
        "round: no benchmarks are to be run on adapter 2 by the accepted campaign, and some were on adapter 1 at an "
        "early end"
    )


def test_benchmarks_use_no_rows_and_no_campaign_of_the_quota(owner: Owner, spec: CampaignSpec) -> None:
    owner.change(policy=owner.settings.policy.model_copy(update={"max_campaigns": 1, "report": "round"}))
    ran(owner, spec, score("fiqa"), score("fpb_likelihood"))
    assert owner.record.bookings.of_campaign("c1") == Totals()
    assert owner.record.benchmarks.count("c1") == 2
    owner.notes.unlink()  # the rows need not even be there
    ran(owner, spec, score("tfns_likelihood"))
    assert owner.refusal(evaluate_assignment(spec)).kind == "data"


def test_settings_that_are_narrowed_while_it_runs_hold_the_numbers_back(owner: Owner, spec: CampaignSpec) -> None:
    task = benchmark_assignment(spec, benchmarks=["fiqa"])
    owner.admit(task)
    owner.change(policy=owner.settings.policy.model_copy(update={"suites": []}))
    with pytest.raises(TaskFailed, match=r"policy\.suites"):
        owner.admission.record_scores(owner.settings, task, [score("fiqa")])
