"""Results of tasks, one for each kind of task."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.bounds import Count, Line
from shared.campaign.evaluation import MAX_BENCHMARKS
from shared.campaign.spec import CpuDtype
from shared.metrics import ReportLevel, Values
from shared.wire.base import Request, Sha256
from shared.wire.benchmarks import BenchmarkScore


class Fingerprint(BaseModel):
    """Digests of the parts of a base model. Agents train together only if all four are equal."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)

    weights: Sha256
    config: Sha256
    tokenizer: Sha256
    template: Sha256

    def differences(self, other: "Fingerprint") -> list[str]:
        """The names of the parts that differ between two fingerprints."""
        return [part for part in type(self).model_fields if getattr(self, part) != getattr(other, part)]


MAX_MACHINE = 300
"""The most characters that describe what an update was trained on."""
MAX_NOTICES, MAX_NOTICE = 20, 400
"""The most notices of a result, and the most characters of one."""
NoticeText = Annotated[Line, Field(max_length=MAX_NOTICE)]


class PrepareResult(Request):
    """Fingerprint of the base model, and counts of the rows. A row with two completions is a pair."""

    kind: Literal["prepare"] = "prepare"
    fingerprint: Fingerprint
    rank: Annotated[Count, Field(ge=1)]
    """Rank that the agent will train: the campaign's, or a smaller one if the algorithm mixes ranks."""
    cpu_dtype: CpuDtype | None = None
    """Precision of the base model in all of the agent's work on a CPU; null if it prepared on another device."""
    n_train: Count
    """Usable rows for training."""
    n_held_out: Count
    """Usable rows for evaluation."""
    dropped: Count = 0
    """Unusable rows: no part of the completion fits, or the two completions of a pair are equal."""
    report: ReportLevel = "round"
    """What the owner lets out of what is measured on its rows (``policy.report``)."""
    evaluates: bool = True
    """Whether the owner lets the agent evaluate adapters. It does not if nothing is reported, or if the held-out rows
    are too few (``policy.min_held_out``); the agent is then asked for no evaluation."""
    notices: Annotated[list[NoticeText], Field(max_length=MAX_NOTICES)] = []
    """What of the usable rows is not read or not learnt, and what of the base model is not adapted, each in a sentence
    that quotes no row."""


class InitResult(Request):
    """The initial adapter."""

    kind: Literal["init"] = "init"
    adapter: Sha256
    """Digest of the uploaded adapter 0."""


class TrainResult(Request):
    """The update of one client."""

    kind: Literal["train"] = "train"
    delta: Sha256
    """Digest of the uploaded delta."""
    extras: Sha256 | None = None
    """Digest of the uploaded extras; null if the algorithm has none."""
    client_state_lost: bool = False
    """The client state of the committed update was missing, so training began from the initial client state."""
    trained_on: Annotated[Line, Field(max_length=MAX_MACHINE)] | None = None
    """Kind of processor, number of threads, and versions of the libraries. With equal ones, CPUs give equal bits."""
    metrics: Values
    """Metrics of origin ``training`` by name. Those that the owner does not report are missing."""


class EvaluateResult(Request):
    """Held-out metrics of one adapter at one client."""

    kind: Literal["evaluate"] = "evaluate"
    metrics: Values
    """All metrics of origin ``evaluation`` by name, rounded unless the owner reports them in full."""


class BenchmarkResult(Request):
    """What the benchmarks of one task gave, one score for each that was asked for."""

    kind: Literal["benchmark"] = "benchmark"
    scores: Annotated[list[BenchmarkScore], Field(min_length=1, max_length=MAX_BENCHMARKS)]


Result = Annotated[
    PrepareResult | InitResult | TrainResult | EvaluateResult | BenchmarkResult, Field(discriminator="kind")
]
